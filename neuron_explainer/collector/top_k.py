"""The best windows of each unit, kept exactly while blocks stream past.

A window's claim to a place is one 64-bit key, unique within its unit: the quality in the high half
and the window id, inverted, in the low half. The largest keys win, so ties go to the earlier
window and the result is the same for any order and any grouping of the windows. A winner's
activations are copied when it enters; nothing else of a block is kept. A unit takes
k(1 + ln(N/k)) winners on average over N windows in random order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

EMPTY = torch.iinfo(torch.int64).min
"""Key of a place that no window has taken."""
_LOW_HALF = (1 << 32) - 1

Rows = Callable[[Tensor], Tensor]
"""Candidate numbers (n,) -> their activations (n, seq)."""


class Entries(NamedTuple):
    """Windows that hold, or held, a place."""

    groups: Tensor
    """(n,) ascending where nothing else is said."""
    keys: Tensor
    """(n,)"""
    rows: Tensor
    """(n, n_ctx) activations."""

    def where(self, chosen: Tensor) -> Entries:
        """chosen: (n,) bool."""
        return Entries(*(tensor[chosen] for tensor in self))


class Offer(NamedTuple):
    """What became of a set of candidates."""

    accepted: Tensor
    """(candidate,) bool: it holds a place now."""
    displaced: Entries
    """What it pushed out, in any order."""


class BestWindows:
    """The `n_places` best windows of each group (a unit, or a unit's band)."""

    def __init__(self, n_groups: int, n_places: int, n_ctx: int, device: torch.device) -> None:
        self.keys = torch.full((n_groups, n_places), EMPTY, device=device)  # (group, place)
        self.rows = torch.zeros(n_groups, n_places, n_ctx, device=device)  # (group, place, seq)
        self.floor = torch.full((n_groups,), EMPTY, device=device)
        """(group,) smallest key held: a candidate must beat it."""

    def tensors(self) -> dict[str, Tensor]:
        return {"keys": self.keys, "rows": self.rows, "floor": self.floor}

    def offer(self, groups: Tensor, keys: Tensor, rows: Rows) -> Offer:
        """Candidates in any number: `groups` (n,) ascending, `keys` (n,) unique in a group."""
        accepted = torch.zeros_like(groups, dtype=torch.bool)
        if groups.numel() == 0:
            return Offer(accepted, self._take(groups, groups))
        touched, row, column = _positions(groups)  # (h,), (n,), (n,)
        n_places = self.keys.shape[1]
        candidates = torch.full(
            (len(touched), int(column.max()) + 1), EMPTY, device=keys.device
        )  # (h, c)
        candidates[row, column] = keys
        merged = torch.cat([self.keys[touched], candidates], dim=1)  # (h, place + c)
        best = merged.topk(n_places, dim=1, sorted=False).indices
        chosen = torch.zeros_like(merged, dtype=torch.bool).scatter_(1, best, True)
        entering = chosen[:, n_places:] & (candidates > EMPTY)  # (h, c)
        free = ~chosen[:, :n_places]  # (h, place)
        free &= free.cumsum(1) <= entering.sum(1, keepdim=True)
        accepted = entering[row, column]
        place_row, place = free.nonzero(as_tuple=True)  # as many as enter, in the same row order
        displaced = self._take(touched[place_row], place)
        self._put(touched[place_row], place, keys[accepted], rows(accepted.nonzero().squeeze(1)))
        self.floor[touched] = self.keys[touched].amin(1)
        return Offer(accepted, displaced)

    def entries(self) -> Entries:
        """Everything held."""
        return self._take(*(self.keys > EMPTY).nonzero(as_tuple=True))

    def _take(self, groups: Tensor, places: Tensor) -> Entries:
        keys = self.keys[groups, places]
        held = keys > EMPTY
        groups, places = groups[held], places[held]
        return Entries(groups, keys[held], self.rows[groups, places])

    def _put(self, groups: Tensor, places: Tensor, keys: Tensor, rows: Tensor) -> None:
        n_seq = rows.shape[1]
        self.keys[groups, places] = keys
        self.rows[groups, places, :n_seq] = rows.to(self.rows.dtype)
        self.rows[groups, places, n_seq:] = 0

    def sorted(self) -> tuple[Tensor, Tensor]:
        """(window ids (group, place), rows (group, place, seq)), best first; id -1: no window."""
        keys, order = self.keys.sort(dim=1, descending=True)
        rows = self.rows.gather(1, order.unsqueeze(2).expand_as(self.rows))
        return torch.where(keys > EMPTY, window_ids_of(keys), -1), rows


def value_keys(values: Tensor, window_ids: Tensor) -> Tensor:
    """Keys that rank by value, largest first: values (...) finite, window ids broadcast to it."""
    bits = (values.float() + 0.0).contiguous().view(torch.int32).long()  # + 0.0: no negative zero
    ordered = torch.where(bits < 0, bits ^ 0x7FFF_FFFF, bits)
    return (ordered << 32) | (_LOW_HALF - window_ids)


def least_values_of(floor: Tensor) -> Tensor:
    """Floors of value keys -> the least value that can still beat them.

    Any finite one does where a place is free.
    """
    return torch.where(floor > EMPTY, values_of(floor), torch.finfo(torch.float32).min)


def hash_keys(hashes: Tensor, window_ids: Tensor) -> Tensor:
    """Keys that rank by hash, smallest first: hashes in 0..2^31 - 1."""
    return ((0x7FFF_FFFF - hashes) << 32) | (_LOW_HALF - window_ids)


def window_ids_of(keys: Tensor) -> Tensor:
    return _LOW_HALF - (keys & _LOW_HALF)


def values_of(keys: Tensor) -> Tensor:
    """The float32 values that `value_keys` packed."""
    ordered = keys >> 32
    bits = torch.where(ordered < 0, ordered ^ 0x7FFF_FFFF, ordered)
    return bits.to(torch.int32).view(torch.float32)


def _positions(groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Ascending groups (n,) -> distinct groups (h,), each entry's row (n,) and rank in it (n,)."""
    touched, row, counts = groups.unique_consecutive(return_inverse=True, return_counts=True)
    first = counts.cumsum(0) - counts
    return touched, row, torch.arange(len(groups), device=groups.device) - first[row]
