"""What a collection will hold in memory, and how many layers are read at a time so that it fits.

Layers that do not fit are read in a pass of their own over the text. No result depends on it: a
layer's activations are the same whichever layers are read beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from neuron_explainer.collector.plans import CollectPlan
from neuron_explainer.collector.strata import BAND_QUANTILES
from neuron_explainer.errors import UsageError

GB = 1e9
FLOAT, KEY, SUM = 4, 8, 8
"""Bytes."""
FORWARD_COPIES, FLOAT_COPIES = 4, 2
"""Copies of a block's activations that a forward pass holds, and its reduction in float32."""
SLACK_COPIES, MAX_SLACK_BYTES = 8, 100e6
"""What the allocator keeps of memory that was given back: so many copies, up to this much."""
MARGIN = 0.05
"""What is kept free beyond the plan, which is not exact."""


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that takes memory."""

    name: str
    size_bytes: float


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How the layers are read."""

    n_layers_a_group: int
    n_groups: int
    parts: tuple[Part, ...]
    """What is there at the peak."""
    budget_bytes: float

    @property
    def peak_bytes(self) -> float:
        return sum(part.size_bytes for part in self.parts)

    def sentence(self) -> str:
        """One line for a person."""
        parts = ", ".join(f"{p.name} {p.size_bytes / GB:.2f}" for p in self.parts)
        passes = "all layers in one pass" if self.n_groups == 1 else (
            f"{self.n_groups} passes over the text, {self.n_layers_a_group} layer(s) in each"
        )  # fmt: skip
        return (
            f"{self.peak_bytes / GB:.2f} of {self.budget_bytes / GB:.2f} GB at the peak "
            f"({parts}); {passes}"
        )


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes that memory depends on."""

    n_layers: int
    n_units: int
    """A layer."""
    n_rows: int
    """Tokens with a mean of their own, and the shared row."""
    n_drawn: int
    """Windows drawn for the bands."""
    activation_bytes: int
    """Of one activation."""


def plan_memory(
    shape: Shape, plan: CollectPlan, *, used_bytes: float, budget_bytes: float
) -> MemoryPlan:
    """The largest group of layers whose peak lies within the budget, with a margin.

    used_bytes: of the process before it starts. UsageError when one layer does not fit.
    """
    for n_layers in range(shape.n_layers, 0, -1):
        n_groups = -(-shape.n_layers // n_layers)
        before = Part("program and model", used_bytes)
        found = max(
            (
                MemoryPlan(n_layers, n_groups, (before, *parts), budget_bytes)
                for parts in _peaks(shape, plan, n_layers)
            ),
            key=lambda planned: planned.peak_bytes,
        )
        needed_bytes = (1 + MARGIN) * found.peak_bytes
        if needed_bytes <= budget_bytes:
            return found
    raise UsageError(
        f"one layer at a time needs {needed_bytes / GB:.2f} GB and {budget_bytes / GB:.2f} GB "
        "are there; give more with --memory-gb, or less with --token-means-gb, --n-random or "
        "--block-size"
    )


def _peaks(shape: Shape, plan: CollectPlan, n_layers: int) -> Iterator[tuple[Part, ...]]:
    """What is held in either pass, while a block is read and while a layer is written."""
    copy = plan.block_size * plan.n_ctx * shape.n_units  # elements
    forward = FORWARD_COPIES * shape.activation_bytes * copy + FLOAT_COPIES * FLOAT * copy
    slack = min(SLACK_COPIES * FLOAT * copy, MAX_SLACK_BYTES)
    reading = Part("reading a block", forward + slack)
    fit_layer, fit_writing = _fit_layer(shape)
    record_layer, record_writing = _record_layer(shape, plan)
    for layer, writing in ((fit_layer, fit_writing), (record_layer, record_writing)):
        state = tuple(Part(part.name, n_layers * part.size_bytes) for part in layer)
        yield (*state, reading)
        yield (*state, Part("writing a layer", writing + slack))


def _fit_layer(shape: Shape) -> tuple[tuple[Part, ...], float]:
    """What one layer holds, and what writing it takes."""
    sums = SUM * shape.n_rows * shape.n_units
    drawn = FLOAT * shape.n_drawn * shape.n_units
    # The means are divided, rounded and turned around; the maxima are sorted.
    return (Part("token sums", sums), Part("window maxima", drawn)), max(1.5 * sums, 4 * drawn)


def _record_layer(shape: Shape, plan: CollectPlan) -> tuple[tuple[Part, ...], float]:
    window = KEY + FLOAT * plan.n_ctx
    top = shape.n_units * plan.top_k * window
    bands = shape.n_units * (len(BAND_QUANTILES) + 1) * plan.n_a_band * window
    random = shape.n_units * plan.n_random * FLOAT * plan.n_ctx
    parts = (
        Part("top windows", top),
        Part("bands", bands),
        Part("random windows", random),
        Part("moments", shape.n_units * 4 * SUM),
    )
    return parts, 2 * (top + bands) + random  # the rows are sorted and rounded
