"""The protocol of a scorer: an explanation and what is known of its unit in, scores out."""

from __future__ import annotations

from typing import Protocol

from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronRecord
from neuron_explainer.records.score import ScoredSimulation


class Scorer(Protocol):
    """Says how well an explanation agrees with the unit."""

    @property
    def name(self) -> str:
        """Short and stable, such as `simulation`."""

    async def score(self, explanation: Explanation, record: NeuronRecord) -> ScoredSimulation:
        """Scores, or scores without a value and the reason; never a made-up number."""
