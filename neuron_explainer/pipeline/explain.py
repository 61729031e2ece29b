"""The explain stage: every chosen unit of a store gets an explanation, a simulation and a score."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from neuron_explainer.errors import AuthFailed, CannotExplain, LLMError
from neuron_explainer.explainers.base import Explainer
from neuron_explainer.llm.budget import charged_to
from neuron_explainer.pipeline.bounded import map_bounded
from neuron_explainer.pipeline.events import (
    Listener,
    MoneySpent,
    StageAdvanced,
    StageFinished,
    StageStarted,
    UnitExplained,
)
from neuron_explainer.pipeline.patience import Patience, failure_reason
from neuron_explainer.pipeline.spec import fingerprint
from neuron_explainer.records.cost import UnitCost
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId, NeuronRecord
from neuron_explainer.records.score import Candidate, ScoredSimulation
from neuron_explainer.scoring.base import Scorer
from neuron_explainer.scoring.selection import Selector, rank_explanations
from neuron_explainer.stores.record_source import RecordSource
from neuron_explainer.stores.results import Results

MAX_CONCURRENT = 16


class UnitScorer(Scorer, Selector, Protocol):
    """Scores, and helps to choose what is scored."""


class Ledger(Protocol):
    """What was asked of language models, kept from one start of a run to the next."""

    def cost_of(self, purpose: str) -> UnitCost:
        """Sums over what was charged to whatever begins so."""

    def total(self) -> UnitCost:
        """Sums over everything."""


async def _close_nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Method:
    """How a unit is explained and scored, and the choices behind it."""

    explainer: Explainer
    scorer: UnitScorer
    choices: Mapping[str, Any]
    ledger: Ledger | None = None
    """None: no language model is asked."""
    close: Callable[[], Awaitable[None]] = _close_nothing
    """Called once, when nothing more will be asked."""
    n_at_once: int = MAX_CONCURRENT
    """Units under way at once."""

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.choices)

    def purpose(self, neuron_id: NeuronId) -> str:
        """What the requests of one unit are charged to."""
        return f"{self.fingerprint}/{neuron_id}/"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One unit: an explanation and its scores, or the reason there is no explanation."""

    neuron_id: NeuronId
    explained: tuple[Explanation, ScoredSimulation] | None
    reason: str | None
    candidates: tuple[Candidate, ...] = ()
    """What the explanation was chosen from, where there were several."""
    error: LLMError | None = None
    """What kept the unit from an answer; it is tried again when the run goes on."""
    windows: bytes | None = None
    """The scored windows as they are kept, where they are packed already."""


Spread = Callable[[Sequence[NeuronId]], AsyncIterator[Outcome]]


def explain(
    method: Method,
    store: RecordSource,
    results: Results,
    neuron_ids: Sequence[NeuronId],
    listen: Listener,
    spread: Spread | None = None,
) -> None:
    """Explains the units that have no result of this method yet; each is written as it is done.

    spread: outcomes of the method from elsewhere; None: this process makes them.
    """
    results.use_method(method.fingerprint, method.choices)

    def pass_on(neuron_id: NeuronId) -> None:
        listen(UnitExplained(results.unit(method.fingerprint, neuron_id)))
        if method.ledger is not None:
            listen(MoneySpent(method.ledger.total()))

    stage = _Stage("explain", method, results, listen, pass_on)
    stage.run(neuron_ids, spread or partial(explain_units, method, store))
    listen(StageFinished("explain", results.tally(method.fingerprint).sentence()))


def explain_baseline(
    method: Method,
    store: RecordSource,
    results: Results,
    neuron_ids: Sequence[NeuronId],
    listen: Listener,
    spread: Spread | None = None,
) -> None:
    """The same for what others are read beside: it is the current method only where none is yet."""
    if not results.has_method():
        results.use_method(method.fingerprint, method.choices)
    stage = _Stage("baseline", method, results, listen, lambda _: None)
    stage.run(neuron_ids, spread or partial(explain_units, method, store))
    summary = results.tally(method.fingerprint).sentence()
    listen(StageFinished("baseline", f"token lookup table: {summary}"))


@dataclass(frozen=True, slots=True)
class _Stage:
    """Takes the units that wait to a result."""

    name: str
    method: Method
    results: Results
    listen: Listener
    pass_on: Callable[[NeuronId], None]
    """Hears of each unit that is written."""

    def run(self, neuron_ids: Sequence[NeuronId], outcomes: Spread) -> None:
        finished = self.results.finished(self.method.fingerprint)
        waiting = [neuron_id for neuron_id in neuron_ids if neuron_id not in finished]
        n_before = len(neuron_ids) - len(waiting)
        self.listen(StageStarted(self.name, len(neuron_ids), "neurons"))
        self.listen(StageAdvanced(self.name, n_before))
        asyncio.run(self._write_all(outcomes(waiting), n_before))

    async def _write_all(self, outcomes: AsyncIterator[Outcome], n_before: int) -> None:
        n_done = n_before
        patience = Patience(has_seen_answers=n_before > 0)
        try:
            async for outcome in outcomes:
                _write(self.results, self.method, outcome)
                patience.note(outcome.error)
                n_done += 1
                self.pass_on(outcome.neuron_id)
                self.listen(StageAdvanced(self.name, n_done))
        finally:
            await self.method.close()


async def explain_units(
    method: Method, store: RecordSource, neuron_ids: Iterable[NeuronId]
) -> AsyncIterator[Outcome]:
    """Outcomes as they come, a bounded number of units at a time.

    AuthFailed and BudgetExceeded end it: no other unit would fare better.
    """

    async def explain_unit(neuron_id: NeuronId) -> Outcome:
        charged_to.set(method.purpose(neuron_id))  # each unit is a task, with its own context
        try:
            record = store.read_neuron(neuron_id)
            explanation, candidates = await _choose(method, record)
            scored = await method.scorer.score(explanation, record)
        except CannotExplain as error:
            return Outcome(neuron_id, None, error.reason)
        except AuthFailed:
            raise
        except LLMError as error:
            return Outcome(neuron_id, None, failure_reason(error), error=error)
        return Outcome(neuron_id, (explanation, scored), None, candidates)

    async for outcome in map_bounded(explain_unit, neuron_ids, method.n_at_once):
        yield outcome


async def _choose(
    method: Method, record: NeuronRecord
) -> tuple[Explanation, tuple[Candidate, ...]]:
    """The explanation to score, and what it was chosen from if there was a choice."""
    explanations = await method.explainer.explain(record)
    if len(explanations) == 1:
        return explanations[0], ()
    candidates = await rank_explanations(explanations, method.scorer, record)
    return candidates[0].explanation, candidates


def _write(results: Results, method: Method, outcome: Outcome) -> None:
    ledger = method.ledger
    cost = None if ledger is None else ledger.cost_of(method.purpose(outcome.neuron_id))
    if outcome.explained is None:
        assert outcome.reason is not None
        results.add_unexplained(
            method.fingerprint,
            outcome.neuron_id,
            method.explainer.name,
            outcome.reason,
            is_final=outcome.error is None,
            cost=cost,
        )
    else:
        explanation, scored = outcome.explained
        results.add_explained(
            method.fingerprint,
            explanation,
            scored,
            candidates=outcome.candidates,
            cost=cost,
            packed_windows=outcome.windows,
        )
