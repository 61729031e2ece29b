"""Mean activation of every unit on every token: the token lookup table (Bills et al. 2023).

The most frequent tokens that fit the size asked for have a row each; all others share the last one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from neuron_explainer.collector.sums import add_in_turn

BYTES_A_SUM = 8


class Coverage(NamedTuple):
    """Which tokens have a row of their own."""

    token_ids: NDArray[np.int64]
    """(row,) most frequent first."""
    share: float
    """Share of the fit text's tokens that have a row of their own."""


def plan_coverage(counts: NDArray[np.int64], n_units: int, size_bytes: float) -> Coverage:
    """The most frequent tokens whose sums for `n_units` units fit; ties go to the lower id.

    counts: (vocabulary,) occurrences in the fit text. Tokens that never occur get no row.
    """
    n_rows = max(0, int(size_bytes // (BYTES_A_SUM * n_units)) - 1)
    order = np.argsort(-counts, kind="stable")[: min(n_rows, int((counts > 0).sum()))]
    share = float(counts[order].sum() / max(1, counts.sum()))
    return Coverage(order.astype(np.int64), share)


class TokenGroups(NamedTuple):
    """The tokens of a block, sorted by row."""

    order: Tensor
    """(token,) places in the block, all of one row next to each other."""
    rows: Tensor
    """(group,) distinct rows."""
    counts: Tensor
    """(group,)"""


class TokenRows:
    """The row of each token id; all layers share it, and what it last sorted."""

    def __init__(self, coverage: Coverage, n_vocabulary: int, device: torch.device) -> None:
        self.n_rows = len(coverage.token_ids) + 1
        """The shared row, which is the last, included."""
        self._row_of = torch.full((n_vocabulary,), self.n_rows - 1, device=device)  # (vocabulary,)
        self._row_of[torch.from_numpy(coverage.token_ids).to(device)] = torch.arange(
            self.n_rows - 1, device=device
        )
        self._last: tuple[Tensor, TokenGroups] | None = None
        self._floats: Tensor | None = None

    def group(self, tokens: Tensor) -> TokenGroups:
        """tokens: any shape, in the order of the activations that belong to them."""
        if self._last is None or self._last[0] is not tokens:
            rows, order = self._row_of[tokens.flatten()].sort(stable=True)  # (token,)
            distinct, counts = rows.unique_consecutive(return_counts=True)
            self._last = (tokens, TokenGroups(order, distinct, counts))
        return self._last[1]

    def in_float32(self, activations: Tensor) -> Tensor:
        """As they are, or in a buffer that all layers use in turn."""
        if activations.dtype == torch.float32:
            return activations
        if self._floats is None or self._floats.shape != activations.shape:
            self._floats = torch.empty_like(activations, dtype=torch.float32)
        return self._floats.copy_(activations)


class TokenSums:
    """Sums of one layer's activations by row, (row, unit) float64, and how many."""

    def __init__(self, rows: TokenRows, n_units: int, device: torch.device) -> None:
        self._rows = rows
        self.sums = torch.zeros(rows.n_rows, n_units, dtype=torch.float64, device=device)
        self.counts = torch.zeros(rows.n_rows, dtype=torch.int64, device=device)

    def tensors(self) -> dict[str, Tensor]:
        return {"token_sums": self.sums, "token_counts": self.counts}

    def add(self, tokens: Tensor, activations: Tensor) -> Tensor:
        """tokens: (token,) or (batch, seq); activations: (token, unit) -> what was added."""
        order, rows, counts = self._rows.group(tokens)
        # One block holds few of each token, so float32 within it and float64 across blocks.
        offsets = counts.cumsum(0) - counts
        floats = self._rows.in_float32(activations)
        added = F.embedding_bag(order, floats, offsets, mode="sum")  # (group, unit)
        self.sums.index_add_(0, rows, added.double())
        self.counts.index_add_(0, rows, counts)
        return added

    def absorb(self, other: TokenSums) -> None:
        """Adds the sums over other tokens."""
        self.sums += other.sums
        self.counts += other.counts

    def means(self) -> Tensor:
        """(row, unit) float32; the mean over all tokens where a row never occurred."""
        counts = self.counts.unsqueeze(1)  # (row, 1)
        total = torch.zeros_like(self.sums[0])  # (unit,)
        add_in_turn(total, self.sums)
        overall = total / self.counts.sum().clamp_min(1)  # (unit,)
        return torch.where(counts > 0, self.sums / counts.clamp_min(1), overall).float()
