"""Context means: a unit's mean activation by the last two or three tokens, over the fit text.

The token lookup table (Bills et al. 2023) knows the current token alone. Here the same text is
counted by the tokens before it, as in n-gram models with back-off (Katz 1987): the mean of a longer
context is drawn towards what the next shorter one says, the more so the rarer it is, and only those
are kept of a unit that say most beyond it.

    value(pair)   = (sum(pair)   + S · table(token)) / (count(pair)   + S)
    value(triple) = (sum(triple) + S · value(pair))  / (count(triple) + S)
    effect(prev)  = (sum(prev)   − sum of table(token) behind it) / (count(prev) + S')
    effect(place) = mean of activation − table(token) at the first, second, … place of a window
    what is kept: the M largest count · (value − value of the shorter context)²
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor

from neuron_explainer.stores.windows import FIT, WindowTable

NOT_MEANT = -1
"""In place of a token: every token fits, or nothing is said of that place."""
MIN_COUNT = 3
"""Pairs and triples that the fit text has less often are left out."""
MIN_COUNT_BEFORE = 20
"""The same for a token before any other."""
SHRINKAGE = 2.0
"""S: as many occurrences as the shorter context counts for."""
SHRINKAGE_BEFORE = 20.0
"""S': the same for a token before any other."""
MOST_FOLLOWED = 20_000_000
"""Different pairs, and triples, that are counted at the same time."""
N_PLACES = 4
"""At a window's beginning, where less text stands before a token than the table is a mean over."""
UNITS_AT_ONCE = 64

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


class Counted(NamedTuple):
    """Keys of contexts, ascending, and how often the fit text has them."""

    keys: Ints
    counts: Ints


@dataclass(frozen=True, slots=True)
class ContextPlan:
    """The contexts that are followed, a row each: pairs, triples, tokens before any, and places."""

    n_vocabulary: int
    pairs: Counted
    """Key: previous · vocabulary + current."""
    triples: Counted
    """Key: (the one before · vocabulary + previous) · vocabulary + current."""
    before: Counted
    """Key: the previous token."""
    all_pairs: Counted
    """Every pair of the fit text, for what stands behind a token."""
    at_places: csr_matrix
    """(place, vocabulary) how often each token stands there."""

    @property
    def n_contexts(self) -> int:
        return len(self.pairs.keys) + len(self.triples.keys) + len(self.before.keys)

    def tokens(self) -> NDArray[np.int32]:
        """(context, 3) ids in the text's order, NOT_MEANT where a row does not say."""
        n = self.n_vocabulary
        rows = np.full((self.n_contexts, 3), NOT_MEANT, dtype=np.int32)
        n_pairs, n_triples = len(self.pairs.keys), len(self.triples.keys)
        rows[:n_pairs, 1:] = _digits(self.pairs.keys, n, 2)
        rows[n_pairs : n_pairs + n_triples] = _digits(self.triples.keys, n, 3)
        rows[n_pairs + n_triples :, 1] = self.before.keys
        return rows


def plan_contexts(
    table: WindowTable, n_vocabulary: int, most_rows: int, *, most_followed: int = MOST_FOLLOWED
) -> ContextPlan:
    """The most frequent contexts of the fit windows, at most so many in all.

    A triple is followed only where the pair at its end is. Of those that are as frequent as the
    first that finds no room, none is followed.
    """
    pairs, triples, at_places = _count(table, n_vocabulary, most_followed)
    before = _sum_by(pairs.keys // n_vocabulary, pairs.counts)
    before = _most_frequent(before, MIN_COUNT_BEFORE, most_rows // 8)
    left = most_rows - len(before.keys)
    both = np.concatenate([pairs.counts, triples.counts])
    least = MIN_COUNT
    if (both >= MIN_COUNT).sum() > left:
        least = int(np.sort(both)[::-1][left])  # the first count that finds no room
        least = max(MIN_COUNT, least + 1)
    kept_pairs = _most_frequent(pairs, least, left)
    kept_triples = _most_frequent(triples, least, left)
    ends = np.isin(kept_triples.keys % n_vocabulary**2, kept_pairs.keys)
    kept_triples = Counted(kept_triples.keys[ends], kept_triples.counts[ends])
    return ContextPlan(n_vocabulary, kept_pairs, kept_triples, before, pairs, at_places)


class ContextSums:
    """Sums of activations by context, of some units of one layer."""

    def __init__(self, plan: ContextPlan, n_units: int) -> None:
        self.plan = plan
        n_rows = plan.n_contexts + N_PLACES
        self.sums = torch.zeros(n_rows, n_units)  # (row, unit)
        self.counts = torch.zeros(n_rows, dtype=torch.int64)
        """Of the positions that count, which may be fewer than the plan's."""

    def add(self, places: Tensor, rows: Tensor, activations: Tensor) -> None:
        """places, rows: see `find_rows`; activations: (position, unit) of a block, flat."""
        self.sums.index_add_(0, rows, activations[places])
        self.counts += torch.bincount(rows, minlength=len(self.counts))


def find_rows(plan: ContextPlan, tokens: Tensor, counted: Tensor | None) -> tuple[Tensor, Tensor]:
    """tokens: (window, seq) ids -> flat positions of a block and the rows that are theirs.

    A position has up to four rows. counted: (window, seq) bool; None: every position counts.
    """
    ids = tokens.numpy().astype(np.int64)
    n, n_pairs, n_triples = plan.n_vocabulary, len(plan.pairs.keys), len(plan.triples.keys)
    pairs = ids[:, :-1] * n + ids[:, 1:]
    found = np.full((4, *ids.shape), -1, dtype=np.int64)
    found[0, :, 1:] = _find(plan.pairs.keys, pairs, 0)
    found[1, :, 2:] = _find(plan.triples.keys, pairs[:, :-1] * n + ids[:, 2:], n_pairs)
    found[2, :, 1:] = _find(plan.before.keys, ids[:, :-1], n_pairs + n_triples)
    n_first = min(N_PLACES, ids.shape[1])
    found[3, :, :n_first] = plan.n_contexts + np.arange(n_first)
    if counted is not None:
        found[:, ~counted.numpy()] = -1
    flat = found.reshape(4, -1)
    family, places = np.nonzero(flat >= 0)
    return torch.from_numpy(places), torch.from_numpy(flat[family, places])


class UnitContexts(NamedTuple):
    """The contexts that say most of some units, in order of their rows."""

    rows: NDArray[np.int32]
    """(unit, kept) rows of the plan; -1: no more."""
    values: Floats
    """(unit, kept) expected activation; of tokens before any other: what they add."""
    by_place: Floats
    """(unit, place) what the first places of a window add."""


def choose_contexts(
    sums: ContextSums,
    table_means: Callable[[slice], Floats],
    n_kept: int,
    *,
    units_at_once: int = UNITS_AT_ONCE,
) -> UnitContexts:
    """table_means: of some of the units (unit, vocabulary), what the token lookup tables say."""
    plan = sums.plan
    n_kept = min(n_kept, plan.n_contexts)
    n_units = sums.sums.shape[1]
    rows = np.full((n_units, n_kept), -1, dtype=np.int32)
    values = np.zeros((n_units, n_kept), dtype=np.float32)
    by_place = np.zeros((n_units, N_PLACES), dtype=np.float32)
    behind = _behind(plan)
    counts = sums.counts[: plan.n_contexts].numpy()
    place_counts = sums.counts[plan.n_contexts :].numpy()[:, None]
    for first in range(0, n_units, units_at_once):
        some = slice(first, min(n_units, first + units_at_once))
        own, means = sums.sums[:, some].numpy(), table_means(some).T
        value, effect = _effects(plan, counts, own[: plan.n_contexts], means, behind)
        at_place = own[plan.n_contexts :] / np.maximum(place_counts, 1)  # (place, unit)
        added = at_place - _mean_of(plan.at_places, means)
        by_place[some] = np.where(place_counts > 0, added, 0).T  # a place that never counts
        gain = counts[:, None] * effect**2  # (context, unit)
        best = _largest(gain, n_kept)
        is_kept = np.take_along_axis(gain, best, 0) > 0
        rows[some] = np.where(is_kept, best, -1).T
        values[some] = np.where(is_kept, np.take_along_axis(value, best, 0), 0).T
    return UnitContexts(rows, values, by_place)


def _largest(gain: NDArray[np.floating], n_kept: int) -> NDArray[np.intp]:
    """gain: (context, unit) -> (kept, unit) rows, ascending."""
    if n_kept == 0:
        return np.empty((0, gain.shape[1]), np.intp)
    best = np.argpartition(-gain, n_kept - 1, axis=0)[:n_kept]
    best.sort(axis=0)
    return best


def _effects(
    plan: ContextPlan, counts: Ints, sums: Floats, means: Floats, behind: csr_matrix
) -> tuple[Floats, Floats]:
    """(row, unit) values, and how far they lie from those of the next shorter context.

    sums: (row, unit); means: (vocabulary, unit); behind: (before row, vocabulary) counts.
    """
    n, n_pairs, n_triples = plan.n_vocabulary, len(plan.pairs.keys), len(plan.triples.keys)
    of_pairs, of_triples = slice(0, n_pairs), slice(n_pairs, n_pairs + n_triples)
    of_before = slice(n_pairs + n_triples, None)
    value, effect = np.empty_like(sums), np.empty_like(sums)
    weight = counts[:, None].astype(np.float32)

    shorter = means[plan.pairs.keys % n]
    value[of_pairs] = (sums[of_pairs] + SHRINKAGE * shorter) / (weight[of_pairs] + SHRINKAGE)
    effect[of_pairs] = value[of_pairs] - shorter

    shorter = value[np.searchsorted(plan.pairs.keys, plan.triples.keys % n**2)]
    value[of_triples] = (sums[of_triples] + SHRINKAGE * shorter) / (weight[of_triples] + SHRINKAGE)
    effect[of_triples] = value[of_triples] - shorter

    expected = weight[of_before] * _mean_of(behind, means)
    effect[of_before] = (sums[of_before] - expected) / (weight[of_before] + SHRINKAGE_BEFORE)
    value[of_before] = effect[of_before]
    return value, effect


def _mean_of(counts: csr_matrix, means: Floats) -> Floats:
    """(row, unit) of means (vocabulary, unit), weighted by each row's counts of tokens."""
    n = np.maximum(np.asarray(counts.sum(1)), 1)  # (row, 1)
    return ((counts @ means) / n).astype(np.float32)


def _behind(plan: ContextPlan) -> csr_matrix:
    """(before row, vocabulary) how often each token stands behind."""
    previous, current = np.divmod(plan.all_pairs.keys, plan.n_vocabulary)
    row = _find(plan.before.keys, previous, 0)
    kept = row >= 0
    shape = (len(plan.before.keys), plan.n_vocabulary)
    counts = plan.all_pairs.counts[kept].astype(np.float32)
    return csr_matrix((counts, (row[kept], current[kept])), shape=shape)


def _count(
    table: WindowTable, n_vocabulary: int, most_followed: int
) -> tuple[Counted, Counted, csr_matrix]:
    """Pairs and triples of the fit windows, and tokens by place."""
    at_places = np.zeros((N_PLACES, n_vocabulary), dtype=np.float32)
    nothing = Counted(np.empty(0, np.int64), np.empty(0, np.int64))
    pairs, triples = nothing, nothing
    for ids in table.ids(FIT):
        lengths = table.lengths(ids)
        for length in np.unique(lengths):
            block = table.block(ids[lengths == length])  # (window, seq)
            for place in range(min(N_PLACES, length)):
                at_places[place] += np.bincount(block[:, place], minlength=n_vocabulary)
            of_two = block[:, :-1] * n_vocabulary + block[:, 1:]
            of_three = of_two[:, :-1] * n_vocabulary + block[:, 2:]
            pairs = _add(pairs, of_two.ravel(), most_followed)
            triples = _add(triples, of_three.ravel(), most_followed)
    return pairs, triples, csr_matrix(at_places)


def _add(counted: Counted, keys: Ints, most_followed: int) -> Counted:
    """With more than `most_followed` of them, those seen once so far are dropped."""
    new = Counted(*np.unique(keys, return_counts=True))
    both = _sum_by(
        np.concatenate([counted.keys, new.keys]), np.concatenate([counted.counts, new.counts])
    )
    if len(both.keys) > most_followed:
        both = Counted(both.keys[both.counts > 1], both.counts[both.counts > 1])
    return both


def _sum_by(keys: Ints, counts: Ints) -> Counted:
    unique, inverse = np.unique(keys, return_inverse=True)
    return Counted(unique, np.bincount(inverse, counts, len(unique)).astype(np.int64))


def _most_frequent(counted: Counted, least: int, most: int) -> Counted:
    """Those with at least that count; of more than `most` the most frequent, ties by key."""
    kept = np.flatnonzero(counted.counts >= least)
    if len(kept) > most:
        order = np.argsort(-counted.counts[kept], kind="stable")
        kept = np.sort(kept[order[:most]])
    return Counted(counted.keys[kept], counted.counts[kept])


def _find(keys: Ints, wanted: Ints, first_row: int) -> Ints:
    """Rows of the keys that are followed, -1 for others."""
    if not len(keys):
        return np.full(wanted.shape, -1, dtype=np.int64)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, place + first_row, -1)


def _digits(keys: Ints, base: int, n_digits: int) -> NDArray[np.int32]:
    """(key, digit), the most significant first."""
    powers = base ** np.arange(n_digits - 1, -1, -1)
    return (keys[:, None] // powers % base).astype(np.int32)
