"""A cascade: units go on from stage to stage only where it is expected to gain most for its cost.

1. All units go through the first stage, the token lookup table, which asks nobody.
2. Pilots, drawn at random over the scores so far, go through every other stage
   (`cascade_gain.py`): they tell what a stage gains, and what it costs.
   Pilots are also drawn from the units that the table gives no score, but for the dead: their gain
   is no difference of scores, so they are judged by the score they get, against nothing, which is
   where 0 stands in the order of moves. It is reported apart, and never as a gain.
3. A unit's next move is the later stage with the highest expected gain a dollar, if that gain is at
   least `min_gain`; it may pass over a stage. The best moves are made first, in waves, until none
   is left or the budget is spent.

At each stage the unit's new explanation is scored on the calibration split; only if it beats the
best so far there does it take its place, and only then is it scored on the valid split. That spares
half of what is asked where it does not win, and nothing is chosen on the windows that are reported.

What is unbiased: a unit's score, as its own valid windows decide nothing about it; the mean gain
of a stage over the pilots, who are drawn at random and all go through it. What is not: the mean
gain over all units of a stage, which is over those that were expected to gain; and the highest
expected gain among several stages, which is too high by the luck of its pilots. The random windows
are the same texts for all units, so errors of their scores are not independent.
"""

from __future__ import annotations

import heapq
import math
import random
import statistics
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from itertools import chain, zip_longest

from neuron_explainer.errors import AuthFailed, BudgetExceeded, CannotExplain, LLMError
from neuron_explainer.llm.budget import charged_to
from neuron_explainer.pipeline.bounded import map_bounded
from neuron_explainer.pipeline.cascade_gain import GainCurve, Part, draw_pilots
from neuron_explainer.pipeline.cascade_rows import CascadeRows
from neuron_explainer.pipeline.cascade_steps import (
    CascadePlan,
    Move,
    Passage,
    Stage,
    Standing,
    Step,
)
from neuron_explainer.pipeline.events import (
    Listener,
    MoneySpent,
    StageAdvanced,
    StageFinished,
    StageStarted,
    UnitExplained,
)
from neuron_explainer.pipeline.explain import MAX_CONCURRENT, Ledger
from neuron_explainer.pipeline.patience import Patience, failure_reason
from neuron_explainer.records.cost import UnitCost
from neuron_explainer.records.neuron import DEAD_UNIT, NeuronId
from neuron_explainer.scoring.selection import rank_explanations
from neuron_explainer.stores.record_source import RecordSource

WAVE = 4 * MAX_CONCURRENT
"""Moves that are made before the next are chosen: which they are depends on no answer's speed."""
GOING_ON = "going on"
ALL_DONE = "no neuron is expected to gain enough by going on"
SPENT = "the budget is spent"


class Cascade:
    """Units on their way; what they have been through is kept in the results as they go."""

    def __init__(
        self,
        stages: Sequence[Stage],
        store: RecordSource,
        rows: CascadeRows,
        ledger: Ledger,
        listen: Listener,
        plan: CascadePlan,
        left_picousd: Callable[[], int | None],
    ) -> None:
        """left_picousd: what the budget has left; None: there is no budget."""
        self.stages = stages
        self.plan = plan
        self.passages: dict[NeuronId, list[Passage]] = {}
        self.failed: dict[NeuronId, Step] = {}
        """Units that a stage gave no answer for; they do not go on until the next start."""
        self.parts: tuple[Part, ...] = ()
        """Of the units that the first stage gives a score, with their pilots."""
        self.silent: tuple[NeuronId, ...] = ()
        """Pilots of those that it gives none."""
        self._store = store
        self._rows = rows
        self._ledger = ledger
        self._listen = listen
        self._left_picousd = left_picousd
        self._curves: tuple[GainCurve | None, ...] = ()
        self._firsts: tuple[float | None, ...] = ()
        """Of the silent pilots, the mean score that a stage gave them; 0 where it did not win."""
        self._costs: tuple[float | None, ...] = ()
        self._places: dict[NeuronId, int] = {}
        self._under_way: dict[NeuronId, int] = {}
        """Unit -> the stage that it is at."""
        self._patience = Patience(has_seen_answers=False)

    async def go(self, neuron_ids: Sequence[NeuronId]) -> str:
        """Until nothing is left to do or the budget is spent; says which it was."""
        self._places = {neuron_id: place for place, neuron_id in enumerate(neuron_ids)}
        self.passages = self._rows.read(neuron_ids)
        await self._pass(0, neuron_ids, self.stages[0].name)
        self._draw()
        try:
            for at in range(1, len(self.stages)):
                await self._pass(at, list(self._pilots()), f"pilot {self.stages[at].name}")
            self._learn()
            return await self._go_on()
        except BudgetExceeded:
            self._learn()
            return SPENT

    def _draw(self) -> None:
        firsts = {i: of_unit[0] for i, of_unit in self.passages.items() if of_unit}
        known = {i: first.after.calibration for i, first in firsts.items()}
        scores = {i: score for i, score in known.items() if score is not None}
        silent = sorted(i for i in firsts if i not in scores and firsts[i].reason != DEAD_UNIT)
        n_units = len(scores) + len(silent)
        n_pilots = self.plan.count_pilots(n_units)
        n_silent = math.ceil(n_pilots * len(silent) / max(1, n_units))
        self.parts = draw_pilots(scores, n_pilots - n_silent, self.plan.seed)
        self.silent = tuple(random.Random(self.plan.seed).sample(silent, n_silent))

    def standing(self, neuron_id: NeuronId) -> Standing:
        of_unit = self.passages[neuron_id]
        return of_unit[-1].after if of_unit else Standing()

    def expected_gain(self, at: int, neuron_id: NeuronId) -> float | None:
        """Of a unit without a score so far, the score. None: the pilots tell nothing of it."""
        if not self._curves or self.passages[neuron_id][0].reason == DEAD_UNIT:
            return None
        score = self.standing(neuron_id).calibration
        if score is None:
            return self._firsts[at]
        curve = self._curves[at]
        return None if curve is None else curve.at(score)

    def cost_of_unfinished(self, at: int) -> UnitCost:
        """Of the units that the stage gave no answer for, or that the budget's end cut off."""
        stage = self.stages[at]
        failed = {step.neuron_id: step.stage for step in self.failed.values()}
        unfinished = [i for i, of_unit in (self._under_way | failed).items() if of_unit == at]
        return sum((self._ledger.cost_of(stage.purpose(i)) for i in unfinished), start=UnitCost())

    def pilot_passages(self, at: int) -> dict[NeuronId, Passage]:
        """Of the pilots that went through a stage."""
        return {
            neuron_id: passage
            for neuron_id in self._pilots()
            for passage in self.passages[neuron_id]
            if passage.stage == at
        }

    def _pilots(self) -> Iterator[NeuronId]:
        """One of each part in turn: the first so many are a sample of all, too."""
        drawn = (*(part.pilots for part in self.parts), self.silent)
        in_turn = chain.from_iterable(zip_longest(*drawn))
        return (neuron_id for neuron_id in in_turn if neuron_id is not None)

    async def _pass(self, at: int, neuron_ids: Collection[NeuronId], name: str) -> None:
        """All of these units through one stage, but those that are through it or past it."""
        waiting = [Move(0, 0, 0, i, at) for i in neuron_ids if self._may_move(i, at)]
        n_done = len(neuron_ids) - len(waiting)
        self._listen(StageStarted(name, len(neuron_ids), "neurons"))
        self._listen(StageAdvanced(name, n_done))
        async for _ in self._make(waiting):
            n_done += 1
            self._listen(StageAdvanced(name, n_done))
        self._listen(StageFinished(name, f"{len(neuron_ids):,} neurons"))

    def _may_move(self, neuron_id: NeuronId, at: int) -> bool:
        return neuron_id not in self.failed and self.standing(neuron_id).level < at

    async def _go_on(self) -> str:
        """The best moves first, until none is left that is worth it and fits the budget."""
        moves = [move for i in self.passages if (move := self._best_move(i, None)) is not None]
        heapq.heapify(moves)
        n_units, n_made, n_settled = len(moves), 0, 0
        self._listen(StageStarted(GOING_ON, n_units, "neurons"))
        is_short = False
        while moves:
            wave, n_dropped = self._take(moves)
            is_short |= n_dropped > 0
            n_open = len(moves) + len(wave)
            async for _ in self._make(wave):
                n_made, n_open = n_made + 1, n_open - 1
                n_settled = max(n_settled, n_units - n_open)
                self._listen(StageAdvanced(GOING_ON, n_settled))
            for move in wave:
                following = self._best_move(move.neuron_id, None)
                if following is not None:
                    heapq.heappush(moves, following)
        self._listen(StageFinished(GOING_ON, f"{n_made:,} moves of {n_units:,} neurons"))
        return SPENT if is_short else ALL_DONE

    def _take(self, moves: list[Move]) -> tuple[list[Move], int]:
        """The next wave, off the heap, as far as the budget is expected to last; and how many units
        were dropped, as no move of theirs does."""
        left, n_dropped = self._left_picousd(), 0
        wave: list[Move] = []
        while moves and len(wave) < WAVE:
            move = heapq.heappop(moves)
            cost = self._costs[move.stage]
            if left is None or cost is None or cost <= left:
                wave.append(move)
                left = None if left is None else left - round(cost or 0)
            elif (cheaper := self._best_move(move.neuron_id, left)) is not None:
                heapq.heappush(moves, cheaper)
            else:
                n_dropped += 1
        return wave, n_dropped

    def _best_move(self, neuron_id: NeuronId, left: int | None) -> Move | None:
        """None: no stage is worth it. left: what it may cost at most; None: anything."""
        found: list[Move] = []
        for at in range(max(1, self.standing(neuron_id).level + 1), len(self.stages)):
            gain, cost = self.expected_gain(at, neuron_id), self._costs[at]
            if gain is None or gain < self.plan.min_gain or neuron_id in self.failed:
                continue
            if left is not None and cost is not None and cost > left:
                continue
            rank = -gain if None in self._costs else -gain / cost if cost else float("-inf")
            found.append(Move(rank, -gain, self._places[neuron_id], neuron_id, at))
        return min(found, default=None)

    def _learn(self) -> None:
        """Expected gains and costs of the stages, from what the pilots went through."""
        curves: list[GainCurve | None] = []
        firsts: list[float | None] = []
        costs: list[float | None] = []
        for at, stage in enumerate(self.stages):
            passages = self.pilot_passages(at)
            known = [
                (p.before.calibration, p.gain)
                for p in passages.values()
                if p.before.calibration is not None and p.gain is not None
            ]
            curves.append(GainCurve.fit([x for x, _ in known], [y for _, y in known]))
            silent = [_worth(passages[i]) for i in self.silent if i in passages]
            firsts.append(statistics.fmean(silent) if silent else None)
            costs.append(_usual_cost(stage, passages.values()))
        self._curves, self._firsts, self._costs = tuple(curves), tuple(firsts), tuple(costs)

    async def _make(self, moves: Sequence[Move]) -> AsyncIterator[Move]:
        """The moves, each once it is written. BudgetExceeded and AuthFailed end it."""
        by_unit = {move.neuron_id: move for move in moves}
        async for step in map_bounded(self._step, moves, MAX_CONCURRENT):
            del self._under_way[step.neuron_id]
            if self._rows.write(step, self.passages[step.neuron_id]):
                self._listen(UnitExplained(self._rows.unit(step.neuron_id)))
            else:
                self.failed[step.neuron_id] = step
            self._listen(MoneySpent(self._ledger.total()))
            if step.stage > 0:
                self._patience.note(step.error)
            yield by_unit[step.neuron_id]

    async def _step(self, move: Move) -> Step:
        stage, neuron_id = self.stages[move.stage], move.neuron_id
        self._under_way[neuron_id] = move.stage
        charged_to.set(stage.purpose(neuron_id))  # each move is a task, with its own context
        try:
            record = self._store.read_neuron(neuron_id)
            explanations = await stage.explainer.explain(record)
            candidates = await rank_explanations(explanations, stage.scorer, record)
            best = candidates[0]
            scored = None
            if self.standing(neuron_id).is_beaten_by(best.score):
                scored = await stage.scorer.score(best.explanation, record)
        except CannotExplain as error:
            return Step(neuron_id, move.stage, reason=error.reason)
        except AuthFailed:
            raise
        except LLMError as error:
            return Step(neuron_id, move.stage, reason=failure_reason(error), error=error)
        return Step(neuron_id, move.stage, candidates, scored)


def _worth(passage: Passage) -> float:
    """Of a stage to a unit that the first stage gave no score; for the order of moves alone."""
    value = passage.after.value if passage.has_won else None
    return 0.0 if value is None else value


def _usual_cost(stage: Stage, passages: Collection[Passage]) -> float | None:
    """Picodollars a unit, as the pilots were charged; those whose answers were all there already
    say nothing. Where nobody was charged, the most that it can be. None: no price is known."""
    charged = [p.cost.cost_picousd for p in passages if p.cost.n_requests]
    known = [cost for cost in charged if cost is not None]
    if len(known) < len(charged):
        return None
    return sum(known) / len(known) if known else stage.most_picousd
