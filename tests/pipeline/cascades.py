"""A made-up world for cascades: what each stage would score on each unit is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neuron_explainer.errors import BudgetExceeded, CannotExplain
from neuron_explainer.llm.budget import charged_to
from neuron_explainer.pipeline.cascade import Cascade
from neuron_explainer.pipeline.cascade_report import CascadeReport, report_cascade
from neuron_explainer.pipeline.cascade_rows import CascadeRows
from neuron_explainer.pipeline.cascade_steps import CascadePlan, Stage
from neuron_explainer.pipeline.estimate import typical_record
from neuron_explainer.pipeline.events import Listener, ignore
from neuron_explainer.records.cost import PICOUSD, UnitCost
from neuron_explainer.records.explanation import Explanation, TokenLookupTable
from neuron_explainer.records.neuron import NeuronId, NeuronRecord
from neuron_explainer.records.score import TOP_AND_RANDOM, Score, ScoredSimulation
from neuron_explainer.stores.record_source import Manifest
from neuron_explainer.stores.results import BASELINE, Results

CHOICES = {"name": "cascade", BASELINE: "f0"}
METRIC = "ev_correlation_score"
FloatArray = npt.NDArray[np.float64]


@dataclass
class World:
    """(stage, unit) scores on both splits, NaN for none; the cost of a unit at each stage."""

    calibration: FloatArray
    valid: FloatArray
    costs_usd: Sequence[float]
    errors: dict[tuple[int, NeuronId], Exception] = field(default_factory=dict)
    """By stage and unit: raised in place of an explanation."""

    @property
    def ids(self) -> list[NeuronId]:
        return [NeuronId(i % 2, i) for i in range(self.valid.shape[1])]

    def score(self, scores: FloatArray, at: int, neuron_id: NeuronId) -> Score:
        value = float(scores[at, neuron_id.neuron_index])
        if np.isnan(value):
            return Score(METRIC, None, 0, reason="constant prediction")
        return Score(METRIC, value, 640)


class FakeLedger:
    """Charges every purpose once, as answers are kept; nothing is charged beyond the limit."""

    def __init__(self, limit_usd: float | None = None) -> None:
        self.limit_picousd = None if limit_usd is None else round(limit_usd * PICOUSD)
        self.by_purpose: dict[str, int] = {}

    def charge(self, purpose: str, usd: float) -> None:
        if purpose in self.by_purpose:
            return
        cost = round(usd * PICOUSD)
        if self.limit_picousd is not None and self.spent() + cost > self.limit_picousd:
            raise BudgetExceeded(self.spent() / PICOUSD, self.limit_picousd / PICOUSD)
        self.by_purpose[purpose] = cost

    def spent(self) -> int:
        return sum(self.by_purpose.values())

    def left(self) -> int | None:
        return None if self.limit_picousd is None else self.limit_picousd - self.spent()

    def cost_of(self, purpose: str) -> UnitCost:
        costs = [cost for name, cost in self.by_purpose.items() if name.startswith(purpose)]
        return UnitCost(len(costs), cost_picousd=sum(costs))

    def total(self) -> UnitCost:
        return self.cost_of("")


class FakeStore:
    """The same windows for every unit."""

    manifest: Manifest

    def __init__(self, ids: Sequence[NeuronId]) -> None:
        self._ids = ids
        self._record = typical_record(8, 1)

    def neuron_ids(self) -> Iterator[NeuronId]:
        yield from self._ids

    def read_neuron(self, neuron_id: NeuronId) -> NeuronRecord:
        return replace(self._record, neuron_id=neuron_id)

    def read_token_lookup(self, neuron_id: NeuronId) -> TokenLookupTable:
        raise CannotExplain(f"no table of {neuron_id}")


class FakeStage:
    """Explainer and scorer of one stage of a world."""

    def __init__(self, world: World, at: int, ledger: FakeLedger) -> None:
        self.name = f"stage{at}"
        self.explained: list[NeuronId] = []
        self.scored: list[NeuronId] = []
        self._world = world
        self._at = at
        self._ledger = ledger

    async def explain(self, record: NeuronRecord) -> tuple[Explanation, ...]:
        error = self._world.errors.get((self._at, record.neuron_id))
        if error is not None:
            raise error
        if self._at:
            self._ledger.charge(charged_to.get(), self._world.costs_usd[self._at])
        self.explained.append(record.neuron_id)
        text = f"{self.name} says {record.neuron_id}"
        return (Explanation(record.neuron_id, text, self.name, "fake-1"),)

    async def selection_score(self, explanation: Explanation, record: NeuronRecord) -> Score:
        assert explanation.neuron_id == record.neuron_id
        return self._world.score(self._world.calibration, self._at, record.neuron_id)

    async def score(self, explanation: Explanation, record: NeuronRecord) -> ScoredSimulation:
        assert explanation.neuron_id == record.neuron_id
        self.scored.append(record.neuron_id)
        score = self._world.score(self._world.valid, self._at, record.neuron_id)
        return ScoredSimulation("simulation", "fake", {TOP_AND_RANDOM: score}, (), TOP_AND_RANDOM)


@dataclass
class Ran:
    """A cascade that went as far as it could."""

    cascade: Cascade
    report: CascadeReport
    stages: list[FakeStage]
    method: str


async def run_world(
    world: World,
    results: Results,
    ledger: FakeLedger,
    plan: CascadePlan,
    listen: Listener = ignore,
    choices: Mapping[str, object] = CHOICES,
) -> Ran:
    fakes = [FakeStage(world, at, ledger) for at in range(len(world.costs_usd))]
    stages = [
        Stage(fake.name, fake, fake, f"f{at}", round(world.costs_usd[at] * 3 * PICOUSD))
        for at, fake in enumerate(fakes)
    ]
    rows = CascadeRows(results, stages, choices, ledger)
    cascade = Cascade(stages, FakeStore(world.ids), rows, ledger, listen, plan, ledger.left)
    ended = await cascade.go(world.ids)
    return Ran(cascade, report_cascade(cascade, rows.fingerprint, ended), fakes, rows.fingerprint)


def noisy_world(n: int, seed: int = 0, n_stages: int = 3) -> World:
    """Later stages are better and dearer; every score has noise."""
    rng = np.random.default_rng(seed)
    true = rng.beta(2, 2, n) + 0.12 * rng.random((n_stages, n)) * np.arange(n_stages)[:, None]
    noise = rng.normal(0, 0.1, (2, n_stages, n))
    calibration, valid = np.clip(true + noise, -1, 1)
    costs = [0.0, *(0.01 * 10.0**at for at in range(n_stages - 1))]
    return World(calibration, valid, costs)


def open_results(folder: Path) -> Results:
    return Results(folder / "results.sqlite")
