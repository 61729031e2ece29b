"""Token lookup: each token's mean activation predicts it, whatever stands around it.

The token lookup baseline of Bills et al. 2023; it asks no language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neuron_explainer.errors import CannotSimulate
from neuron_explainer.records.explanation import Explanation, TokenLookupTable
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.simulation import SequenceSimulation


@dataclass(frozen=True, slots=True)
class TokenLookupSimulator:
    """Reads the table behind an explanation; the words of the explanation play no part."""

    name = "token_lookup"

    async def simulate(self, explanation: Explanation, tokens: Sequence[str]) -> SequenceSimulation:
        """Raw expected activations; no token is ever missing.

        CannotSimulate when no token lookup table is behind the explanation.
        """
        rule = explanation.rule
        if not isinstance(rule, TokenLookupTable):
            raise CannotSimulate(
                f"no token lookup table behind the {explanation.explainer} explanation"
            )
        return SequenceSimulation(
            tokens=tuple(tokens),
            expected_activations=rule.expected_activations(tokens),
            scale=ActivationScale.NEURON,
        )
