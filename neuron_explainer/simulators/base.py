"""The protocol of a simulator: words and tokens in, predicted activations out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.simulation import SequenceSimulation


class Simulator(Protocol):
    """Predicts what a unit does on a window, knowing only the explanation."""

    @property
    def name(self) -> str:
        """Short and stable, such as `token_lookup`; written beside every score."""

    async def simulate(self, explanation: Explanation, tokens: Sequence[str]) -> SequenceSimulation:
        """One prediction a token, None where there is none.

        CannotSimulate when the explanation is not of a kind this simulator can work with.
        """
