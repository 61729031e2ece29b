"""Many scores as one picture: quantiles, and histograms as SVG paths on a shared axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuron_explainer.records.score import GOOD_SCORE

BIN_WIDTH = 0.05


@dataclass(frozen=True, slots=True)
class Axis:
    """A score axis from `low` to 1 that includes 0; a position on it is a percentage."""

    low: float
    """A multiple of 0.25, from -1 to 0."""
    high: float = 1.0

    @classmethod
    def covering(cls, values: Sequence[float]) -> Axis:
        lowest = min(values, default=0.0)
        return cls(max(-1.0, math.floor(min(lowest, 0.0) * 4) / 4))

    @property
    def ticks(self) -> tuple[float, ...]:
        step = 0.5 if self.low < -0.5 else 0.25
        first = math.ceil(self.low / step)
        return tuple(i * step for i in range(first, round(self.high / step) + 1))

    @property
    def n_bins(self) -> int:
        return round((self.high - self.low) / BIN_WIDTH)

    def percent(self, value: float) -> float:
        """Where `value` lies, 0 to 100; what is off the axis is put on its edge."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 2)

    def bins(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """values: any shape. The bin of each value; what is off the axis is in the edge bin."""
        place = np.floor((values - self.low) / BIN_WIDTH + 1e-9)
        return np.clip(place, 0, self.n_bins - 1).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Distribution:
    """The scores of one set of neurons, and their histogram; all numbers None where n is 0."""

    label: str
    n: int
    n_below_axis: int
    """How many values are drawn in the first bin although they lie below it."""
    mean: float | None = None
    first_quartile: float | None = None
    median: float | None = None
    third_quartile: float | None = None
    share_good: float | None = None
    """Share of the values above `GOOD_SCORE`."""
    path: str = ""
    """SVG path of the histogram in a 100 x 100 box; the fullest bin has the whole height."""


class Cell(NamedTuple):
    """One square of a density plot, in percent of the plot from its lower left corner."""

    x: float
    y: float
    weight: float
    """0 to 1: log(1 + n_neurons) over that of the fullest square."""
    n_neurons: int


@dataclass(frozen=True, slots=True)
class Density:
    """How many neurons have each pair of scores."""

    axis: Axis
    side: float
    """Width and height of a square, in percent."""
    n: int
    most: int
    """Neurons in the fullest square."""
    cells: tuple[Cell, ...]


def describe(label: str, values: Sequence[float], axis: Axis) -> Distribution:
    """Mean, quartiles and histogram of `values` on `axis`."""
    if not values:
        return Distribution(label, n=0, n_below_axis=0)
    array = np.asarray(values, dtype=np.float64)  # (neuron,)
    low, middle, high = (float(q) for q in np.quantile(array, (0.25, 0.5, 0.75)))
    return Distribution(
        label,
        n=len(array),
        n_below_axis=int((array < axis.low).sum()),
        mean=float(array.mean()),
        first_quartile=low,
        median=middle,
        third_quartile=high,
        share_good=float((array > GOOD_SCORE).mean()),
        path=histogram_path(array, axis),
    )


def histogram_path(values: NDArray[np.float64], axis: Axis) -> str:
    """values: (neuron,), at least one. A closed outline of steps from the baseline at y = 100."""
    counts = np.bincount(axis.bins(values), minlength=axis.n_bins)
    width = 100 / axis.n_bins
    steps = (
        f"V{100 - 100 * count / counts.max():.4g}H{(i + 1) * width:.4g}"
        for i, count in enumerate(counts)
    )
    return f"M0 100{''.join(steps)}V100Z"


def pair_density(pairs: Sequence[tuple[float, float]]) -> Density | None:
    """Counts of (x, y) pairs in squares of `BIN_WIDTH`; None where there is no pair."""
    if not pairs:
        return None
    array = np.asarray(pairs, dtype=np.float64)  # (neuron, 2)
    axis = Axis.covering([float(array.min())])
    places, counts = np.unique(axis.bins(array), axis=0, return_counts=True)
    side, most = 100 / axis.n_bins, int(counts.max())
    cells = tuple(
        Cell(
            x=round(int(column) * side, 3),
            y=round(int(row) * side, 3),
            weight=round(math.log1p(int(count)) / math.log1p(most), 3),
            n_neurons=int(count),
        )
        for (column, row), count in zip(places, counts, strict=True)
    )
    return Density(axis, side=round(side, 3), n=len(array), most=most, cells=cells)
