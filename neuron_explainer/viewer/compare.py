"""Two methods of one source or of two beside each other: paired differences, and who moved.

As `stores.comparison` has it, for so many units that no object is made of each: the interval of the
difference is 1.96 standard errors of the mean over units, which are paired.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.subject_names import is_same_site, is_same_subject
from neuron_explainer.stores.comparison import TIE, Comparison, Mover
from neuron_explainer.stores.record_source import Manifest
from neuron_explainer.viewer.distributions import Axis, Density, pair_density
from neuron_explainer.viewer.report_comparison import MAX_DOTS, Difference, difference_axis
from neuron_explainer.viewer.unit_rows import Method, UnitRow, UnitRows

N_MOVERS = 10
"""Of each kind."""
PAIRS = """
SELECT this.layer_index, this.neuron_index, this.score, that.score
FROM explanations AS this JOIN {other}.explanations AS that USING (layer_index, neuron_index)
WHERE this.method = ? AND that.method = ? AND this.score IS NOT NULL
AND that.score IS NOT NULL AND this.metric = that.metric
"""
LEFT_OUT = """
SELECT CASE
    WHEN this.score IS NULL THEN 'not scored here'
    WHEN that.id IS NULL THEN 'not explained by the other'
    WHEN that.score IS NULL THEN 'not scored there'
    ELSE 'scored by another metric there'
END, count(*)
FROM explanations AS this LEFT JOIN {other}.explanations AS that
ON that.method = ? AND that.layer_index = this.layer_index
AND that.neuron_index = this.neuron_index
WHERE this.method = ? AND NOT coalesce(this.score IS NOT NULL AND that.score IS NOT NULL
AND this.metric = that.metric, 0) GROUP BY 1 ORDER BY 2 DESC, 1
"""


class Side(NamedTuple):
    """One of the two."""

    key: str
    """Of its source."""
    title: str
    """Of its source."""
    method: Method

    @property
    def name(self) -> str:
        return f"{self.title}: {self.method.label}"


class MovedUnit(NamedTuple):
    """A unit with what both say of it."""

    mover: Mover
    this: UnitRow
    other: UnitRow


@dataclass(frozen=True, slots=True)
class Compared:
    """What compare.html.j2 draws; the fields that the report has, too, are called as there."""

    label: str
    """Of the other side."""
    overall: Comparison | None
    """None: no unit is scored by both."""
    rows: tuple[Difference, ...]
    """A row a layer, and one for all."""
    axis: Axis
    plot_axis: Axis
    dots: tuple[Mover, ...]
    """Every pair, or none where there are many."""
    density: Density | None
    gains: tuple[MovedUnit, ...]
    losses: tuple[MovedUnit, ...]
    left_out: Mapping[str, int]
    """Why units of this side are not compared -> how many."""
    tie: float = TIE


def compare(this: UnitRows, side: Side, other: UnitRows, beside: Side) -> Compared:
    """Reads the scores of both once; the two may be of one file."""
    methods = (side.method.number, beside.method.number)
    with this.attached(other) as place:
        pairs = np.array(this.select(PAIRS.format(other=place), methods), dtype=np.float64)
        left_out = dict(this.select(LEFT_OUT.format(other=place), methods[::-1]))
    table = pairs.reshape(-1, 4)  # (unit, 4): layer, neuron, this score, that score
    difference = table[:, 2] - table[:, 3]  # (unit,)
    order = np.lexsort((table[:, 1], table[:, 0], -difference))
    table = table[order]
    rows = _differences(table, beside.name)
    scores = [(float(across), float(up)) for up, across in table[:, 2:]]
    is_few = len(scores) <= MAX_DOTS
    density = None if is_few else pair_density(scores)
    gains, losses = _movers(table[:N_MOVERS]), _movers(table[::-1][:N_MOVERS])
    return Compared(
        beside.name,
        rows[-1].comparison if rows else None,
        rows,
        difference_axis(row.comparison for row in rows),
        density.axis if density else Axis.covering([min(pair) for pair in scores]),
        _movers(table) if is_few else (),
        density,
        _moved([m for m in gains if m.difference >= TIE], this, side, other, beside),
        _moved([m for m in losses if m.difference <= -TIE], this, side, other, beside),
        left_out,
    )


def unlike(one: Manifest, other: Manifest) -> str | None:
    """Why a number is not the same unit in both; None: nothing speaks against it."""
    n, n_other = one.units.n_a_layer, other.units.n_a_layer
    if not is_same_subject(one.subject, other.subject):
        of = f"two models: {one.subject} here, {other.subject} there"
    elif not is_same_site(one.site, other.site):
        of = f"two places of the model: {one.site} here, {other.site} there"
    elif n != n_other:
        of = f"models of two sizes: {n:,} neurons a layer here, {n_other:,} there"
    else:
        return None
    return (
        f"These are neurons of {of}. The same number is not the same neuron, so the differences "
        "mean nothing neuron by neuron."
    )


def unlike_texts(one: Manifest, other: Manifest) -> str | None:
    """Why a difference need not be the method's; None: both are of one collection."""
    if one.fingerprint == other.fingerprint:
        return None
    return (
        "These are of two collections, and may be scored on different windows: a difference may "
        "be that of the text."
    )


def _differences(table: NDArray[np.float64], label: str) -> tuple[Difference, ...]:
    """table: (unit, 4)"""
    if not len(table):
        return ()
    layers = [
        Difference(f"layer {int(layer)}", int(layer), _compare(table[table[:, 0] == layer], label))
        for layer in np.unique(table[:, 0])
    ]
    return (*layers, Difference("all", None, _compare(table, label)))


def _compare(table: NDArray[np.float64], label: str) -> Comparison:
    """table: (unit, 4), at least one."""
    mean, baseline_mean = table[:, 2:].mean(axis=0)
    difference = table[:, 2] - table[:, 3]
    n, of_means = len(difference), float(difference.mean())
    margin = 1.96 * float(difference.std(ddof=1)) / math.sqrt(n) if n > 1 else None
    return Comparison(
        label=label,
        n_units=n,
        mean=float(mean),
        baseline_mean=float(baseline_mean),
        difference=of_means,
        low=None if margin is None else of_means - margin,
        high=None if margin is None else of_means + margin,
        n_better=int((difference >= TIE).sum()),
        n_same=int((np.abs(difference) < TIE).sum()),
        n_worse=int((difference <= -TIE).sum()),
    )


def _movers(table: NDArray[np.float64]) -> tuple[Mover, ...]:
    return tuple(
        Mover(NeuronId(int(layer), int(unit)), this, that)
        for layer, unit, this, that in table.tolist()
    )


def _moved(
    movers: list[Mover], this: UnitRows, side: Side, other: UnitRows, beside: Side
) -> tuple[MovedUnit, ...]:
    neuron_ids = [mover.neuron_id for mover in movers]
    mine = {row.neuron_id: row for row in this.of_units(side.method, neuron_ids)}
    theirs = {row.neuron_id: row for row in other.of_units(beside.method, neuron_ids)}
    return tuple(MovedUnit(m, mine[m.neuron_id], theirs[m.neuron_id]) for m in movers)
