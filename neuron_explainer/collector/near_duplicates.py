"""Text that has come before: which share of a window repeats earlier windows.

A window's n-grams of token ids are looked up in a Bloom filter of the n-grams of all windows kept
so far; a window most of whose n-grams are there is a near-duplicate, whether it repeats one window
or pieces of several. Left out, no two windows of a run share most of their text, so none of one
split is a near-duplicate of one in another (the leak that Lee et al. 2022 find in web corpora).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

N_GRAM = 8
"""Tokens."""
BITS_A_TOKEN = 12
N_PROBES = 5
"""With 12 bits a token: one n-gram in 200 seems to have come before although it has not."""
MIN_BITS = 1 << 28
"""32 MB, enough for 22 million tokens; a larger filter is a power of two times this."""

SPANS_AT_ONCE = 1024

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


Span = tuple[int, int]
"""(start, length) of a window in its document."""


class SeenText:
    """The n-grams of every window kept."""

    def __init__(self, n_tokens: int) -> None:
        """n_tokens: that may be kept in all."""
        n_bits = MIN_BITS
        while n_bits < BITS_A_TOKEN * n_tokens:
            n_bits *= 2
        self._mask = np.uint64(n_bits - 1)
        self._bits = np.zeros(n_bits // 8, np.uint8)

    def keep_new(
        self, tokens: NDArray[np.int32], spans: Sequence[Span], max_overlap: float
    ) -> list[Span]:
        """The windows of one document that share at most `max_overlap` of their n-grams with
        windows kept before, of this document or another; they are added.

        tokens: (token,) ids of the document; spans: ascending.
        """
        kept: list[Span] = []
        for first in range(0, len(spans), SPANS_AT_ONCE):
            some = spans[first : first + SPANS_AT_ONCE]
            begin, end = some[0][0], max(start + length for start, length in some)
            places = self._places(_hash_grams(tokens[begin:end]))
            for start, length in some:
                grams = slice(start - begin, start - begin + length - N_GRAM + 1)
                if length < N_GRAM:
                    short = _hash_short(tokens[start : start + length])
                    own = self._places(short)
                else:
                    own = _Places(places.bytes[grams], places.bits[grams])
                if self._share(own) <= max_overlap:
                    np.bitwise_or.at(self._bits, own.bytes, own.bits)
                    kept.append((start, length))
        return kept

    def _share(self, places: _Places) -> float:
        """Of the n-grams, that were added before."""
        return float((self._bits[places.bytes] & places.bits).all(axis=1).mean())

    def _places(self, hashes: NDArray[np.uint64]) -> _Places:
        step = _mix(hashes) | np.uint64(1)
        probes = np.arange(N_PROBES, dtype=np.uint64)
        places = (hashes[:, None] + probes * step[:, None]) & self._mask
        bits = np.left_shift(np.uint64(1), places & np.uint64(7)).astype(np.uint8)
        return _Places((places >> np.uint64(3)).astype(np.int64), bits)


class _Places(NamedTuple):
    """Where the filter holds some n-grams."""

    bytes: NDArray[np.int64]
    """(gram, probe)"""
    bits: NDArray[np.uint8]
    """(gram, probe), one bit set in each."""


def _hash_grams(tokens: NDArray[np.int32]) -> NDArray[np.uint64]:
    """(token,) -> (gram,), one for each place that N_GRAM tokens follow."""
    ids = tokens.astype(np.uint64)
    n_grams = max(0, len(ids) - N_GRAM + 1)
    hashes = np.zeros(n_grams, np.uint64)
    for offset in range(N_GRAM):
        hashes = _mix(hashes ^ ids[offset : offset + n_grams])
    return hashes


def _hash_short(tokens: NDArray[np.int32]) -> NDArray[np.uint64]:
    """A window shorter than an n-gram is a gram of its own, (1,)."""
    hashes = np.full(1, len(tokens), np.uint64)
    for token in tokens.astype(np.uint64):
        hashes = _mix(hashes ^ token)
    return hashes


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64 (Steele et al. 2014): its increment and finaliser."""
    x = x + _MULTIPLIER
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
