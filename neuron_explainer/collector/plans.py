"""Every choice of a collection; no torch here, so that flags can be read without it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

MIN_INTERVAL_S = 20.0
"""Between two checkpoints."""
BAND_QUANTILES = (0.5, 0.9, 0.99, 0.999)
"""Of the per-window maximum, where the bands begin; those of the published
random_sample_by_quantile."""


class Cut(StrEnum):
    """Which windows of a document are taken."""

    ALL = "all"
    """All consecutive ones; the last may be short."""
    ONE = "one"
    """One at random (Bills et al. 2023)."""


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """Everything that decides which windows a corpus gives."""

    n_ctx: int = 64
    """Longest window, in tokens."""
    n_tokens: int = 1_500_000
    """Stop once this many tokens lie in windows."""
    cut: Cut = Cut.ALL
    max_a_document: int | None = None
    """At most this many windows of one document, spread evenly over it; None: no limit."""
    fit_share: float = 0.5
    """Expected share of documents that statistics are fitted on."""
    max_overlap: float = 0.5
    """A window of which a larger share repeats earlier windows is left out; 1: none is."""
    min_tokens: int = 1
    """A shorter window is left out."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class CollectPlan:
    """Everything that decides what is kept of a table of windows."""

    n_ctx: int = 64
    """Longest window, in tokens."""
    block_size: int = 64
    """Windows a forward pass."""
    top_k: int = 20
    n_a_band: int = 10
    n_random: int = 32
    n_boundary_windows: int = 2048
    """Fit windows that the band boundaries are quantiles of."""
    token_means_gb: float = 2.0
    """Size of the token sums of all layers."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several processes that each read a part of the blocks."""

    number: int = 1
    """From 1."""
    n_shards: int = 1

    def takes(self, block_number: int) -> bool:
        return block_number % self.n_shards == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.n_shards}"
