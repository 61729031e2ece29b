"""Mean activation of every unit on every token: the token lookup table (Bills et al. 2023).

The most frequent tokens that fit the memory budget have a row each; all others share the last one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

BYTES_A_SUM = 8


class Coverage(NamedTuple):
    """Which tokens have a row of their own."""

    token_ids: NDArray[np.int64]
    """(row,) most frequent first."""
    counts: NDArray[np.int64]
    """(row + 1,) occurrences in the fit text; the last entry is that of the shared row."""

    @property
    def share(self) -> float:
        """Share of the fit text's tokens that have a row of their own."""
        return float(self.counts[:-1].sum() / max(1, self.counts.sum()))


def plan_coverage(counts: NDArray[np.int64], n_units: int, budget_bytes: float) -> Coverage:
    """The most frequent tokens whose sums for `n_units` units fit; ties go to the lower id.

    counts: (vocabulary,) occurrences in the fit text. Tokens that never occur get no row.
    """
    n_rows = max(0, int(budget_bytes // (BYTES_A_SUM * n_units)) - 1)
    order = np.argsort(-counts, kind="stable")[: min(n_rows, int((counts > 0).sum()))]
    shared = counts.sum() - counts[order].sum()
    return Coverage(order.astype(np.int64), np.append(counts[order], shared))


class TokenSums:
    """Sums of one layer's activations by token, (row + 1, unit) float64."""

    def __init__(self, coverage: Coverage, n_vocabulary: int, n_units: int, device: torch.device):
        n_rows = len(coverage.token_ids)
        self._row_of = torch.full((n_vocabulary,), n_rows, device=device)  # (vocabulary,)
        self._row_of[torch.from_numpy(coverage.token_ids).to(device)] = torch.arange(
            n_rows, device=device
        )
        self._counts = torch.from_numpy(coverage.counts).to(device)
        self.sums = torch.zeros(n_rows + 1, n_units, dtype=torch.float64, device=device)

    def add(self, tokens: Tensor, activations: Tensor) -> Tensor:
        """tokens: (batch, seq); activations: (batch, seq, unit) -> what was added, (row, unit)."""
        rows, order = self._row_of[tokens.flatten()].sort(stable=True)  # (token,)
        distinct, counts = rows.unique_consecutive(return_counts=True)
        flat = activations.reshape(len(order), -1).float()  # (token, unit)
        # One block holds few of each token, so float32 within it and float64 across blocks.
        offsets = counts.cumsum(0) - counts
        added = F.embedding_bag(order, flat, offsets, mode="sum")
        self.sums[distinct] += added
        return added

    def means(self) -> Tensor:
        """(row + 1, unit) float64; the mean over all tokens where a row never occurred."""
        counts = self._counts.unsqueeze(1)  # (row + 1, 1)
        return torch.where(counts > 0, self.sums / counts.clamp_min(1), self.overall_mean())

    def overall_mean(self) -> Tensor:
        """(unit,) over all tokens of the fit text."""
        return self.sums.sum(0) / self._counts.sum()
