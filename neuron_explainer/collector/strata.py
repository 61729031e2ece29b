"""Bands of the per-window maximum: how many windows fall in each, and a uniform sample of them.

The boundaries are quantiles over fit windows, frozen before the first record window is seen. A
band keeps the windows with the smallest hash(seed, window id): a uniform sample that depends on
no order. A unit's top windows belong to no band: the top hands on whatever it displaces, so that
each window is counted exactly once, in the top or in a band.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from neuron_explainer.collector.top_k import BestWindows, Displaced, Rows, hash_keys

BAND_QUANTILES = (0.5, 0.9, 0.99, 0.999)
"""Those of the published random_sample_by_quantile."""


def band_boundaries(maxima: Tensor, quantiles: Sequence[float] = BAND_QUANTILES) -> Tensor:
    """maxima: (window, unit) of fit windows -> (unit, boundary), ascending.

    A boundary is an observed maximum: the smallest with at least that share at or below it.
    """
    ordered = maxima.float().sort(dim=0).values  # (window, unit)
    n_windows = len(ordered)
    ranks = [max(0, math.ceil(q * n_windows) - 1) for q in quantiles]
    return ordered[ranks].T.contiguous()


class Bands:
    """The bands of one layer's units. A window is in band b when b boundaries are ≤ its maximum."""

    def __init__(self, boundaries: Tensor, n_a_band: int, n_ctx: int) -> None:
        """boundaries: (unit, boundary) ascending."""
        n_units, n_boundaries = boundaries.shape
        self.boundaries = boundaries
        self.n_bands = n_boundaries + 1
        device = boundaries.device
        self.population = torch.zeros(n_units, self.n_bands, dtype=torch.int64, device=device)
        self.kept = BestWindows(n_units * self.n_bands, n_a_band, n_ctx, device)

    def add(
        self, activations: Tensor, maxima: Tensor, ids: Tensor, hashes: Tensor, in_top: Tensor
    ) -> None:
        """One block's windows, but for those in a unit's top.

        activations: (window, seq, unit); maxima, in_top: (window, unit); ids, hashes: (window,).
        """
        n_units = maxima.shape[1]
        bands = torch.zeros_like(maxima, dtype=torch.int64)  # (window, unit)
        for edge in self.boundaries.T:
            bands += maxima >= edge
        for band in range(self.n_bands):
            self.population[:, band] += ((bands == band) & ~in_top).sum(0)
        groups = torch.arange(n_units, device=maxima.device) * self.n_bands + bands
        keys = hash_keys(hashes, ids)  # (window,)
        contends = (keys.unsqueeze(1) > self.kept.floor[groups]) & ~in_top
        window, unit = contends.nonzero(as_tuple=True)
        by_window = activations.transpose(1, 2)  # (window, unit, seq)
        self._offer(groups[window, unit], keys[window], lambda i: by_window[window[i], unit[i]])

    def add_displaced(
        self, displaced: Displaced, maxima: Tensor, ids: Tensor, hashes: Tensor
    ) -> None:
        """Windows that a unit's top let go; `displaced.groups` are units; the others (n,)."""
        edges = self.boundaries[displaced.groups]  # (n, boundary)
        groups = displaced.groups * self.n_bands + (maxima.unsqueeze(1) >= edges).sum(1)
        self.population.view(-1).index_add_(0, groups, torch.ones_like(groups))
        self._offer(groups, hash_keys(hashes, ids), lambda i: displaced.rows[i])

    def _offer(self, groups: Tensor, keys: Tensor, rows: Rows) -> None:
        groups, order = groups.sort()
        self.kept.offer(groups, keys[order], lambda i: rows(order[i]))
