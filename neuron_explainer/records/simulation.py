"""Predicted activations of one window."""

from __future__ import annotations

from dataclasses import dataclass

from neuron_explainer.records.scale import ActivationScale


@dataclass(frozen=True, slots=True)
class SequenceSimulation:
    """What a simulator expects the unit to do on each token of one window."""

    tokens: tuple[str, ...]
    expected_activations: tuple[float | None, ...]
    """In units of `scale`; None where the simulator could not predict the token."""
    scale: ActivationScale

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.expected_activations):
            raise ValueError(
                f"{len(self.expected_activations)} predictions for {len(self.tokens)} tokens"
            )

    @property
    def n_missing(self) -> int:
        """How many tokens could not be predicted."""
        return sum(value is None for value in self.expected_activations)
