"""What a run says of one unit: an explanation with its scores, or the reason there is none."""

from __future__ import annotations

from dataclasses import dataclass

from neuron_explainer.records.cost import UnitCost
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import Score


@dataclass(frozen=True, slots=True)
class UnitResult:
    """What one run says of one unit."""

    neuron_id: NeuronId
    explainer: str
    text: str | None
    """The explanation; None: there is none, and `reason` says why."""
    reason: str | None
    scores: dict[str, Score]
    """By name; empty when there is no explanation."""
    headline: str | None
    """Name of the score to report."""
    simulator: str | None
    """What predicted the activations."""
    model: str | None = None
    """Language model that wrote the explanation; None: none did."""
    prompt_version: str | None = None
    cost: UnitCost | None = None
    """None: no language model was asked."""
    scorer: str | None = None
    """What compared the simulated with the real activations; None: nothing did."""

    @property
    def score(self) -> Score | None:
        return None if self.headline is None else self.scores[self.headline]

    @property
    def explanation(self) -> Explanation | None:
        """As the explainer gave it, without a rule behind it; None: there is none."""
        if self.text is None:
            return None
        return Explanation(
            self.neuron_id, self.text, self.explainer, self.model, self.prompt_version
        )

    @property
    def made_by(self) -> str:
        """`token_lookup`, or `summary by hf:model`."""
        return self.explainer if self.model is None else f"{self.explainer} by {self.model}"

    @property
    def unscored_reason(self) -> str | None:
        """Why the unit has no headline score; None when it has one."""
        if self.score is None:
            return self.reason
        return self.score.reason
