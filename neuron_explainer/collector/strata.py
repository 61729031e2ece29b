"""Bands of the per-window maximum: how many windows fall in each, and a uniform sample of them.

The boundaries are quantiles over fit windows, frozen before the first record window is seen. A
band keeps the windows with the smallest hash(seed, window id): a uniform sample that depends on
no order. A unit's top windows belong to no band: the top hands on whatever it displaces, so that
each window is counted exactly once, in the top or in a band.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from neuron_explainer.collector.plans import BAND_QUANTILES
from neuron_explainer.collector.top_k import BestWindows, Entries, Rows

N_COMMON = 2
"""The lowest bands, which hold nine windows in ten."""


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

    def tensors(self) -> dict[str, Tensor]:
        kept = {f"band_{name}": tensor for name, tensor in self.kept.tensors().items()}
        return {"boundaries": self.boundaries, "population": self.population, **kept}

    def add(
        self,
        maxima: Tensor,
        keys: Tensor,
        rows: Callable[[Tensor, Tensor], Tensor],
        in_top: tuple[Tensor, Tensor],
    ) -> None:
        """One block's windows, but for those in a unit's top.

        maxima: (window, unit), -inf where no position counts; keys: (window,), see `hash_keys`;
        rows: windows (n,) and units (n,) -> their activations (n, seq); in_top: the windows (n,)
        and units (n,) of the pairs that are in the top.
        """
        self._count_all(maxima)
        self._count(self._groups(maxima[in_top], in_top[1]), -1)
        might = maxima >= self.boundaries[:, N_COMMON - 1]  # (window, unit)
        might[keys > self._loosest_common_floor()] = True
        might &= maxima > -torch.inf
        might[in_top] = False
        window, unit = might.nonzero(as_tuple=True)
        groups = self._groups(maxima[window, unit], unit)
        contends = keys[window] > self.kept.floor[groups]
        window, unit = window[contends], unit[contends]
        self._offer(groups[contends], keys[window], lambda i: rows(window[i], unit[i]))

    def add_displaced(self, displaced: Entries, maxima: Tensor, keys: Tensor) -> None:
        """Windows that a unit's top let go; `displaced.groups` are units; the others (n,)."""
        groups = self._groups(maxima, displaced.groups)
        self._count(groups, 1)
        self._offer(groups, keys, lambda i: displaced.rows[i])

    def absorb(self, other: Bands) -> None:
        """Adds the bands of other windows."""
        self.population += other.population
        groups, keys, rows = other.kept.entries()
        self.kept.offer(groups, keys, lambda i: rows[i])

    def _count_all(self, maxima: Tensor) -> None:
        """Every window of a block, (window, unit), in the band of its maximum."""
        at_least = [maxima > -torch.inf, *(maxima >= edge for edge in self.boundaries.T)]
        counts = torch.stack([inside.sum(0) for inside in at_least], dim=1)  # (unit, band)
        self.population += counts
        self.population[:, :-1] -= counts[:, 1:]

    def _loosest_common_floor(self) -> Tensor:
        """(): a window must beat it to enter any common band; few do, once many were seen."""
        return self.kept.floor.view(-1, self.n_bands)[:, :N_COMMON].amin()

    def _count(self, groups: Tensor, sign: int) -> None:
        self.population.view(-1).index_add_(0, groups, torch.full_like(groups, sign))

    def _groups(self, maxima: Tensor, units: Tensor) -> Tensor:
        """Maxima of windows (n,) and units (n,) -> the group of the unit's band (n,)."""
        bands = (maxima.unsqueeze(1) >= self.boundaries[units]).sum(1)
        return units * self.n_bands + bands

    def _offer(self, groups: Tensor, keys: Tensor, rows: Rows) -> None:
        groups, order = groups.sort()
        self.kept.offer(groups, keys[order], lambda i: rows(order[i]))
