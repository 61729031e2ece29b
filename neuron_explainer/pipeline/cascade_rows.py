"""A cascade in the results of a run: a method for each stage, and one for what stands in the end.

A stage's rows say what its explanation scored on the calibration split (its candidates), and on the
valid split if it won. From them alone the standing of every unit is read again, so a cascade that
was stopped goes on; and they serve any longer cascade that begins with the same stages.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from neuron_explainer.pipeline.cascade_steps import Passage, Stage, Standing, Step
from neuron_explainer.pipeline.explain import Ledger
from neuron_explainer.pipeline.spec import fingerprint
from neuron_explainer.records.cost import UnitCost
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import Candidate, Score, ScoredSimulation
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.results import Results

NAME = "cascade"
NOT_CHOSEN = "not better than before on the calibration split"
NOT_SIMULATED = "not simulated"


class CascadeRows:
    """Reads and writes; one writer, as the results have."""

    def __init__(
        self, results: Results, stages: Sequence[Stage], choices: Mapping[str, Any], ledger: Ledger
    ) -> None:
        """choices: of the whole cascade; it becomes the method that readers show."""
        self._results = results
        self._stages = stages
        self._ledger = ledger
        self.fingerprint = fingerprint(choices)
        results.use_method(self.fingerprint, choices)

    def read(self, neuron_ids: Collection[NeuronId]) -> dict[NeuronId, list[Passage]]:
        """What the units have been through. Rows of the cascade that a stop left behind the rows of
        its stages are written anew."""
        wanted = set(neuron_ids)
        passages: dict[NeuronId, list[Passage]] = {neuron_id: [] for neuron_id in neuron_ids}
        for at, stage in enumerate(self._stages):
            done = self._results.finished(stage.fingerprint) & wanted
            for unit in self._results.units(stage.fingerprint):
                if unit.neuron_id in done:
                    self._read_passage(at, unit, passages[unit.neuron_id])
        for neuron_id, of_unit in passages.items():
            if of_unit and not self._is_up_to_date(neuron_id, of_unit):
                self.write_unit(neuron_id, of_unit)
        return passages

    def write(self, step: Step, so_far: list[Passage]) -> bool:
        """Adds the step to the results and, as a passage, to what the unit has been through.

        False: the step failed, and the unit is where it was.
        """
        stage = self._stages[step.stage]
        cost = self._ledger.cost_of(stage.purpose(step.neuron_id))
        if not step.candidates:
            self._results.add_unexplained(
                stage.fingerprint, step.neuron_id, stage.explainer.name,
                step.reason or "no explanation", is_final=step.error is None, cost=cost,
            )  # fmt: skip
            if step.error is not None:
                return False
        else:
            best = step.candidates[0]
            self._results.add_explained(
                stage.fingerprint, best.explanation, step.scored or _not_chosen(stage, best),
                candidates=step.candidates, cost=cost,
            )  # fmt: skip
        calibration = step.candidates[0].score if step.candidates else None
        score = None if step.scored is None else step.scored.score
        so_far.append(_passage(step.stage, so_far, calibration, score, cost, step.reason))
        self.write_unit(step.neuron_id, so_far)
        return True

    def write_unit(self, neuron_id: NeuronId, passages: Sequence[Passage]) -> None:
        """The unit's row of the cascade, in place of the one it had."""
        standing = passages[-1].after
        costs = [passage.cost for passage in passages if passage.stage > 0]
        cost = sum(costs, start=UnitCost()) if costs else None
        if standing.stage is None:
            reason = passages[0].reason or "no explanation"
            self._results.add_unexplained(
                self.fingerprint, neuron_id, NAME, reason, is_final=False, cost=cost
            )
            return
        stage = self._stages[standing.stage]
        unit = self._results.unit(stage.fingerprint, neuron_id)
        assert unit.explanation is not None and unit.headline is not None
        windows = self._results.windows(stage.fingerprint, neuron_id)
        scored = ScoredSimulation(
            stage.scorer.name, unit.simulator or "", unit.scores, windows, unit.headline
        )
        self._results.add_explained(
            self.fingerprint, unit.explanation, scored,
            candidates=self._candidates(neuron_id, passages), cost=cost, is_final=False,
        )  # fmt: skip

    def unit(self, neuron_id: NeuronId) -> UnitResult:
        """As readers see it."""
        return self._results.unit(self.fingerprint, neuron_id)

    def _read_passage(self, at: int, unit: UnitResult, so_far: list[Passage]) -> None:
        fingerprint = self._stages[at].fingerprint
        candidates = self._results.candidates(fingerprint, unit.neuron_id)
        calibration = candidates[0][1] if candidates else None
        cost = unit.cost or UnitCost()
        so_far.append(_passage(at, so_far, calibration, unit.score, cost, unit.reason))

    def _is_up_to_date(self, neuron_id: NeuronId, passages: Sequence[Passage]) -> bool:
        unit = next(self._results.units(self.fingerprint, neuron_id), None)
        if unit is None:
            return False
        written = self._results.candidates(self.fingerprint, neuron_id)
        costs = [passage.cost for passage in passages if passage.stage > 0]
        return len(written) == len(self._candidates(neuron_id, passages)) and unit.cost == (
            sum(costs, start=UnitCost()) if costs else None
        )

    def _candidates(
        self, neuron_id: NeuronId, passages: Sequence[Passage]
    ) -> tuple[Candidate, ...]:
        """Of all stages, best on the calibration split first; equal ones by stage."""
        found = [
            Candidate(Explanation(neuron_id, text, self._stages[passage.stage].name), score)
            for passage in passages
            for text, score in self._results.candidates(
                self._stages[passage.stage].fingerprint, neuron_id
            )
        ]
        return tuple(sorted(found, key=_rank))


def _passage(
    at: int,
    so_far: Sequence[Passage],
    calibration: Score | None,
    score: Score | None,
    cost: UnitCost,
    reason: str | None,
) -> Passage:
    before = so_far[-1].after if so_far else Standing()
    return Passage(at, before, before.after(at, calibration, score), cost, reason)


def _not_chosen(stage: Stage, best: Candidate) -> ScoredSimulation:
    score = Score(best.score.metric, None, n_tokens=0, reason=NOT_CHOSEN)
    return ScoredSimulation(stage.scorer.name, NOT_SIMULATED, {NAME: score}, (), NAME)


def _rank(candidate: Candidate) -> float:
    value = candidate.score.value
    return math.inf if value is None else -value
