"""Which windows are drawn without a look at the activations: the smallest hashes win."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuron_explainer.stores.windows import Part, WindowTable


def hash_windows(window_ids: Tensor, seed: int, purpose: str) -> Tensor:
    """A hash in 0..2^31 - 1 of each window id; seeds and purposes give unrelated hashes.

    SplitMix64's finaliser over the id and a 64-bit key.
    """
    digest = hashlib.blake2b(f"{seed}:{purpose}".encode(), digest_size=8).digest()
    x = (window_ids + 1) * _signed(0x9E3779B97F4A7C15) ^ int.from_bytes(digest, "big", signed=True)
    x = (x ^ _shift_right(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift_right(x, 27)) * _signed(0x94D049BB133111EB)
    return _shift_right(x ^ _shift_right(x, 31), 33)


def draw_windows(
    table: WindowTable, part: Part, n_windows: int, seed: int, purpose: str
) -> NDArray[np.int64]:
    """The `n_windows` windows of a part with the smallest hash, by id; all when there are fewer."""
    kept = torch.empty(0, dtype=torch.int64)
    for chunk in table.ids(part):
        ids = torch.cat([kept, torch.from_numpy(chunk)])
        order = hash_windows(ids, seed, purpose).argsort(stable=True)
        kept = ids[order[:n_windows]]
    drawn: NDArray[np.int64] = kept.sort().values.numpy()
    return drawn


def _shift_right(x: Tensor, n_bits: int) -> Tensor:
    """Of 64-bit integers taken as unsigned."""
    return (x >> n_bits) & ((1 << (64 - n_bits)) - 1)


def _signed(constant: int) -> int:
    return constant - (1 << 64) if constant >= 1 << 63 else constant
