"""What each stage of a cascade came to: for a table, as JSON, and in a file of the run folder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuron_explainer.errors import StoreError
from neuron_explainer.pipeline.cascade import Cascade
from neuron_explainer.pipeline.cascade_gain import MeanGain, mean_gain
from neuron_explainer.pipeline.cascade_steps import Passage
from neuron_explainer.records.cost import UnitCost
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import reason_kind
from neuron_explainer.stores import atomic

POINT = 0.01
"""Of mean score, that dollars are counted for."""


@dataclass(frozen=True, slots=True)
class StageReport:
    """One stage; the scores are those of the valid split, under the headline name."""

    name: str
    n_done: int
    """Neurons that went through it, with the pilots."""
    n_offered: int
    """Those, and those that are expected to gain enough by it but wait: for money or an answer."""
    n_not_worth: int
    """Expected to gain less than `--min-gain`."""
    n_unknown: int
    """Without a score so far, or without a pilot to tell what they gain."""
    n_passed_over: int
    """That went on to a later stage without it."""
    n_won: int
    """Of the done, those whose explanation of this stage took the place of the one before."""
    n_lost: int
    mean_before: float | None
    """Over the done that have a score before and after; None: none has."""
    mean_after: float | None
    n_new: int
    """Of the done, those that had no score before and have one now."""
    mean_new: float | None
    """Their mean score; None: there are none."""
    n_without: int
    """Of the done, those that have no score now."""
    unexplained: Mapping[str, int]
    """Why the stage has no explanation, by kind -> neurons; they are among the lost."""
    pilot_gain: MeanGain | None
    """Unbiased for the mean over all neurons; None: no pilot has one, or it is the first stage."""
    n_pilots: int
    """That went through it, of those that were drawn."""
    n_drawn: int
    cost: UnitCost
    """Of the done, and of those that had no answer or that the budget's end cut off."""
    usd_a_neuron: float | None
    """Of those that were charged; None: none was, or a price is not known."""
    usd_a_point: float | None
    """Dollars for each 0.01 that the mean score over all neurons rose by; None: it did not rise.
    New scores are no rise."""


@dataclass(frozen=True, slots=True)
class CascadeReport:
    """All stages, and where the neurons stand in the end."""

    method: str
    """Fingerprint of the cascade in the results."""
    ended: str
    """Why it went no further."""
    n_neurons: int
    n_scored: int
    """In the end."""
    n_both: int
    """Of those that are scored by the first stage and in the end; the means are over them."""
    mean_first: float | None
    mean_last: float | None
    stages: tuple[StageReport, ...]
    n_failed: int
    """Neurons that a stage gave no answer for; the same command tries them again."""
    failures: Mapping[str, int]


def report_cascade(cascade: Cascade, method: str, ended: str) -> CascadeReport:
    """What the stages came to. method: its fingerprint. ended: why it went no further."""
    everyone = cascade.passages
    begun = [of_unit for of_unit in everyone.values() if of_unit]
    pairs = [(of_unit[0].after.value, of_unit[-1].after.value) for of_unit in begun]
    both = [(first, last) for first, last in pairs if first is not None and last is not None]
    reasons = [step.reason or "" for step in cascade.failed.values()]
    return CascadeReport(
        method=method,
        ended=ended,
        n_neurons=len(everyone),
        n_scored=sum(last is not None for _, last in pairs),
        n_both=len(both),
        mean_first=_mean([first for first, _ in both]),
        mean_last=_mean([last for _, last in both]),
        stages=tuple(_report_stage(cascade, at) for at in range(len(cascade.stages))),
        n_failed=len(cascade.failed),
        failures=_count(reasons),
    )


def _report_stage(cascade: Cascade, at: int) -> StageReport:
    passages = [p for of_unit in cascade.passages.values() for p in of_unit if p.stage == at]
    gains = [(p.before.value, p.after.value) for p in passages if p.gain is not None]
    known = [(before, after) for before, after in gains if before is not None and after is not None]
    new = [p.after.value for p in passages if p.before.value is None and p.after.value is not None]
    n_won = sum(p.has_won for p in passages)
    cost = sum((p.cost for p in passages), start=cascade.cost_of_unfinished(at))
    pilots = cascade.pilot_passages(at)
    waits = _count_others(cascade, at)
    return StageReport(
        name=cascade.stages[at].name,
        n_done=len(passages),
        n_offered=len(passages) + waits["offered"],
        n_not_worth=waits["not worth"],
        n_unknown=waits["unknown"],
        n_passed_over=waits["passed over"],
        n_won=n_won,
        n_lost=len(passages) - n_won,
        mean_before=_mean([before for before, _ in known]),
        mean_after=_mean([after for _, after in known] if at else new),
        n_new=len(new) if at else 0,
        mean_new=_mean(new) if at else None,
        n_without=sum(p.after.value is None for p in passages),
        unexplained=_count([p.reason for p in passages]),
        pilot_gain=_pilot_gain(cascade, pilots) if at else None,
        n_pilots=len(pilots) if at else 0,
        n_drawn=sum(len(part.pilots) for part in cascade.parts) + len(cascade.silent) if at else 0,
        cost=cost,
        usd_a_neuron=_usd_a_neuron(passages),
        usd_a_point=_usd_a_point(cost, sum(a - b for b, a in known), len(cascade.passages)),
    )


def _count_others(cascade: Cascade, at: int) -> Counter[str]:
    """Neurons that did not go through a stage, by what kept them."""
    found: Counter[str] = Counter()
    for neuron_id, of_unit in cascade.passages.items():
        if any(passage.stage == at for passage in of_unit):
            continue
        gain = cascade.expected_gain(at, neuron_id)
        failed = cascade.failed.get(neuron_id)
        if cascade.standing(neuron_id).level > at:
            found["passed over"] += 1
        elif at == 0 or (failed is not None and failed.stage == at):
            found["offered"] += 1
        elif gain is None:
            found["unknown"] += 1
        else:
            found["offered" if gain >= cascade.plan.min_gain else "not worth"] += 1
    return found


def _pilot_gain(cascade: Cascade, pilots: Mapping[NeuronId, Passage]) -> MeanGain | None:
    gains = {i: passage.gain for i, passage in pilots.items()}
    known = {i: gain for i, gain in gains.items() if gain is not None}
    return mean_gain(cascade.parts, known, cascade.plan.seed)


def _usd_a_neuron(passages: Sequence[Passage]) -> float | None:
    charged = [passage.cost for passage in passages if passage.cost.n_requests]
    total = sum(charged, start=UnitCost()).cost_usd
    return None if total is None or not charged else total / len(charged)


def _usd_a_point(cost: UnitCost, gained: float, n_neurons: int) -> float | None:
    """gained: sum of the gains."""
    if cost.cost_usd is None or gained <= 0:
        return None
    return cost.cost_usd / (gained / n_neurons / POINT)


def write_cascade(path: Path, report: CascadeReport) -> None:
    """Whole or not at all."""
    atomic.write_text(path, json.dumps(asdict(report), allow_nan=False) + "\n")


def read_cascade(path: Path, method: str) -> CascadeReport | None:
    """None: there is none, or it is of another method. StoreError for a file that is damaged."""
    try:
        raw: dict[str, Any] = json.loads(path.read_text("utf-8"))
        stages = tuple(_read_stage(stage) for stage in raw.pop("stages"))
        report = CascadeReport(**raw, stages=stages)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise StoreError(f"{path} is damaged; `cascade` writes it anew") from error
    return report if report.method == method else None


def _read_stage(raw: dict[str, Any]) -> StageReport:
    gain = raw.pop("pilot_gain")
    cost = UnitCost(**raw.pop("cost"))
    return StageReport(**raw, cost=cost, pilot_gain=None if gain is None else MeanGain(**gain))


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _count(reasons: Sequence[str | None]) -> dict[str, int]:
    counted = Counter(reason_kind(reason) for reason in reasons if reason is not None)
    return dict(counted.most_common())
