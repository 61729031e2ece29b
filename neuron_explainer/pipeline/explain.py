"""The explain stage: every chosen unit of a store gets an explanation, a simulation and a score."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neuron_explainer.errors import CannotExplain, UsageError
from neuron_explainer.explainers.base import Explainer
from neuron_explainer.explainers.token_lookup import TokenLookupExplainer
from neuron_explainer.pipeline.bounded import map_bounded
from neuron_explainer.pipeline.events import (
    Listener,
    StageAdvanced,
    StageFinished,
    StageStarted,
    UnitExplained,
)
from neuron_explainer.pipeline.spec import RunSpec, fingerprint
from neuron_explainer.pipeline.summary import summarize_run
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import ScoredSimulation
from neuron_explainer.scoring.base import Scorer
from neuron_explainer.scoring.simulation import SimulationScorer
from neuron_explainer.simulators.base import Simulator
from neuron_explainer.simulators.token_lookup import TokenLookupSimulator
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.stores.results import Results

MAX_CONCURRENT = 16
EXPLAINERS: Mapping[str, Callable[[NeuronStore], Explainer]] = {
    "token_lookup": lambda store: TokenLookupExplainer(store.read_token_lookup)
}
SIMULATORS: Mapping[str, Callable[[], Simulator]] = {"token_lookup": TokenLookupSimulator}


@dataclass(frozen=True, slots=True)
class Method:
    """How a unit is explained and scored, and the choices behind it."""

    explainer: Explainer
    scorer: Scorer
    choices: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.choices)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One unit: an explanation and its scores, or the reason there is no explanation."""

    neuron_id: NeuronId
    explained: tuple[Explanation, ScoredSimulation] | None
    reason: str | None


def require_known_method(spec: RunSpec) -> None:
    """UsageError for an explainer or a simulator that is not known."""
    for name, known, flag in (
        (spec.explainer, EXPLAINERS, "--explainer"),
        (spec.simulator, SIMULATORS, "--simulator"),
    ):
        if name not in known:
            raise UsageError(f"{flag} {name!r} is not known; one of {', '.join(sorted(known))}")


def make_method(spec: RunSpec, store: NeuronStore) -> Method:
    """The explainer and scorer that a spec names; UsageError for a name that is not known."""
    require_known_method(spec)
    simulator = SIMULATORS[spec.simulator]()
    choices = {"collection": store.manifest.fingerprint, **spec.choices("explain")}
    return Method(
        explainer=EXPLAINERS[spec.explainer](store),
        scorer=SimulationScorer(simulator, spec.n_per_split, spec.n_resamples, spec.seed),
        choices=choices,
    )


def explain(
    method: Method,
    store: NeuronStore,
    results: Results,
    neuron_ids: Sequence[NeuronId],
    listen: Listener,
) -> None:
    """Explains the units that have no result of this method yet; each is written as it is done."""
    results.use_method(method.fingerprint, method.choices)
    finished = results.finished(method.fingerprint)
    waiting = [neuron_id for neuron_id in neuron_ids if neuron_id not in finished]
    n_before = len(neuron_ids) - len(waiting)
    listen(StageStarted("explain", len(neuron_ids), "neurons"))
    listen(StageAdvanced("explain", n_before))

    async def write_all() -> None:
        n_done = n_before
        async for outcome in explain_units(method, store, waiting):
            _write(results, method, outcome)
            n_done += 1
            listen(UnitExplained(results.unit(method.fingerprint, outcome.neuron_id)))
            listen(StageAdvanced("explain", n_done))

    asyncio.run(write_all())
    listen(StageFinished("explain", summarize_run(results.units(method.fingerprint)).sentence()))


async def explain_units(
    method: Method, store: NeuronStore, neuron_ids: Iterable[NeuronId]
) -> AsyncIterator[Outcome]:
    """Outcomes as they come, a bounded number of units at a time."""

    async def explain_unit(neuron_id: NeuronId) -> Outcome:
        record = store.read_neuron(neuron_id)
        try:
            explanation = await method.explainer.explain(record)
        except CannotExplain as error:
            return Outcome(neuron_id, None, error.reason)
        scored = await method.scorer.score(explanation, record)
        return Outcome(neuron_id, (explanation, scored), None)

    async for outcome in map_bounded(explain_unit, neuron_ids, MAX_CONCURRENT):
        yield outcome


def _write(results: Results, method: Method, outcome: Outcome) -> None:
    if outcome.explained is None:
        assert outcome.reason is not None
        results.add_unexplained(
            method.fingerprint, outcome.neuron_id, method.explainer.name, outcome.reason
        )
    else:
        results.add_explained(method.fingerprint, *outcome.explained)
