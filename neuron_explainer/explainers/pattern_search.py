"""Patterns of a unit, found by asking the subject: prune, test, generalise (Neuron2Graph).

After Foote et al. 2023, for a unit's windows of the train split and of the bands of its maximum,
none of which it is scored on:

1. Seed: among the positions with a strong activation that no pattern accounts for yet, the current
   token with most of the activation; of its positions the strongest. Where the first pattern says
   little of the strongest windows, the second seed is among their peaks, rare as these may be.
2. Prune: the shortest text that ends there and keeps a stated share of the activation. Of one to
   three tokens the fit text mostly tells (`collector/contexts.py`); else the subject is asked,
   behind a few tokens of other text, as the first positions of a text are like no others.
3. Importance: each token is replaced by others; where the share is kept it does not matter. The
   first of a text does without being asked where the text without it did not keep the share, and
   so each of a text that the fit text told.
4. Generalise: each token that matters is replaced by its neighbours in the embedding, by its
   spellings with and without space and capital, and by what the subject itself expects there; those
   that keep the share join its set.
5. The pattern's activation is its mean over all positions of the windows that match. Back to 1.

Where no text keeps the share behind other text, and the seed's begins a window, the place matters:
the activation is that of the text without anything before it. A place alone takes a second window.
What follows is looked at last. Where nothing holds, or the budget ends, it is told which.

A search is a generator: it yields questions, and is sent their answers. So that many units are
searched at once, in forward passes that they share (`pattern_probe.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from itertools import chain, cycle, islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuron_explainer.explainers.pattern_questions import Answer, Budget, Question
from neuron_explainer.explainers.pattern_windows import (
    IdPattern,
    SearchedWindows,
    Seed,
    Vocabulary,
    find_before,
    find_matches,
    find_peaks,
    find_strong,
    find_strongest,
    find_word_starts,
    next_seed,
    read_windows,
)
from neuron_explainer.records.neuron import NeuronRecord
from neuron_explainer.records.patterns import FoundPatterns, Lack, Pattern

LENGTHS = (1, 2, 3, 5, 8, 12)
"""Tokens of the texts that pruning tries; a pattern looks no further back."""
LONGEST_KNOWN = 3
"""Tokens of the contexts whose means are known."""
N_REPLACEMENTS = 2
"""Other tokens that are put in a token's place to see whether it matters."""
N_EXPECTED = 8
"""Of the subject's own predictions, so many are tried in a place."""
MOST_TRIED = 12
"""Candidates for the current token."""
MOST_TRIED_BEFORE = 6
"""For a token before it."""
MOST_WIDENED = 3
"""Places of a pattern that are generalised, from the current token backwards."""


@dataclass(frozen=True, slots=True)
class PatternPlan:
    """Choices of a search."""

    budget_tokens: int = 1000
    """Tokens of forward passes a unit, at most; the best seeds come first."""
    keep_share: float = 0.7
    """Of the activation that a change must keep not to matter."""
    strong_share: float = 0.5
    """Of the largest activation from which on one is strong."""
    most_patterns: int = 5
    least_share: float = 0.05
    """Of the strong activation that a seed's token must have for a search, the first's apart, and
    that of the peaks."""
    open_peaks: float = 0.5
    """Of the strongest windows' peaks that a first pattern may leave before the second is sought
    among them."""
    prunes: bool = True
    """False: the text is taken as long as it may be."""
    generalises: bool = True
    """False: each token stands for itself alone."""


Search = Generator[list[Question], list[Answer], FoundPatterns]
Known = Callable[[tuple[str, ...]], float | None]


@dataclass(frozen=True, slots=True)
class UnitSearch:
    """The search for one unit's patterns."""

    record: NeuronRecord
    plan: PatternPlan
    vocabulary: Vocabulary
    fillers: tuple[tuple[int, ...], ...]
    """Pieces of other text that stand before what is tried."""
    others: tuple[int, ...]
    """Tokens to replace by, as they are in text."""
    known: Known
    """Mean activation by the last tokens, from the fit text."""
    _budget: Budget = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_budget", Budget(self.plan.budget_tokens))

    def run(self) -> Search:
        """Nothing is asked of a unit that is never strongly active on its windows."""
        windows = read_windows(self.record, self.vocabulary)
        strong = find_strong(windows, self.plan.strong_share)  # (window, seq) bool
        mass = np.where(strong, windows.activations, 0.0) * windows.weights[:, None]
        left = _Left(mass, find_peaks(windows, strong))
        patterns: list[Pattern] = []
        while left.total > 0 and len(patterns) < self.plan.most_patterns:
            seed = self._next_seed(windows, left, len(patterns))
            if seed is None:
                break
            general = yield from self._generalise(seed)
            matched = find_matches(general, windows.ids)  # (window, seq) bool
            if _is_place_once(general, matched):
                general = _token_alone(seed, Lack.LONGER)
                matched = find_matches(general, windows.ids)
            matched[seed.window, seed.place] = True
            shares = left.take(matched)
            patterns.append(self._pattern(seed, general, windows, matched, mass, shares))
        ordered = tuple(sorted(patterns, key=lambda pattern: -pattern.share))
        before = find_before(windows, mass, self.vocabulary)
        return FoundPatterns(ordered, self._budget.spent, self._budget.is_cut_short, before)

    def _next_seed(self, windows: SearchedWindows, left: _Left, n_patterns: int) -> Seed | None:
        if n_patterns == 1 and left.open_peaks > self.plan.open_peaks:
            return next_seed(windows, left.peaks, 0.0, LENGTHS[-1])
        least = self.plan.least_share * left.total if n_patterns else 0.0
        return next_seed(windows, left.mass, least, LENGTHS[-1])

    def _generalise(self, seed: Seed) -> Generator[list[Question], list[Answer], IdPattern]:
        """The seed's text as sets of token ids."""
        pruned = yield from self._prune(seed)
        if isinstance(pruned, Lack):
            return _token_alone(seed, pruned)
        text = pruned.text
        matters = yield from self._find_what_matters(pruned)
        if matters is None:
            return _token_alone(seed, Lack.BUDGET)
        sets: list[frozenset[int] | None] = [
            frozenset([token]) if is_needed else None
            for token, is_needed in zip(text, matters, strict=True)
        ]
        if self.plan.generalises:
            needed = [place for place in reversed(range(len(text))) if matters[place]]
            for place in needed[:MOST_WIDENED]:
                sets[place] = yield from self._widen(pruned, place)
        if pruned.at_start:
            return IdPattern(tuple(sets), at_start=True)
        first = next(i for i, fits in enumerate(sets) if fits is not None)
        return IdPattern(tuple(sets[first:]))

    def _prune(self, seed: Seed) -> Generator[list[Question], list[Answer], _Pruned | Lack]:
        """The shortest text that keeps the share, or why there is none."""
        lengths = [n for n in LENGTHS if n < len(seed.text)] + [len(seed.text)]
        if self.plan.prunes:
            known = self._prune_by_means(seed)
            if known is not None:
                return known
        else:
            lengths = lengths[-1:]
        texts = [seed.text[-n:] for n in lengths]
        questions = [
            Question((*filler, *text), n_shared=len(filler))
            for text in texts
            for filler in self.fillers
        ]
        if not self._budget.take(questions):
            return Lack.BUDGET
        answers = yield questions
        n = len(self.fillers)
        least = self.plan.keep_share * seed.activation
        for i, text in enumerate(texts):
            activation = _mean(answers[i * n : (i + 1) * n])
            if activation >= least:
                n_shorter = len(texts[i - 1]) if i else 0
                return _Pruned(text, activation, self.fillers, n_shorter)
        if seed.place + 1 == len(seed.text):
            return _Pruned(seed.text, seed.activation, ((),))
        return Lack.LONGER

    def _prune_by_means(self, seed: Seed) -> _Pruned | None:
        """None when the fit text does not tell."""
        least = self.plan.keep_share * seed.activation
        for n in range(1, min(LONGEST_KNOWN, len(seed.text)) + 1):
            text = seed.text[-n:]
            mean = self.known(tuple(map(self.vocabulary.display, text)))
            if mean is not None and mean >= least:
                return _Pruned(text, mean, self.fillers, n_shorter=n - 1, is_known=True)
        return None

    def _find_what_matters(
        self, pruned: _Pruned
    ) -> Generator[list[Question], list[Answer], list[bool] | None]:
        """One a token; the one that does most when none does by itself. None: no room to ask.

        None at all where it is the place in a window alone that matters.
        """
        text, kept, fillers, n_shorter, is_known = pruned
        n_told = 1 if n_shorter == len(text) - 1 else 0
        if is_known or n_told == len(text):
            return [True] * len(text)
        asked = [
            [
                _with_other(fillers[i % len(fillers)], text, place, other)
                for i, other in enumerate(self._others_than(text[place]))
            ]
            for place in range(n_told, len(text))
        ]
        questions = list(chain.from_iterable(asked))
        if not all(asked):
            return [True] * len(text)
        if not self._budget.take(questions):
            return None
        answers = iter((yield questions))
        without = [_mean(list(islice(answers, len(of_place)))) for of_place in asked]
        told = [activation < self.plan.keep_share * kept for activation in without]
        if n_told == 0 and not any(told) and not (yield from self._is_place_alone(pruned)):
            told[int(np.argmin(without))] = True  # each can do without each other one
        return [True] * n_told + told

    def _is_place_alone(self, pruned: _Pruned) -> Generator[list[Question], list[Answer], bool]:
        """Whether another text that begins a window does as well."""
        question = Question(tuple(islice(cycle(self.others), len(pruned.text))))
        if not pruned.at_start or not self._budget.take([question]):
            return False
        (answer,) = yield [question]
        return _activation(answer) >= self.plan.keep_share * pruned.activation

    def _others_than(self, token: int) -> list[int]:
        """A token put in its own place would show nothing."""
        return [other for other in self.others if other != token][:N_REPLACEMENTS]

    def _widen(
        self, pruned: _Pruned, place: int
    ) -> Generator[list[Question], list[Answer], frozenset[int]]:
        """Tokens that do as well in that place."""
        text, kept, (filler, *_), *_ = pruned
        own = frozenset([text[place]])
        expected: tuple[int, ...] = ()
        if text_before := (*filler, *text[:place]):
            before = Question(text_before, N_EXPECTED)
            if not self._budget.take([before]):
                return own
            (answer,) = yield [before]
            expected = answer.expected
        candidates = dict.fromkeys([*self.vocabulary.neighbours(text[place]), *expected])
        most = MOST_TRIED if place == len(text) - 1 else MOST_TRIED_BEFORE
        others = [c for c in candidates if c != text[place]][:most]
        before_it = len(filler) + place
        questions = [_with_other(filler, text, place, c, n_shared=before_it) for c in others]
        if not others or not self._budget.take(questions):
            return own
        answers = yield questions
        least = self.plan.keep_share * kept
        alike = [c for c, a in zip(others, answers, strict=True) if _activation(a) >= least]
        return own.union(alike)

    def _pattern(
        self,
        seed: Seed,
        general: IdPattern,
        windows: SearchedWindows,
        matched: NDArray[np.bool_],
        mass: NDArray[np.float64],
        shares: _Shares,
    ) -> Pattern:
        """matched: (window, seq); mass: the same, weighted, of what is strongly active."""
        counted = matched & ~np.isnan(windows.activations)
        weights = np.broadcast_to(windows.weights[:, None], matched.shape)[counted]
        show = self.vocabulary.display
        return Pattern(
            sets=tuple(None if s is None else frozenset(map(show, s)) for s in general.sets),
            activation=float(np.average(windows.activations[counted], weights=weights)),
            n_matches=int(counted.sum()),
            share=shares.mass,
            precision=float(np.average(mass[counted] > 0, weights=weights)),
            seed=tuple(map(show, seed.text[-len(general.sets) :])),
            seed_activations=windows.read(seed, len(general.sets)),
            at_start=general.at_start,
            lack=general.lack,
            strongest=find_strongest(windows, matched, mass, self.vocabulary),
            word_starts=find_word_starts(windows, matched, seed, self.vocabulary),
            peak_share=shares.peaks,
        )


def _with_other(
    filler: tuple[int, ...],
    text: tuple[int, ...],
    place: int,
    other: int,
    *,
    n_shared: int | None = None,
) -> Question:
    """With another token in the place; n_shared: by default the filler alone."""
    ids = (*filler, *text[:place], other, *text[place + 1 :])
    return Question(ids, n_shared=len(filler) if n_shared is None else n_shared)


class _Shares(NamedTuple):
    """What a pattern accounts for, and none before it."""

    mass: float
    peaks: float


class _Left:
    """What no pattern accounts for yet, both (window, seq)."""

    def __init__(self, mass: NDArray[np.float64], peaks: NDArray[np.float64]) -> None:
        """mass: weighted activation, where it is strong; peaks: as of `find_peaks`."""
        self.mass, self.peaks = mass.copy(), peaks.copy()
        self.total = float(mass.sum())
        self._all_peaks = float(peaks.sum())

    @property
    def open_peaks(self) -> float:
        """Share of the peaks; 0 where there are none."""
        return float(self.peaks.sum()) / self._all_peaks if self._all_peaks else 0.0

    def take(self, matched: NDArray[np.bool_]) -> _Shares:
        """Shares of what is at `matched`, (window, seq), and is gone then."""
        mass = float(self.mass[matched].sum()) / self.total
        before = self.open_peaks
        self.mass[matched] = 0.0
        self.peaks[matched] = 0.0
        return _Shares(mass, before - self.open_peaks)


class _Pruned(NamedTuple):
    """A text that keeps the share of its seed's activation."""

    text: tuple[int, ...]
    activation: float
    """Behind the fillers."""
    fillers: tuple[tuple[int, ...], ...]
    """An empty one where the text must begin a window."""
    n_shorter: int = -1
    """Tokens of the longest text that did not keep it; -1: that is not known."""
    is_known: bool = False
    """From the fit text."""

    @property
    def at_start(self) -> bool:
        return self.fillers == ((),)


def _token_alone(seed: Seed, lack: Lack) -> IdPattern:
    return IdPattern((frozenset(seed.text[-1:]),), lack=lack)


def _is_place_once(pattern: IdPattern, matched: NDArray[np.bool_]) -> bool:
    """Whether it is of a place behind the first that one window alone has shown."""
    is_place = pattern.at_start and len(pattern.sets) > 1 and not any(pattern.sets[:-1])
    return is_place and int(matched.sum()) < 2


def _mean(answers: Sequence[Answer]) -> float:
    return sum(map(_activation, answers)) / len(answers)


def _activation(answer: Answer) -> float:
    if answer.activation is None:
        raise ValueError("an activation was asked for, and none was given")
    return answer.activation
