"""Mean and central moments of every unit of a layer, from power sums.

Sums of (x − c)^p, p = 1..4, about a centre c near the mean, so that nothing cancels. Powers are
taken in float32 on tiles that stay in the cache, and the tiles' sums are added in float64.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

TILE_ELEMENTS = 1 << 18


class UnitMoments(NamedTuple):
    """All (unit,) float64, the last three about the mean; 0 for a unit that is constant."""

    mean: Tensor
    variance: Tensor
    third: Tensor
    fourth: Tensor


class PowerSums:
    """Sums over all tokens seen so far."""

    def __init__(self, centre: Tensor) -> None:
        """centre: (unit,) near each unit's mean."""
        self._centre = centre.float()
        self._sums = torch.zeros(4, len(centre), dtype=torch.float64, device=centre.device)
        self.n_tokens = 0

    def add(self, activations: Tensor) -> Tensor:
        """activations: (batch, seq, unit) -> the sums so far, (power, unit)."""
        n_units = activations.shape[-1]
        flat = activations.reshape(-1, n_units)  # (token, unit)
        for tile in flat.split(max(1, TILE_ELEMENTS // n_units)):
            first = tile.float() - self._centre  # (token, unit)
            second = first * first
            self._sums[0] += first.sum(0)
            self._sums[1] += second.sum(0)
            self._sums[2] += (second * first).sum(0)
            self._sums[3] += (second * second).sum(0)
        self.n_tokens += len(flat)
        return self._sums

    def moments(self) -> UnitMoments:
        m1, m2, m3, m4 = self._sums / self.n_tokens  # about the centre
        variance = (m2 - m1**2).clamp_min(0)
        third = m3 - 3 * m1 * m2 + 2 * m1**3
        fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
        # float32 sums of a tile are good to about 1e-6 of m2: a variance near that is rounding.
        constant = variance <= 1e-5 * m2
        central = (torch.where(constant, 0.0, moment) for moment in (variance, third, fourth))
        return UnitMoments(self._centre.double() + m1, *central)
