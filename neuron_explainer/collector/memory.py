"""What a collection will hold in memory, and how many layers are read at a time so that it fits.

Layers that do not fit are read in a pass of their own over the text. No result depends on it: a
layer's activations are the same whichever layers are read beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from neuron_explainer.collector.plans import BAND_QUANTILES, CollectPlan
from neuron_explainer.errors import UsageError

GB = 1e9
FLOAT, KEY, SUM = 4, 8, 8
"""Bytes."""
FORWARD_COPIES, FLOAT_COPIES = 5, 2
"""Copies of a block's activations that a forward pass holds, of the whole layer, and its reduction
in float32, of the units that are kept."""
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

    n_units: tuple[int, ...]
    """That are kept, of each layer."""
    n_a_layer: int
    """That a layer of the model has: a forward pass makes them all."""
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
    for n_layers in range(len(shape.n_units), 0, -1):
        n_groups = -(-len(shape.n_units) // n_layers)
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
    n_units = _most_together(shape.n_units, n_layers)
    largest = max(shape.n_units)
    n_positions = plan.block_size * plan.n_ctx
    forward = FORWARD_COPIES * shape.activation_bytes * n_positions * shape.n_a_layer
    reduction = FLOAT_COPIES * FLOAT * n_positions * largest
    slack = min(SLACK_COPIES * FLOAT * n_positions * shape.n_a_layer, MAX_SLACK_BYTES)
    reading = Part("reading a block", forward + reduction + slack)
    for parts_of in (_fit_parts, _record_parts):
        state, _ = parts_of(shape, plan, n_units)
        _, writing = parts_of(shape, plan, largest)
        yield (*state, reading)
        yield (*state, Part("writing a layer", writing + slack))


def _most_together(n_units: tuple[int, ...], n_layers: int) -> int:
    """Units of the largest group of neighbours: where a group begins depends on what was done."""
    return max(sum(n_units[i : i + n_layers]) for i in range(len(n_units) - n_layers + 1))


def _fit_parts(shape: Shape, _plan: CollectPlan, n_units: int) -> tuple[tuple[Part, ...], float]:
    """What so many units hold, and what writing them takes, were they one layer."""
    sums = SUM * shape.n_rows * n_units
    drawn = FLOAT * shape.n_drawn * n_units
    # The means are divided, rounded and turned around; the maxima are sorted.
    return (Part("token sums", sums), Part("window maxima", drawn)), max(1.5 * sums, 4 * drawn)


def _record_parts(_shape: Shape, plan: CollectPlan, n_units: int) -> tuple[tuple[Part, ...], float]:
    window = KEY + FLOAT * plan.n_ctx
    top = n_units * plan.top_k * window
    bands = n_units * (len(BAND_QUANTILES) + 1) * plan.n_a_band * window
    random = n_units * plan.n_random * FLOAT * plan.n_ctx
    parts = (
        Part("top windows", top),
        Part("bands", bands),
        Part("random windows", random),
        Part("moments", n_units * 5 * SUM),
    )
    return parts, 2 * (top + bands) + random  # the rows are sorted and rounded
