"""Scores of a run in numbers: how many units are scored, why others are not, and how well."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from neuron_explainer.records.cost import UnitCost
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import GOOD_SCORE, reason_kind
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.comparison import Comparison, PairedScores, read_baseline
from neuron_explainer.stores.results import LOOKUP_LABEL, Results

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True)
class ScoreSummary:
    """Headline scores of a set of units."""

    n_units: int
    n_scored: int
    mean: float | None
    """None where nothing is scored; so are the others."""
    quantiles: Mapping[str, float] | None
    """By level, `0.05` to `0.95`."""
    share_above_half: float | None
    mean_by_name: Mapping[str, float]
    """Mean of every other score, over the units that have it."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """All units, each layer's, and the reasons of those that are not scored."""

    overall: ScoreSummary
    by_layer: Mapping[int, ScoreSummary]
    unscored: Mapping[str, int]
    """Reason, up to its first colon -> units; most frequent first."""
    best: NeuronId | None
    """The unit with the highest score; None where nothing is scored."""
    comparison: Comparison | None = None
    """None where the method is the baseline itself, or nothing is scored by both."""
    comparison_by_layer: Mapping[int, Comparison] = field(default_factory=dict)
    """The same of each layer that has a unit scored by both."""
    cost: UnitCost | None = None
    """Of all units together; None where no language model was asked."""


def summarize_method(results: Results, method: str | None = None) -> RunSummary:
    """The results of a method, by default the current one, beside its baseline if it has one."""
    fingerprint = method or results.current_method()
    baseline = read_baseline(results, fingerprint)
    units = results.units(fingerprint)
    if baseline is None:
        return summarize_run(units)
    return summarize_run(units, results.units(baseline.method), baseline.label)


def summarize_run(
    units: Iterable[UnitResult], baseline: Iterable[UnitResult] = (), label: str = LOOKUP_LABEL
) -> RunSummary:
    """A pass over the results of one method, and over those of its baseline; no unit is kept."""
    gathered = _Gathered()
    paired = PairedScores.of(gathered.each(units), baseline, label)
    by_layer = gathered.by_layer
    return RunSummary(
        overall=_summarize([by_layer[layer] for layer in sorted(by_layer)]),
        by_layer={layer: _summarize([by_layer[layer]]) for layer in sorted(by_layer)},
        unscored=dict(gathered.reasons.most_common()),
        best=None if gathered.best is None else gathered.best[1],
        comparison=paired.compare(),
        comparison_by_layer=paired.by_layer(),
        cost=gathered.cost,
    )


def _no_values() -> array[float]:
    return array("d")


@dataclass(slots=True)
class _OfLayer:
    """What is summed up of the units of a layer."""

    n_units: int = 0
    headline: array[float] = field(default_factory=_no_values)
    by_name: dict[str, array[float]] = field(default_factory=dict)
    """Score's name -> values, 8 bytes each."""


@dataclass(slots=True)
class _Gathered:
    """What a pass over the units leaves behind."""

    by_layer: dict[int, _OfLayer] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    best: tuple[float, NeuronId] | None = None
    cost: UnitCost | None = None

    def each(self, units: Iterable[UnitResult]) -> Iterator[UnitResult]:
        """Passes them on."""
        for unit in units:
            self._add(unit)
            yield unit

    def _add(self, unit: UnitResult) -> None:
        of_layer = self.by_layer.setdefault(unit.neuron_id.layer_index, _OfLayer())
        of_layer.n_units += 1
        for name, score in unit.scores.items():
            if score.value is not None:
                of_layer.by_name.setdefault(name, _no_values()).append(score.value)
        if unit.cost is not None:
            self.cost = unit.cost if self.cost is None else self.cost + unit.cost
        if unit.score is not None and unit.score.value is not None:
            of_layer.headline.append(unit.score.value)
            scored = (unit.score.value, unit.neuron_id)
            self.best = scored if self.best is None else max(self.best, scored)
        elif unit.unscored_reason is not None:
            self.reasons[reason_kind(unit.unscored_reason)] += 1


def _summarize(layers: Sequence[_OfLayer]) -> ScoreSummary:
    values = np.concatenate([layer.headline for layer in layers]) if layers else np.array([])
    names = {name: None for layer in layers for name in layer.by_name}  # each once, in order
    return ScoreSummary(
        n_units=sum(layer.n_units for layer in layers),
        n_scored=len(values),
        mean=float(values.mean()) if len(values) else None,
        quantiles=dict(
            zip(map(str, QUANTILES), np.quantile(values, QUANTILES).tolist(), strict=True)
        )
        if len(values)
        else None,
        share_above_half=float((values > GOOD_SCORE).mean()) if len(values) else None,
        mean_by_name={name: _mean_of(name, layers) for name in names},
    )


def _mean_of(name: str, layers: Sequence[_OfLayer]) -> float:
    """Of a score that some layer has."""
    values = [layer.by_name[name] for layer in layers if name in layer.by_name]
    return float(np.concatenate(values).mean())
