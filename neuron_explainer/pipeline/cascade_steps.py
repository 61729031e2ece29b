"""The parts of a cascade: its plan and stages, a unit's moves, how it stands, what each changed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from neuron_explainer.errors import LLMError, UsageError
from neuron_explainer.explainers.base import Explainer
from neuron_explainer.pipeline.explain import UnitScorer
from neuron_explainer.records.cost import UnitCost
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import Candidate, Score, ScoredSimulation

FEWEST_PILOTS, MOST_PILOTS, PILOT_SHARE = 10, 40, 0.2


@dataclass(frozen=True, slots=True)
class CascadePlan:
    """How far units go on."""

    n_pilots: int | None = None
    """None: a fifth of the units, 10 at least and 40 at most."""
    min_gain: float = 0.01
    """Units that are expected to gain less do not go on."""
    seed: int = 0
    """Of the pilots, and of the order of units that are expected to gain the same."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.min_gain):
            raise UsageError(f"--min-gain must be a difference of scores, not {self.min_gain}")

    def count_pilots(self, n_units: int) -> int:
        wanted = self.n_pilots
        if wanted is None:
            wanted = min(MOST_PILOTS, max(FEWEST_PILOTS, round(n_units * PILOT_SHARE)))
        return min(wanted, n_units)


class Move(NamedTuple):
    """A unit on its way to a stage; the smallest is made first."""

    rank: float
    """Minus the expected gain a picodollar; what costs nothing has minus infinity."""
    lost: float
    """Minus the expected gain."""
    place: int
    """Of the unit, in the order they came."""
    neuron_id: NeuronId
    stage: int


@dataclass(frozen=True, slots=True)
class Stage:
    """A way to explain, put together, and its place in a cascade."""

    name: str
    """As the user wrote it."""
    explainer: Explainer
    scorer: UnitScorer
    """All stages that ask language models have the same simulator."""
    fingerprint: str
    """Of the choices of this stage and of all before it."""
    most_picousd: int | None = 0
    """What a unit costs at most; None: the price is not known."""

    def purpose(self, neuron_id: NeuronId) -> str:
        """What the requests of one unit are charged to."""
        return f"{self.fingerprint}/{neuron_id}/"


@dataclass(frozen=True, slots=True)
class Step:
    """One unit at one stage, as it has just been done."""

    neuron_id: NeuronId
    stage: int
    """From 0, the first."""
    candidates: tuple[Candidate, ...] = ()
    """Best on the calibration split first; none: there is no explanation, and `reason` says why."""
    scored: ScoredSimulation | None = None
    """On the valid split; None: the explanation did not win, so it was not simulated there."""
    reason: str | None = None
    error: LLMError | None = None
    """What kept the unit from an answer: it is as though the stage had not been tried."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a unit stands after the stages that it has been through."""

    level: int = -1
    """The last stage that it went through; -1: none."""
    stage: int | None = None
    """Whose explanation stands; None: none has one."""
    calibration: float | None = None
    """Score of that explanation where the choice is made; None: it has none."""
    score: Score | None = None
    """Its score on the valid split; None: there is no explanation."""

    @property
    def value(self) -> float | None:
        """The score that is reported."""
        return None if self.score is None else self.score.value

    def is_beaten_by(self, calibration: Score | None) -> bool:
        """Whether an explanation with this calibration score takes the place; None: there is no
        explanation. A tie stays with the earlier stage, which costs less."""
        if calibration is None:
            return False
        if self.stage is None or calibration.value is None or self.calibration is None:
            return self.stage is None or calibration.value is not None
        return calibration.value > self.calibration

    def after(self, stage: int, calibration: Score | None, score: Score | None) -> Standing:
        """calibration, score: of the stage's explanation; the second is read if it wins."""
        if calibration is None or not self.is_beaten_by(calibration):
            return replace(self, level=stage)
        return Standing(stage, stage, calibration.value, score)


@dataclass(frozen=True, slots=True)
class Passage:
    """A unit before and after a stage."""

    stage: int
    before: Standing
    after: Standing
    cost: UnitCost
    reason: str | None = None
    """Why the stage has no explanation; None: it has one."""

    @property
    def has_won(self) -> bool:
        return self.after.stage == self.stage

    @property
    def gain(self) -> float | None:
        """In the reported score; 0 where the stage did not win. None: one of the two is missing."""
        before, after = self.before.value, self.after.value
        return None if before is None or after is None else after - before
