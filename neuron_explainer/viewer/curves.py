"""Mean scores by layer as lines: the headline, the other ways to score, the baseline."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from neuron_explainer.viewer.distributions import Axis
from neuron_explainer.viewer.summaries import LayerSummary, MethodSummary


class Point(NamedTuple):
    """In percent of the plot from its lower left corner."""

    x: float
    y: float
    layer_index: int
    value: float


class Curve(NamedTuple):
    """One score."""

    label: str
    kind: str
    """Of its line and its marks, which differ by more than colour."""
    points: tuple[Point, ...]

    @property
    def path(self) -> str:
        """SVG path in a box of 100 x 100."""
        pairs = (f"{point.x} {round(100 - point.y, 2)}" for point in self.points)
        return "M" + "L".join(pairs)


class Curves(NamedTuple):
    """All on one axis."""

    axis: Axis
    layers: tuple[int, ...]
    curves: tuple[Curve, ...]


def draw_curves(summary: MethodSummary, baseline: str | None) -> Curves | None:
    """A layer without a value has no point; None where there are fewer than two layers."""
    kinds: tuple[tuple[str, str, Callable[[LayerSummary], float | None]], ...] = (
        ("top-and-random score", "headline", lambda layer: layer.distribution.mean),
        ("full-distribution score", "full", lambda layer: layer.full_mean),
        ("random-only score", "random", lambda layer: layer.random_mean),
        (baseline or "baseline", "baseline", lambda layer: layer.baseline_mean),
    )
    read = [(label, kind, [of(layer) for layer in summary.layers]) for label, kind, of in kinds]
    values = [value for _, _, means in read for value in means if value is not None]
    if len(summary.layers) < 2 or not values:
        return None
    axis = Axis.covering([min(values)])
    layers = tuple(layer.layer_index for layer in summary.layers)
    curves = (Curve(label, kind, _points(means, layers, axis)) for label, kind, means in read)
    return Curves(axis, layers, tuple(curve for curve in curves if curve.points))


def _points(means: list[float | None], layers: tuple[int, ...], axis: Axis) -> tuple[Point, ...]:
    last = len(layers) - 1
    return tuple(
        Point(round(100 * i / last, 2), axis.percent(value), layer, value)
        for i, (layer, value) in enumerate(zip(layers, means, strict=True))
        if value is not None
    )
