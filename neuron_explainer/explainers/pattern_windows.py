"""The windows that a unit's patterns are searched in: seeds, matches, and what follows them.

Steps 1 and 5 of the search (`pattern_search.py`, after Foote et al. 2023); no subject is asked.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from neuron_explainer.records.neuron import NeuronRecord
from neuron_explainer.records.patterns import Before, Lack
from neuron_explainer.records.splits import TOP_SPLITS, Split, split_records

LEAST_BEFORE = 8
"""Strong positions from which on it is said what follows them."""
MOST_BEFORE = 0.5
"""Of the strong activation that must come before one token."""
N_STRONGEST = 6
"""Tokens of a pattern that are told apart by what they account for."""


class Vocabulary(Protocol):
    """Tokens, and what may stand in their place."""

    def display(self, token_id: int) -> str: ...

    def ids_of(self, tokens: Sequence[str]) -> list[int]: ...

    def neighbours(self, token_id: int) -> Sequence[int]:
        """Nearest in the embedding, then other spellings; never the token itself."""


class SearchedWindows(NamedTuple):
    """A row each, padded on the right."""

    ids: NDArray[np.int64]
    """(window, seq); -1: no token."""
    activations: NDArray[np.float64]
    """(window, seq); NaN where there is none, or it does not count."""
    weights: NDArray[np.float64]
    """(window,) windows of the record text that each stands for."""
    n_top: int
    """The first so many are of the unit's strongest."""

    def read(self, seed: Seed, n_tokens: int) -> tuple[float | None, ...]:
        """Activations of the last tokens of a seed's text; None: the position does not count."""
        row = self.activations[seed.window, seed.place + 1 - n_tokens : seed.place + 1].tolist()
        return tuple(None if math.isnan(a) else a for a in row)


class Seed(NamedTuple):
    """A strong position that no pattern accounts for yet."""

    window: int
    place: int
    activation: float
    text: tuple[int, ...]
    """Up to the place, the longest that is tried."""


class IdPattern(NamedTuple):
    """A pattern in token ids."""

    sets: tuple[frozenset[int] | None, ...]
    at_start: bool = False
    lack: Lack | None = None


def read_windows(record: NeuronRecord, vocabulary: Vocabulary) -> SearchedWindows:
    """Those of the train split, then those of the bands; none of them is in another split."""
    top = split_records(record, Split.TRAIN, n_per_split=len(record.top)).top
    weighted = [(window, float(len(TOP_SPLITS))) for window in top]
    for stratum in record.strata:
        population = stratum.population if stratum.population is not None else 1
        weight = population / max(1, len(stratum.records))
        weighted.extend((window, weight) for window in stratum.records)
    n_seq = max((len(window.tokens) for window, _ in weighted), default=0)
    ids = np.full((len(weighted), n_seq), -1, dtype=np.int64)
    activations = np.full((len(weighted), n_seq), np.nan)
    for i, (window, _) in enumerate(weighted):
        ids[i, : len(window.tokens)] = vocabulary.ids_of(window.tokens)
        activations[i, : len(window.tokens)] = [
            np.nan if a is None else a for a in window.activations
        ]
    weights = np.array([weight for _, weight in weighted])
    return SearchedWindows(ids, activations, weights, n_top=len(top))


def find_strong(windows: SearchedWindows, share: float) -> NDArray[np.bool_]:
    """(window, seq) whether the activation is positive and that share of the largest."""
    largest = np.nanmax(windows.activations, initial=0.0)
    with np.errstate(invalid="ignore"):
        strong: NDArray[np.bool_] = windows.activations >= share * largest
    return strong & (windows.activations > 0)


def find_peaks(windows: SearchedWindows, strong: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(window, seq) the activation at the peak of each of the strongest windows; 0 elsewhere.

    strong: of the same shape; a window without such a position has no peak.
    """
    peaks = np.zeros_like(windows.activations)
    of_top = np.where(strong, windows.activations, 0.0)[: windows.n_top]
    if of_top.size:
        rows, places = np.arange(len(of_top)), of_top.argmax(axis=1)
        peaks[rows, places] = of_top[rows, places]
    return peaks


def next_seed(
    windows: SearchedWindows, open_mass: NDArray[np.float64], least: float, longest: int
) -> Seed | None:
    """The strongest position of the token with most of what is left; None: none has so much.

    open_mass: (window, seq) weighted activation that no pattern accounts for.
    longest: tokens of its text.
    """
    rows, places = np.nonzero(open_mass)
    if not len(rows):
        return None
    inverse = np.unique(windows.ids[rows, places], return_inverse=True)[1]
    of_token = np.bincount(inverse, open_mass[rows, places])
    best = int(np.argmax(of_token))
    if of_token[best] < least:
        return None
    mine = inverse == best
    strongest = np.flatnonzero(mine)[np.argmax(windows.activations[rows[mine], places[mine]])]
    row, place = int(rows[strongest]), int(places[strongest])
    text = windows.ids[row, max(0, place + 1 - longest) : place + 1]
    return Seed(row, place, float(windows.activations[row, place]), tuple(text.tolist()))


def find_matches(pattern: IdPattern, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """ids: (window, seq) -> whether the sets fit the tokens that end there, of the same shape."""
    n = len(pattern.sets)
    fits = ids >= 0
    fits[:, : n - 1] = False
    if pattern.at_start:
        fits[:, n:] = False
    for back, tokens in enumerate(reversed(pattern.sets)):
        if tokens is not None:
            is_in = np.isin(ids, list(tokens))
            fits[:, back:] &= is_in[:, : ids.shape[1] - back]
    return fits


def find_strongest(
    windows: SearchedWindows,
    matched: NDArray[np.bool_],
    mass: NDArray[np.float64],
    vocabulary: Vocabulary,
) -> tuple[str, ...]:
    """The tokens at `matched` with most of the `mass`, both (window, seq), the first most."""
    tokens, inverse = np.unique(windows.ids[matched], return_inverse=True)
    of_token = np.bincount(inverse, mass[matched])
    best = [i for i in np.argsort(-of_token, kind="stable")[:N_STRONGEST] if of_token[i] > 0]
    return tuple(vocabulary.display(int(tokens[i])) for i in best)


def find_word_starts(
    windows: SearchedWindows, matched: NDArray[np.bool_], seed: Seed, vocabulary: Vocabulary
) -> frozenset[str]:
    """Of the tokens at `matched`, and of the seed's text, those that begin a word without a space.

    The seed's tokens by what stands before them there; the others by what mostly does.
    """
    rows, places = np.nonzero(matched[:, 1:])
    pairs = np.stack([windows.ids[rows, places], windows.ids[rows, places + 1]], axis=1)
    counted, counts = np.unique(pairs, axis=0, return_counts=True)
    balance: Counter[int] = Counter()
    for (before, token), count in zip(counted.tolist(), counts.tolist(), strict=True):
        balance[token] += count if _begins_word(before, token, vocabulary) else -count
    starts = {token for token, more in balance.items() if more > 0}
    for before, token in pairwise(seed.text[:-1]):
        if _begins_word(before, token, vocabulary):
            starts.add(token)
    return frozenset(map(vocabulary.display, starts))


def _begins_word(before: int, token: int, vocabulary: Vocabulary) -> bool:
    is_piece = vocabulary.display(token)[:1].isalpha()
    return is_piece and not vocabulary.display(before)[-1:].isalnum()


def find_before(
    windows: SearchedWindows, mass: NDArray[np.float64], vocabulary: Vocabulary
) -> Before | None:
    """None when nothing follows most of the strong activation, or much else too."""
    following, weight = windows.ids[:, 1:], mass[:, :-1]
    is_strong = (weight > 0) & (following >= 0)
    if is_strong.sum() < LEAST_BEFORE:
        return None
    tokens, inverse = np.unique(following[is_strong], return_inverse=True)
    of_token = np.bincount(inverse, weight[is_strong])
    best = int(np.argmax(of_token))
    share = float(of_token[best] / of_token.sum())
    elsewhere = float((following == tokens[best]).sum() / (following >= 0).sum())
    if share < MOST_BEFORE or elsewhere > share / 5:
        return None
    return Before(vocabulary.display(int(tokens[best])), share)
