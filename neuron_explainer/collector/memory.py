"""What a collection will hold in memory, and how many layers are read at a time so that it fits.

Layers that do not fit are read in a pass of their own over the text. No result depends on it: a
layer's activations are the same whichever layers are read beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neuron_explainer.collector.plans import CollectPlan
from neuron_explainer.collector.strata import BAND_QUANTILES
from neuron_explainer.errors import UsageError

GB = 1e9
FLOAT, KEY, SUM = 4, 8, 8
"""Bytes."""
BLOCK_COPIES = 6
"""Copies of a block's activations, in float32, that a forward pass and its reduction hold."""


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
    n_random: int
    """Random windows."""


def plan_memory(
    shape: Shape, plan: CollectPlan, *, used_bytes: float, budget_bytes: float
) -> MemoryPlan:
    """The largest group of layers whose peak lies within the budget.

    used_bytes: of the process before it starts. UsageError when one layer does not fit.
    """
    for n_layers in range(shape.n_layers, 0, -1):
        passes = (_fit_parts(shape, n_layers), _record_parts(shape, plan, n_layers))
        largest = max(passes, key=lambda parts: sum(part.size_bytes for part in parts))
        parts = (
            Part("program and model", used_bytes),
            *largest,
            Part("a block", BLOCK_COPIES * FLOAT * plan.block_size * plan.n_ctx * shape.n_units),
        )
        n_groups = -(-shape.n_layers // n_layers)
        found = MemoryPlan(n_layers, n_groups, parts, budget_bytes)
        if found.peak_bytes <= budget_bytes:
            return found
    raise UsageError(
        f"one layer at a time needs {found.peak_bytes / GB:.2f} GB and {budget_bytes / GB:.2f} GB "
        "are there; give more with --memory-gb, or less with --token-means-gb, --n-random or "
        "--block-size"
    )


def _fit_parts(shape: Shape, n_layers: int) -> Sequence[Part]:
    sums = SUM * shape.n_rows * shape.n_units
    drawn = FLOAT * shape.n_drawn * shape.n_units
    # One layer's means are divided, rounded and turned around; its maxima are sorted.
    writing = max(1.5 * sums, 4 * drawn)
    return (
        Part("token sums", n_layers * sums),
        Part("window maxima", n_layers * drawn),
        Part("writing", writing),
    )


def _record_parts(shape: Shape, plan: CollectPlan, n_layers: int) -> Sequence[Part]:
    window = KEY + FLOAT * plan.n_ctx
    n_bands = len(BAND_QUANTILES) + 1
    top = shape.n_units * plan.top_k * window
    bands = shape.n_units * n_bands * plan.n_a_band * window
    random = shape.n_units * shape.n_random * FLOAT * plan.n_ctx
    return (
        Part("top windows", n_layers * top),
        Part("bands", n_layers * bands),
        Part("random windows", n_layers * random),
        Part("moments", n_layers * shape.n_units * 4 * SUM),
        Part("writing", 2 * (top + bands) + random),  # one layer's rows are sorted and rounded
    )
