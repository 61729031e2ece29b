"""Mean and central moments of every unit of a layer, from power sums; how often it is positive.

Sums of (x − c)^p, p = 1..4, about a centre c near the mean, so that nothing cancels. The powers of
a tile are taken in float32, in buffers that are used again; sums of 64 tokens are float32, and all
further ones float64, in an order that depends on the number of tokens alone.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from neuron_explainer.collector.sums import ROWS_A_SUM, add_in_turn, sum_groups

TILE_ELEMENTS = 1 << 20


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
        device = centre.device
        self._centre = centre.float()
        self._sums = torch.zeros(4, len(centre), dtype=torch.float64, device=device)
        self.n_tokens = torch.zeros(1, dtype=torch.int64, device=device)
        self.n_positive = torch.zeros(len(centre), dtype=torch.int64, device=device)  # (unit,)

    def tensors(self) -> dict[str, Tensor]:
        return {
            "power_sums": self._sums,
            "n_tokens": self.n_tokens,
            "n_positive": self.n_positive,
        }

    def add(self, activations: Tensor) -> Tensor:
        """activations: (token, unit) -> the sums so far, (power, unit)."""
        n_tokens, n_units = activations.shape
        n_rows = max(1, TILE_ELEMENTS // n_units // ROWS_A_SUM) * ROWS_A_SUM
        buffers = _Buffers.of(min(n_rows, n_tokens), n_units, activations.device)
        for tile in activations.split(n_rows):
            self.n_positive += buffers.count_positive(tile)
            add_in_turn(self._sums, buffers.sum_powers(tile, self._centre))
        self.n_tokens += n_tokens
        return self._sums

    def absorb(self, other: PowerSums) -> None:
        """Adds the sums over other tokens, about the same centre."""
        self._sums += other._sums
        self.n_tokens += other.n_tokens
        self.n_positive += other.n_positive

    def moments(self) -> UnitMoments:
        m1, m2, m3, m4 = self._sums / self.n_tokens.clamp_min(1)  # about the centre
        variance = (m2 - m1**2).clamp_min(0)
        third = m3 - 3 * m1 * m2 + 2 * m1**3
        fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
        # sums of 64 in float32 are good to about 1e-6 of m2: a variance near that is rounding.
        constant = variance <= 1e-5 * m2
        central = (torch.where(constant, 0.0, moment) for moment in (variance, third, fourth))
        return UnitMoments(self._centre.double() + m1, *central)


class _Buffers(NamedTuple):
    """Where a tile's powers are put, so that no memory is asked for while blocks stream past."""

    first: Tensor
    """(row, unit)"""
    square: Tensor

    @classmethod
    def of(cls, n_rows: int, n_units: int, device: torch.device) -> _Buffers:
        key = (n_rows, n_units, device)
        if key not in _kept:
            _kept.clear()
            _kept[key] = cls(*(torch.empty(n_rows, n_units, device=device) for _ in range(2)))
        return _kept[key]

    def count_positive(self, tile: Tensor) -> Tensor:
        """tile: (row, unit) -> rows above 0, (unit,) int64; whole numbers are exact in float32."""
        is_positive = torch.gt(tile, 0, out=self.first[: len(tile)])
        return sum_groups(is_positive).sum(0).long()

    def sum_powers(self, tile: Tensor, centre: Tensor) -> Tensor:
        """tile: (row, unit) -> sums of (tile − centre)^p over groups of rows, (group, 4, unit)."""
        first, square = (buffer[: len(tile)] for buffer in self)
        first.copy_(tile).sub_(centre)
        torch.mul(first, first, out=square)
        sums = [sum_groups(first), sum_groups(square)]
        sums += [sum_groups(first.mul_(square)), sum_groups(square.mul_(square))]
        return torch.stack(sums, dim=1)


_kept: dict[tuple[int, int, torch.device], _Buffers] = {}
"""The buffers of the shape that was last asked for: all layers of a model share them."""
