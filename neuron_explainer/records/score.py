"""How well a simulation agrees with reality: a number, or the reason there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.simulation import SequenceSimulation

TOP_AND_RANDOM = "top_and_random"
"""Name of the headline score: correlation over top and random windows together."""
TOP_ONLY = "top_only"
RANDOM_ONLY = "random_only"
FULL_DISTRIBUTION = "full_distribution"
"""The same windows, each weighted by how many windows of the record text it stands for."""
BY_CHANCE = "by_chance"
"""The headline with each simulation turned round by a random number of tokens: mean and 95 % range
of many such turns."""
EXPLAINED_VARIANCE = "explained_variance"
"""After linear calibration, over top and random windows."""
ABSOLUTE_DEV_EXPLAINED = "absolute_dev_explained_score"
"""After linear calibration, over top and random windows."""
GOOD_SCORE = 0.5
"""Summaries count the units above it."""


@dataclass(frozen=True, slots=True)
class Score:
    """One metric over one set of windows; `value` is None exactly when `reason` is given."""

    metric: str
    value: float | None
    n_tokens: int | None
    """Over how many; None: it is not said, as of a score in a list."""
    low: float | None = None
    """Lower end of the interval; None where none was computed."""
    high: float | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) != (self.reason is not None):
            raise ValueError(f"{self.metric}: a score has a value or a reason, and not both")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"{self.metric}: {self.value} is not a score")


def reason_kind(reason: str) -> str:
    """What a reason is counted under: its part before the first colon."""
    return reason.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of several explanations of a unit, and how well it does where the choice is made."""

    explanation: Explanation
    score: Score
    """On the calibration split."""


@dataclass(frozen=True, slots=True)
class ScoredWindow:
    """One scored window: what was predicted, what is true, and their agreement on it alone."""

    subset: str
    """`top` or `random`."""
    simulation: SequenceSimulation
    true_activations: tuple[float | None, ...]
    """Raw; None: the position does not count."""
    score: Score


@dataclass(frozen=True, slots=True)
class ScoredSimulation:
    """All that one scorer says of one explanation."""

    scorer: str
    simulator: str
    scores: Mapping[str, Score]
    """By name; `headline` names the one to report."""
    windows: tuple[ScoredWindow, ...]
    headline: str

    @property
    def score(self) -> Score:
        return self.scores[self.headline]
