"""What the home page tells of a method, made once from the index and kept in it as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuron_explainer.records.cost import UnitCost
from neuron_explainer.records.score import (
    EXPLAINED_VARIANCE,
    FULL_DISTRIBUTION,
    RANDOM_ONLY,
    TOP_AND_RANDOM,
    reason_kind,
)
from neuron_explainer.viewer.distributions import (
    Axis,
    Cell,
    Density,
    Distribution,
    describe,
    pair_density,
)
from neuron_explainer.viewer.report_data import SCORE_LABELS
from neuron_explainer.viewer.unit_index import UnitIndex

SCORES = "score, full_distribution, random_only, explained_variance, baseline"


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """One layer in the table and the curves of layers."""

    layer_index: int
    distribution: Distribution
    n_neurons: int
    full_mean: float | None
    """Mean full-distribution score."""
    random_mean: float | None
    """Mean random-only score."""
    baseline_mean: float | None
    """Mean score of the baseline, of the units that it scores."""


@dataclass(frozen=True, slots=True)
class MethodSummary:
    """All units of a method in numbers."""

    n_units: int
    n_explained: int
    """Units with words, scored or not."""
    axis: Axis
    overall: Distribution
    layers: tuple[LayerSummary, ...]
    metric_axis: Axis
    metrics: tuple[Distribution, ...]
    """Of the headline and the other scores."""
    baselines: tuple[Distribution, ...]
    density: Density | None
    """Random-only against the headline score."""
    unscored: Mapping[str, int]
    """Reason, up to its first colon -> units; the most frequent first."""
    makers: tuple[tuple[str, str | None, str | None, str | None], ...]
    """(explainer, model, simulator, scorer), the most frequent first."""
    cost: UnitCost | None
    """None: no language model was asked."""

    def written(self) -> str:
        return json.dumps(asdict(self), allow_nan=False, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> MethodSummary:
        """What `written` wrote."""
        raw: dict[str, Any] = json.loads(text)
        density = raw["density"]
        return cls(
            n_units=raw["n_units"],
            n_explained=raw["n_explained"],
            axis=Axis(**raw["axis"]),
            overall=Distribution(**raw["overall"]),
            layers=tuple(
                LayerSummary(**{**layer, "distribution": Distribution(**layer["distribution"])})
                for layer in raw["layers"]
            ),
            metric_axis=Axis(**raw["metric_axis"]),
            metrics=tuple(Distribution(**one) for one in raw["metrics"]),
            baselines=tuple(Distribution(**one) for one in raw["baselines"]),
            density=None if density is None else _density(density),
            unscored=raw["unscored"],
            makers=tuple((m[0], m[1], m[2], m[3]) for m in raw["makers"]),
            cost=None if raw["cost"] is None else UnitCost(**raw["cost"]),
        )


def summarize(
    index: UnitIndex, method: int, baseline_label: str | None, cost: UnitCost | None
) -> MethodSummary:
    """Reads every row of the method once; what is kept of it is a few numbers each."""
    query = f"SELECT layer_index, {SCORES} FROM explanations WHERE method = ?"
    rows = np.array(index.select(query, (method,)), dtype=np.float64)  # (unit, 6), None is NaN
    table = rows.reshape(-1, 6)
    score, full, random_only, variance, baseline = (_values(column) for column in table.T[1:])
    axis = Axis.covering(score)
    metric_axis = Axis.covering([*score, *full, *random_only, *variance, *baseline])
    named = (
        (TOP_AND_RANDOM, score),
        (FULL_DISTRIBUTION, full),
        (RANDOM_ONLY, random_only),
        (EXPLAINED_VARIANCE, variance),
    )
    label = baseline_label or "baseline"
    return MethodSummary(
        n_units=len(table),
        n_explained=_count_explained(index, method),
        axis=axis,
        overall=describe("all layers", score, axis),
        layers=tuple(
            _summarize_layer(int(layer), table[table[:, 0] == layer], axis)
            for layer in np.unique(table[:, 0])
        ),
        metric_axis=metric_axis,
        metrics=tuple(
            describe(SCORE_LABELS[name], values, metric_axis)
            for name, values in named
            if values or name == TOP_AND_RANDOM
        ),
        baselines=(describe(label, baseline, metric_axis),) if baseline else (),
        density=pair_density(_pairs(table[:, 1], table[:, 3])),
        unscored=_reasons(index, method),
        makers=_makers(index, method),
        cost=cost,
    )


def _summarize_layer(layer: int, rows: NDArray[np.float64], axis: Axis) -> LayerSummary:
    """rows: (unit, 6)"""
    score, full, random_only, _, baseline = (_values(column) for column in rows.T[1:])
    return LayerSummary(
        layer,
        describe(f"layer {layer}", score, axis),
        n_neurons=len(rows),
        full_mean=_mean(full),
        random_mean=_mean(random_only),
        baseline_mean=_mean(baseline),
    )


def _values(column: NDArray[np.float64]) -> list[float]:
    """column: (unit,). Those that are there."""
    values: list[float] = column[~np.isnan(column)].tolist()
    return values


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _pairs(
    across: NDArray[np.float64], upward: NDArray[np.float64]
) -> Sequence[tuple[float, float]]:
    """Both (unit,). Of the units that have both."""
    has_both = ~(np.isnan(across) | np.isnan(upward))
    return list(zip(across[has_both].tolist(), upward[has_both].tolist(), strict=True))


def _count_explained(index: UnitIndex, method: int) -> int:
    query = "SELECT count(text) FROM explanations WHERE method = ?"
    return int(index.select(query, (method,))[0][0])


def _reasons(index: UnitIndex, method: int) -> dict[str, int]:
    query = (
        "SELECT reason, count(*) FROM explanations WHERE method = ? AND score IS NULL GROUP BY 1"
    )
    counts: Counter[str] = Counter()
    for reason, n in index.select(query, (method,)):
        counts[reason_kind(reason)] += n
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _makers(
    index: UnitIndex, method: int
) -> tuple[tuple[str, str | None, str | None, str | None], ...]:
    query = (
        "SELECT explainer, model, simulator, scorer FROM explanations "
        "JOIN makers ON makers.number = makers WHERE method = ? GROUP BY makers "
        "ORDER BY count(*) DESC"
    )
    return tuple((e, m, s, c) for e, m, s, c in index.select(query, (method,)))


def _density(raw: Mapping[str, Any]) -> Density:
    return Density(
        **{**raw, "axis": Axis(**raw["axis"]), "cells": tuple(Cell(*c) for c in raw["cells"])}
    )
