"""How the page draws two methods beside each other: differences by layer, a plot of the pairs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from neuron_explainer.records.scale import MAX_NORMALIZED_ACTIVATION, ActivationScale
from neuron_explainer.stores.comparison import TIE, Comparison, Mover
from neuron_explainer.viewer.distributions import Axis, Density, pair_density
from neuron_explainer.viewer.report_data import (
    PairedWindow,
    ReportComparison,
    ReportMover,
    ReportSide,
    ReportWindow,
)

MAX_DOTS = 300
"""Pairs that are drawn one by one; of more, a density is."""
DIFFERENCE_SPANS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Ends that an axis of differences may have; 2: from one end of a correlation to the other."""


class Difference(NamedTuple):
    """A row of the table of differences."""

    name: str
    layer_index: int | None
    """None: all layers together."""
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class ComparisonView:
    """A comparison with what the page needs to draw it."""

    data: ReportComparison
    overall: Comparison | None
    """None: no neuron is scored by both."""
    rows: tuple[Difference, ...]
    """A row a layer, and one for all."""
    axis: Axis
    """Of differences, with 0 in the middle."""
    plot_axis: Axis
    """Of scores, across and up."""
    dots: tuple[Mover, ...]
    """Every pair, or none where there are many."""
    density: Density | None
    """Of the pairs, where there are many."""
    tie: float = TIE

    @property
    def label(self) -> str:
        return self.data.paired.label


class Predictions(NamedTuple):
    """How one method's predictions of a neuron are coloured."""

    normalized: bool
    """They run from 0 to 10."""
    full: float
    """The prediction that has the full colour."""
    own_max: float
    """The largest one in the windows."""

    @property
    def stretch(self) -> float:
        """What brings `own_max` to the full colour."""
        return self.full / self.own_max if self.own_max > 0 and self.full > 0 else 1.0


class MoverCard(NamedTuple):
    """A mover with what the page needs to draw it."""

    mover: ReportMover
    this: Predictions
    other: Predictions
    windows: list[tuple[int, PairedWindow]]
    """Numbered from 1."""


def view_comparison(data: ReportComparison) -> ComparisonView:
    """Numbers, axes and the pairs to plot."""
    movers = data.paired.movers
    overall = data.paired.compare()
    rows = [Difference(f"layer {i}", i, found) for i, found in data.paired.by_layer().items()]
    if overall is not None:
        rows.append(Difference("all", None, overall))
    pairs = [(mover.baseline_value, mover.value) for mover in movers]
    is_few = len(pairs) <= MAX_DOTS
    density = None if is_few else pair_density(pairs)
    return ComparisonView(
        data,
        overall,
        tuple(rows),
        axis=difference_axis(row.comparison for row in rows),
        plot_axis=density.axis if density else Axis.covering([min(pair) for pair in pairs]),
        dots=movers if is_few else (),
        density=density,
    )


def difference_axis(comparisons: Iterable[Comparison]) -> Axis:
    """The shortest one of `DIFFERENCE_SPANS` that has every difference and interval on it."""
    ends = (x for c in comparisons for x in (c.low, c.high, c.difference) if x is not None)
    longest = max(map(abs, ends), default=0.0)
    span = next((s for s in DIFFERENCE_SPANS if s >= longest), DIFFERENCE_SPANS[-1])
    return Axis(-span, span)


def measure_predictions(
    scale: ActivationScale | None, windows: Iterable[ReportWindow], max_activation: float
) -> Predictions:
    """max_activation: the neuron's; raw predictions share its colours."""
    is_normalized = scale is ActivationScale.NORMALIZED
    values = (x for window in windows for x in window.simulated if x is not None)
    return Predictions(
        is_normalized,
        float(MAX_NORMALIZED_ACTIVATION) if is_normalized else max_activation,
        max(values, default=0.0),
    )


def make_mover_card(mover: ReportMover) -> MoverCard:
    """Scales and windows of one mover."""

    def measure(side: ReportSide, windows: Iterable[ReportWindow]) -> Predictions:
        return measure_predictions(side.scale, windows, mover.max_activation)

    return MoverCard(
        mover,
        measure(mover.this, (window.this for window in mover.windows)),
        measure(mover.other, (window.other for window in mover.windows)),
        list(enumerate(mover.windows, 1)),
    )
