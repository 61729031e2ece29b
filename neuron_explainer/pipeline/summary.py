"""Scores of a run in numbers: how many units are scored, why others are not, and how well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from neuron_explainer.records.cost import UnitCost
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import GOOD_SCORE, reason_kind
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.comparison import Comparison, PairedScores
from neuron_explainer.stores.results import BASELINE, BASELINE_LABEL, LOOKUP_LABEL, Results

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

    def sentence(self) -> str:
        """One line for a person."""
        line = f"{self.overall.n_scored:,} neurons scored"
        if self.overall.mean is not None:
            line += f", mean score {self.overall.mean:.3f}"
        if self.unscored:
            parts = ", ".join(f"{reason} {n:,}" for reason, n in self.unscored.items())
            line += f"; {sum(self.unscored.values()):,} not scored ({parts})"
        return line


def summarize_method(results: Results, method: str | None = None) -> RunSummary:
    """The results of a method, by default the current one, beside its baseline if it has one."""
    fingerprint = method or results.current_method()
    choices = results.choices(fingerprint)
    baseline = choices.get(BASELINE)
    return summarize_run(
        results.units(fingerprint),
        () if baseline is None else results.units(baseline),
        choices.get(BASELINE_LABEL, LOOKUP_LABEL),
    )


def summarize_run(
    units: Iterable[UnitResult], baseline: Iterable[UnitResult] = (), label: str = LOOKUP_LABEL
) -> RunSummary:
    """A pass over the results of one method, and over those of its baseline."""
    everyone = list(units)
    costs = [unit.cost for unit in everyone if unit.cost is not None]
    by_layer: dict[int, list[UnitResult]] = {}
    for unit in everyone:
        by_layer.setdefault(unit.neuron_id.layer_index, []).append(unit)
    reasons = Counter(
        reason_kind(unit.unscored_reason) for unit in everyone if unit.unscored_reason
    )
    paired = PairedScores.of(everyone, baseline, label)
    return RunSummary(
        overall=_summarize(everyone),
        by_layer={layer: _summarize(by_layer[layer]) for layer in sorted(by_layer)},
        unscored=dict(reasons.most_common()),
        best=_best(everyone),
        comparison=paired.compare(),
        comparison_by_layer=paired.by_layer(),
        cost=sum(costs, start=UnitCost()) if costs else None,
    )


def _best(units: list[UnitResult]) -> NeuronId | None:
    scored = [(u.score.value, u.neuron_id) for u in units if u.score and u.score.value is not None]
    return max(scored)[1] if scored else None


def _summarize(units: list[UnitResult]) -> ScoreSummary:
    values_by_name: dict[str, list[float]] = {}
    headline: list[float] = []
    for unit in units:
        for name, score in unit.scores.items():
            if score.value is not None:
                values_by_name.setdefault(name, []).append(score.value)
                if name == unit.headline:
                    headline.append(score.value)
    values = np.array(headline)
    return ScoreSummary(
        n_units=len(units),
        n_scored=len(headline),
        mean=float(values.mean()) if headline else None,
        quantiles=dict(
            zip(map(str, QUANTILES), np.quantile(values, QUANTILES).tolist(), strict=True)
        )
        if headline
        else None,
        share_above_half=float((values > GOOD_SCORE).mean()) if headline else None,
        mean_by_name={name: float(np.mean(v)) for name, v in values_by_name.items()},
    )
