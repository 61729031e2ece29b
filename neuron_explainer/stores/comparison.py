"""Two methods of one results file beside each other: paired differences, and who moved.

1. A unit counts when both methods score it, by the same metric; every other one of the method is
   counted under the reason for which it is left out.
2. The difference of the means comes with a 95 % percentile interval of a bootstrap over units
   (Efron 1979), which are drawn as pairs; of a single unit there is none.
3. Scores that differ by less than `TIE` are a tie.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import Score, reason_kind
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.results import BASELINE, BASELINE_LABEL, LOOKUP_LABEL, Results

N_RESAMPLES = 1000
TIE = 0.005
"""Scores that differ by less show as the same."""
MAX_DRAWN = 1 << 18
"""Units drawn at once, or one resample: 4 MB."""


class Baseline(NamedTuple):
    """A method that another one is read beside."""

    method: str
    """Fingerprint."""
    label: str
    """What people call it."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Headline scores beside another method's, over the units that both could score."""

    label: str
    """What people call the other method."""
    n_units: int
    mean: float
    baseline_mean: float
    difference: float
    """Of the means; above 0: better than the other."""
    low: float | None
    """Lower end of the 95 % interval of the difference, over units; None: of one unit."""
    high: float | None
    n_better: int
    n_same: int
    n_worse: int

    def sentence(self) -> str:
        """One line for a person."""
        return (
            f"{self.label}: {self.baseline_mean:.3f} against "
            f"{self.mean:.3f} (difference {self.difference_text()} over {self.n_units:,} "
            f"neuron{'s' if self.n_units != 1 else ''}; {self.n_better:,} better, "
            f"{self.n_same:,} the same, {self.n_worse:,} worse)"
        )

    def difference_text(self) -> str:
        """`+0.010 [-0.020, +0.040]`; without an interval where there is none."""
        if self.low is None or self.high is None:
            return f"{self.difference:+.3f}"
        return f"{self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


@dataclass(frozen=True, slots=True)
class Mover:
    """A unit and its two headline scores."""

    neuron_id: NeuronId
    value: float
    baseline_value: float

    @property
    def difference(self) -> float:
        return self.value - self.baseline_value


@dataclass(frozen=True, slots=True)
class PairedScores:
    """Headline scores of one method and of another, over the units that both could score."""

    label: str
    """What people call the other method."""
    movers: tuple[Mover, ...]
    """All of these units, the largest gain first; ties by unit."""
    left_out: Mapping[str, int]
    """Reason -> units of the method that are not compared; most frequent first."""

    @classmethod
    def of(
        cls, units: Iterable[UnitResult], baseline: Iterable[UnitResult], label: str = LOOKUP_LABEL
    ) -> PairedScores:
        """baseline: results of the same units and perhaps of others, which play no part."""
        mine = {unit.neuron_id: _outcome(unit) for unit in units}
        others = {u.neuron_id: _outcome(u) for u in baseline if u.neuron_id in mine}
        movers, left_out = [], Counter[str]()
        for neuron_id, outcome in mine.items():
            paired = _pair(outcome, others.get(neuron_id, "no result"), label)
            if isinstance(paired, str):
                left_out[paired] += 1
            else:
                movers.append(Mover(neuron_id, *paired))
        movers.sort(key=lambda mover: (-mover.difference, mover.neuron_id))
        most_frequent = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
        return cls(label, tuple(movers), dict(most_frequent))

    def compare(self, seed: int = 0) -> Comparison | None:
        """None when there is no such unit. seed: of the bootstrap."""
        return _compare(self.label, self.movers, seed) if self.movers else None

    def by_layer(self, seed: int = 0) -> Mapping[int, Comparison]:
        """Each layer that has such a unit, as if it were alone."""
        layers: dict[int, list[Mover]] = {}
        for mover in self.movers:
            layers.setdefault(mover.neuron_id.layer_index, []).append(mover)
        return {layer: _compare(self.label, layers[layer], seed) for layer in sorted(layers)}

    def gains(self, n: int) -> tuple[Mover, ...]:
        """At most n units that are better by more than a tie, the largest gain first."""
        return tuple(mover for mover in self.movers[:n] if mover.difference >= TIE)

    def losses(self, n: int) -> tuple[Mover, ...]:
        """At most n units that are worse by more than a tie, the largest loss first."""
        worse = (mover for mover in self.movers if mover.difference <= -TIE)
        return tuple(nsmallest(n, worse, key=lambda mover: (mover.difference, mover.neuron_id)))


def read_baseline(results: Results, method: str) -> Baseline | None:
    """The method that a method's choices name as what it is read beside; None: they name none."""
    choices = results.choices(method)
    if choices.get(BASELINE) is None:
        return None
    return Baseline(str(choices[BASELINE]), str(choices.get(BASELINE_LABEL, LOOKUP_LABEL)))


def _outcome(unit: UnitResult) -> Score | str:
    """The headline score, or why there is none."""
    if unit.score is not None and unit.score.value is not None:
        return unit.score
    return reason_kind(unit.unscored_reason or "not scored")


def _pair(mine: Score | str, other: Score | str, label: str) -> tuple[float, float] | str:
    """Both values, or why the unit is left out."""
    if isinstance(mine, str):
        return mine
    if isinstance(other, str):
        return f"{label}: {other}"
    if mine.metric != other.metric:
        return f"{label}: scored by {other.metric}, not {mine.metric}"
    assert mine.value is not None and other.value is not None
    return mine.value, other.value


def _compare(label: str, movers: Sequence[Mover], seed: int) -> Comparison:
    """movers: at least one, in the order of `PairedScores`."""
    values = np.array([(m.value, m.baseline_value) for m in movers])  # (unit, 2)
    differences: npt.NDArray[np.float64] = values[:, 0] - values[:, 1]  # (unit,)
    low, high = None, None
    if len(differences) > 1:
        low, high = np.quantile(_resampled_means(differences, seed), (0.025, 0.975)).tolist()
    mean, baseline_mean = values.mean(axis=0)
    return Comparison(
        label=label,
        n_units=len(movers),
        mean=float(mean),
        baseline_mean=float(baseline_mean),
        difference=float(differences.mean()),
        low=low,
        high=high,
        n_better=int((differences >= TIE).sum()),
        n_same=int((np.abs(differences) < TIE).sum()),
        n_worse=int((differences <= -TIE).sum()),
    )


def _resampled_means(values: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
    """values: (unit,). (resample,): the mean of as many draws with replacement."""
    rng = np.random.default_rng(seed)
    n_rows = max(1, MAX_DRAWN // len(values))
    means = []
    for start in range(0, N_RESAMPLES, n_rows):
        size = (min(n_rows, N_RESAMPLES - start), len(values))
        means.append(values[rng.integers(len(values), size=size)].mean(axis=1))
    return np.concatenate(means)
