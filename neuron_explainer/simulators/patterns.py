"""Patterns: the longest context that is known predicts a token, then shorter ones, then its table.

No subject is needed, and no language model is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neuron_explainer.errors import CannotSimulate
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.patterns import PatternTrie
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.simulation import SequenceSimulation


@dataclass(frozen=True, slots=True)
class PatternSimulator:
    """Reads the trie behind an explanation; the words of the explanation play no part."""

    name = "patterns"

    async def simulate(self, explanation: Explanation, tokens: Sequence[str]) -> SequenceSimulation:
        """Raw expected activations; no token is ever missing.

        CannotSimulate when no pattern trie is behind the explanation.
        """
        rule = explanation.rule
        if not isinstance(rule, PatternTrie):
            raise CannotSimulate(f"no patterns behind the {explanation.explainer} explanation")
        return SequenceSimulation(
            tokens=tuple(tokens),
            expected_activations=rule.expected_activations(tokens),
            scale=ActivationScale.NEURON,
        )
