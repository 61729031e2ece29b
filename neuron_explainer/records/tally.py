"""What came of all units of a method, in a few numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from neuron_explainer.records.cost import UnitCost


class Tally(NamedTuple):
    """How many units are scored and how well, why others are not, and what all of them cost."""

    n_units: int
    n_scored: int
    mean: float | None
    """Of the headline scores; None where nothing is scored."""
    unscored: Mapping[str, int]
    """Reason, up to its first colon -> units; most frequent first."""
    cost: UnitCost | None
    """None where no language model was asked."""

    def sentence(self) -> str:
        """`97 neurons scored, mean score 0.231; 3 not scored (dead unit 3)`"""
        line = f"{self.n_scored:,} neurons scored"
        if self.mean is not None:
            line += f", mean score {self.mean:.3f}"
        if self.unscored:
            parts = ", ".join(f"{reason} {n:,}" for reason, n in self.unscored.items())
            line += f"; {sum(self.unscored.values()):,} not scored ({parts})"
        return line
