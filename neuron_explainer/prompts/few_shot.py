"""Worked examples that prompts show before the real neuron: data, in `few_shot_sets/*.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from neuron_explainer.records.scale import MAX_NORMALIZED_ACTIVATION

FOLDER = Path(__file__).parent / "few_shot_sets"
DEFAULT_SET = "default"


@dataclass(frozen=True, slots=True)
class FewShotRecord:
    """A window of a made-up neuron."""

    tokens: tuple[str, ...]
    activations: tuple[int, ...]
    """Normalized, 0 to 10; one a token."""
    n_unknown: int
    """A simulator is shown the values of the tokens from this one on."""

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.activations):
            raise ValueError(f"{len(self.activations)} activations for {len(self.tokens)} tokens")
        if not all(0 <= a <= MAX_NORMALIZED_ACTIVATION for a in self.activations):
            raise ValueError("an activation does not lie between 0 and 10")
        if not 0 <= self.n_unknown < len(self.tokens):
            raise ValueError(f"{self.n_unknown} of {len(self.tokens)} tokens are unknown")


@dataclass(frozen=True, slots=True)
class FewShotNeuron:
    """A made-up neuron, and what is to be said of it."""

    explanation: str
    """In the form wanted of the model: no capital, no full stop."""
    records: tuple[FewShotRecord, ...]


@cache
def read_few_shot_set(name: str = DEFAULT_SET) -> tuple[FewShotNeuron, ...]:
    """The neurons of a set, in the order they are shown."""
    raw = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return tuple(
        FewShotNeuron(
            neuron["explanation"],
            tuple(
                FewShotRecord(
                    tokens=tuple(token for token, _ in record["tokens"]),
                    activations=tuple(activation for _, activation in record["tokens"]),
                    n_unknown=record["n_unknown"],
                )
                for record in neuron["records"]
            ),
        )
        for neuron in raw["neurons"]
    )
