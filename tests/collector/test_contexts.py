"""Context means equal a slow count of the fit text, however it is read, and say most of a unit."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, pairwise
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuron_explainer.collector.contexts import (
    MIN_COUNT,
    MIN_COUNT_BEFORE,
    N_PLACES,
    NOT_MEANT,
    SHRINKAGE,
    SHRINKAGE_BEFORE,
    ContextPlan,
    ContextSums,
    UnitContexts,
    choose_contexts,
    find_rows,
    plan_contexts,
)
from neuron_explainer.stores.windows import WindowCounts, WindowTable, WindowWriter
from tests.fakes import ChunkedTable

Windows: TypeAlias = Sequence[Sequence[int]]
Context: TypeAlias = tuple[int, int, int]
Values: TypeAlias = NDArray[np.float32]

N_UNITS = 3
OTHER_TEXT = [6, 6, 6, 6, 6, 6, 6]
"""A window that is no fit window: nothing of it may be counted."""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Windows], Path]:
    """Writes fit windows, each a document, between others that are not."""
    numbers = count()

    def write_table(windows: Windows) -> Path:
        folder = tmp_path / f"windows{next(numbers)}"
        writer = WindowWriter(folder)
        for number, window in enumerate(windows):
            writer.add_document(f"{number}", window, [(0, len(window))], is_fit=True)
            writer.add_document("other", OTHER_TEXT, [(0, len(OTHER_TEXT))], is_fit=False)
        writer.finish(WindowCounts())
        return folder

    return write_table


def drawn(
    n_windows: int, n_vocabulary: int = 6, longest: int = 9, seed: int = 0
) -> list[list[int]]:
    """Windows of 1 to so many tokens, in which some tokens are far more frequent than others."""
    rng = random.Random(seed)
    weights = [1 / (1 + token) for token in range(n_vocabulary)]
    return [
        rng.choices(range(n_vocabulary), weights, k=rng.randint(1, longest))
        for _ in range(n_windows)
    ]


def activations_of(windows: Windows, seed: int = 1) -> list[Values]:
    """(seq, unit) a window, in eighths: their sums are exact in any order."""
    rng = np.random.default_rng(seed)
    drawn_values = [rng.integers(-16, 40, (len(window), N_UNITS)) for window in windows]
    return [(values / 8).astype(np.float32) for values in drawn_values]


def in_blocks(windows: Windows, size: int, seed: int = 0) -> Iterator[list[int]]:
    """Numbers of windows of one length, so many at a time, the blocks in some order."""
    by_length: dict[int, list[int]] = {}
    for number, window in enumerate(windows):
        by_length.setdefault(len(window), []).append(number)
    blocks = [
        members[first : first + size]
        for members in by_length.values()
        for first in range(0, len(members), size)
    ]
    random.Random(seed).shuffle(blocks)
    yield from blocks


def summed(
    plan: ContextPlan,
    windows: Windows,
    activations: Sequence[Values],
    counted: Sequence[Sequence[bool]] | None = None,
    size: int = 4,
    seed: int = 0,
) -> ContextSums:
    sums = ContextSums(plan, N_UNITS)
    for block in in_blocks(windows, size, seed):
        tokens = torch.tensor([windows[i] for i in block], dtype=torch.int64)
        mask = None if counted is None else torch.tensor([list(counted[i]) for i in block])
        flat = torch.from_numpy(np.concatenate([activations[i] for i in block]))
        sums.add(*find_rows(plan, tokens, mask), flat)
    return sums


def is_at(context: Context, window: Sequence[int], place: int) -> bool:
    """Whether the context ends at the place; one of a token before any ends right behind it."""
    start = place - 2
    return all(
        wanted == NOT_MEANT or (start + i >= 0 and window[start + i] == wanted)
        for i, wanted in enumerate(context)
    )


def slow_sums(
    contexts: Iterable[Context],
    windows: Windows,
    activations: Sequence[Values],
    counted: Sequence[Sequence[bool]] | None = None,
) -> tuple[list[list[float]], list[int]]:
    """(context, unit) sums and (context,) counts, position by position."""
    sums, counts = [], []
    for context in contexts:
        positions = [
            (number, place)
            for number, window in enumerate(windows)
            for place in range(len(window))
            if is_at(context, window, place) and (counted is None or counted[number][place])
        ]
        of_unit = np.zeros(N_UNITS)
        for number, place in positions:
            of_unit += activations[number][place]
        sums.append(of_unit.tolist())
        counts.append(len(positions))
    return sums, counts


def rows_of(plan: ContextPlan) -> list[Context]:
    return [tuple(row) for row in plan.tokens().tolist()]


def slow_counts(windows: Windows) -> Counter[Context]:
    """Every pair, triple and token before any other of the windows."""
    counted: Counter[Context] = Counter()
    for window in windows:
        counted.update((NOT_MEANT, a, b) for a, b in pairwise(window))
        counted.update(zip(window, window[1:], window[2:], strict=False))
        counted.update((NOT_MEANT, token, NOT_MEANT) for token in window[:-1])
    return counted


def least_count(context: Context) -> int:
    return MIN_COUNT_BEFORE if context[2] == NOT_MEANT else MIN_COUNT


CASES = {
    "many": drawn(80),
    "short": drawn(120, longest=2),
    "one token each": [[0], [1], [0]],
    "a vocabulary of one": [[0] * 8, [0], [0, 0]] * 3,
    "one length": [window[:4] for window in drawn(200) if len(window) > 4],
}


@pytest.mark.parametrize("windows", CASES.values(), ids=CASES.keys())
def test_every_context_that_is_frequent_enough_is_followed(
    windows: Windows, write: Callable[[Windows], Path]
) -> None:
    plan = plan_contexts(WindowTable(write(windows)), 6, most_rows=10_000)
    expected = {c for c, n in slow_counts(windows).items() if n >= least_count(c)}
    rows = rows_of(plan)
    assert len(rows) == plan.n_contexts
    assert sorted(rows) == sorted(expected)


@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize("windows", CASES.values(), ids=CASES.keys())
def test_sums_and_counts_are_those_of_a_slow_count(
    windows: Windows, is_masked: bool, write: Callable[[Windows], Path]
) -> None:
    plan = plan_contexts(WindowTable(write(windows)), 6, most_rows=10_000)
    activations = activations_of(windows)
    rng = random.Random(3)
    counted = [[rng.random() < 0.6 for _ in w] for w in windows] if is_masked else None
    sums = summed(plan, windows, activations, counted)
    of_contexts, counts = slow_sums(rows_of(plan), windows, activations, counted)
    assert sums.sums[: plan.n_contexts].tolist() == of_contexts
    assert sums.counts[: plan.n_contexts].tolist() == counts
    for place in range(N_PLACES):
        there = [
            acts[place]
            for number, acts in enumerate(activations)
            if place < len(acts) and (counted is None or counted[number][place])
        ]
        assert int(sums.counts[plan.n_contexts + place]) == len(there)
        expected = np.sum(there, axis=0) if there else np.zeros(N_UNITS)
        assert sums.sums[plan.n_contexts + place].tolist() == expected.tolist()


@pytest.mark.parametrize(("size", "seed"), [(1, 1), (3, 2), (1000, 3)])
def test_sums_do_not_depend_on_the_blocks(
    size: int, seed: int, write: Callable[[Windows], Path]
) -> None:
    windows = drawn(60)
    plan = plan_contexts(WindowTable(write(windows)), 6, most_rows=10_000)
    activations = activations_of(windows)
    one, other = (
        summed(plan, windows, activations, size=n, seed=s) for n, s in ((4, 0), (size, seed))
    )
    assert torch.equal(one.sums, other.sums)
    assert torch.equal(one.counts, other.counts)


def plain(plan: ContextPlan) -> list[object]:
    """Everything in it, to compare."""
    counted = [list(map(list, c)) for c in (plan.pairs, plan.triples, plan.before, plan.all_pairs)]
    return [plan.n_vocabulary, counted, plan.at_places.toarray().tolist()]


def test_the_plan_does_not_depend_on_how_the_table_is_read(
    write: Callable[[Windows], Path],
) -> None:
    windows = drawn(60)
    folder = write(windows)
    expected = plain(plan_contexts(WindowTable(folder), 6, most_rows=40))
    for size in (1, 7):
        assert plain(plan_contexts(ChunkedTable(folder, size), 6, most_rows=40)) == expected


@pytest.mark.parametrize("most_rows", [0, 1, 8, 20, 40, 80])
def test_with_little_room_the_most_frequent_contexts_are_followed(
    most_rows: int, write: Callable[[Windows], Path]
) -> None:
    windows = drawn(300)
    plan = plan_contexts(WindowTable(write(windows)), 6, most_rows)
    everything = slow_counts(windows)
    rows = rows_of(plan)
    assert len(rows) <= most_rows
    for is_before in (False, True):
        kept = [everything[c] for c in rows if (c[2] == NOT_MEANT) == is_before]
        left_out = [
            n
            for context, n in everything.items()
            if context not in rows and (context[2] == NOT_MEANT) == is_before
        ]
        assert not kept or min(kept) >= max(left_out, default=0)
    assert sum(c[2] == NOT_MEANT for c in rows) <= most_rows // 8
    if most_rows >= 20:
        assert len(rows) > most_rows // 2  # the room is used, but for ties at its end
    assert_pairs_of_triples(rows)


def assert_pairs_of_triples(rows: Sequence[Context]) -> None:
    triples = [c for c in rows if c[0] != NOT_MEANT]
    assert all((NOT_MEANT, *triple[1:]) in rows for triple in triples)


def test_when_rare_contexts_are_dropped_frequent_ones_are_counted_in_full(
    write: Callable[[Windows], Path],
) -> None:
    windows = [[0, 1, 0, 1, 0, 1], [2, 3, 4, 5, 4, 2], *drawn(40, seed=5)]
    table = ChunkedTable(write(windows), 1)  # pruned after each window
    everything = slow_counts(windows)
    plan = plan_contexts(table, 6, 10_000, most_followed=4)
    pairs = dict(zip(rows_of(plan), plan.pairs.counts.tolist(), strict=False))
    assert 0 < len(pairs) < len({c for c in everything if c[0] == NOT_MEANT != c[2]})
    assert all(n <= everything[context] for context, n in pairs.items())
    assert pairs[NOT_MEANT, 0, 1] == everything[NOT_MEANT, 0, 1]  # never seen only once
    assert_pairs_of_triples(rows_of(plan))


def chosen_of(
    sums: ContextSums, means: Values, n_kept: int = 1000, units_at_once: int = 64
) -> UnitContexts:
    """means: (unit, vocabulary)."""
    return choose_contexts(sums, lambda some: means[some], n_kept, units_at_once=units_at_once)


class SlowContexts:
    """The formulas of the module, one context and one unit at a time."""

    def __init__(self, windows: Windows, activations: Sequence[Values], means: Values) -> None:
        self._windows = windows
        self._activations = activations
        self._means = means

    def of(self, context: Context, unit: int) -> tuple[float, float, int]:
        """(value, effect, count)"""
        (sums,), (n,) = slow_sums([context], self._windows, self._activations)
        if context[2] == NOT_MEANT:
            behind = [b for w in self._windows for a, b in pairwise(w) if a == context[1]]
            expected = sum(self._means[unit, token] for token in behind)
            effect = (sums[unit] - expected) / (n + SHRINKAGE_BEFORE)
            return effect, effect, n
        if context[0] == NOT_MEANT:
            shorter = float(self._means[unit, context[2]])
        else:
            shorter = self.of((NOT_MEANT, *context[1:]), unit)[0]
        value = (sums[unit] + SHRINKAGE * shorter) / (n + SHRINKAGE)
        return value, value - shorter, n

    def place(self, place: int, unit: int) -> float:
        there = [
            (float(acts[place, unit]), float(self._means[unit, window[place]]))
            for window, acts in zip(self._windows, self._activations, strict=True)
            if place < len(window)
        ]
        return float(np.mean([a - mean for a, mean in there])) if there else 0.0


def table_means(seed: int = 2, n_vocabulary: int = 6) -> Values:
    return np.random.default_rng(seed).normal(size=(N_UNITS, n_vocabulary)).astype(np.float32)


@pytest.mark.parametrize("windows", CASES.values(), ids=CASES.keys())
def test_values_and_places_follow_the_formulas(
    windows: Windows, write: Callable[[Windows], Path]
) -> None:
    plan = plan_contexts(WindowTable(write(windows)), 6, most_rows=10_000)
    activations, means = activations_of(windows), table_means()
    chosen = chosen_of(summed(plan, windows, activations), means)
    slow = SlowContexts(windows, activations, means)
    contexts = rows_of(plan)
    for unit in range(N_UNITS):
        for row, value in zip(
            chosen.rows[unit].tolist(), chosen.values[unit].tolist(), strict=True
        ):
            if row >= 0:
                assert value == pytest.approx(slow.of(contexts[row], unit)[0], abs=1e-5)
        for place in range(N_PLACES):
            expected = slow.place(place, unit)
            assert chosen.by_place[unit, place] == pytest.approx(expected, abs=1e-5)


def test_those_are_kept_that_say_most_beyond_the_shorter_context(
    write: Callable[[Windows], Path],
) -> None:
    windows = drawn(80)
    plan = plan_contexts(WindowTable(write(windows)), 6, most_rows=10_000)
    activations, means = activations_of(windows), table_means()
    chosen = chosen_of(summed(plan, windows, activations), means, n_kept=10)
    slow = SlowContexts(windows, activations, means)
    for unit in range(N_UNITS):
        gains = []
        for context in rows_of(plan):
            _, effect, n = slow.of(context, unit)
            gains.append(n * effect**2)
        kept = chosen.rows[unit].tolist()
        assert kept == sorted(set(kept))
        assert len(kept) == 10
        left_out = [gain for row, gain in enumerate(gains) if row not in kept]
        assert min(gains[row] for row in kept) >= max(left_out) - 1e-4


def test_a_pair_and_a_triple_by_hand(write: Callable[[Windows], Path]) -> None:
    windows = [[0, 1, 2], [0, 1, 2], [0, 1, 2], [3, 1, 2]]
    plan = plan_contexts(WindowTable(write(windows)), 6, most_rows=100)
    by_last = [8.0, 8.0, 8.0, 0.0]
    activations = [np.array([[0.0] * 3, [0.0] * 3, [v] * 3], np.float32) for v in by_last]
    means = np.full((N_UNITS, 6), 2.0, np.float32)
    chosen = chosen_of(summed(plan, windows, activations), means)
    contexts = rows_of(plan)
    values = {contexts[row]: v for row, v in zip(chosen.rows[0], chosen.values[0], strict=True)}
    pair = (24 + SHRINKAGE * 2) / (4 + SHRINKAGE)  # 28 / 6
    triple = (24 + SHRINKAGE * pair) / (3 + SHRINKAGE)
    assert values == pytest.approx(
        {(NOT_MEANT, 0, 1): (0 + 4) / 5, (NOT_MEANT, 1, 2): pair, (0, 1, 2): triple}
    )
    assert chosen.by_place[0].tolist() == [-2.0, -2.0, 4.0, 0.0]


@pytest.mark.parametrize("units_at_once", [1, 2, 64])
def test_the_choice_does_not_depend_on_how_many_units_are_chosen_for_at_once(
    units_at_once: int, write: Callable[[Windows], Path]
) -> None:
    windows = drawn(80)
    plan = plan_contexts(WindowTable(write(windows)), 6, most_rows=10_000)
    sums, means = summed(plan, windows, activations_of(windows)), table_means()
    expected = chosen_of(sums, means, n_kept=7)
    chosen = chosen_of(sums, means, n_kept=7, units_at_once=units_at_once)
    assert all(np.array_equal(one, other) for one, other in zip(chosen, expected, strict=True))


@pytest.mark.parametrize("n_kept", [0, 5])
def test_a_text_without_frequent_contexts_has_places_alone(
    n_kept: int, write: Callable[[Windows], Path]
) -> None:
    windows = [[0, 1, 2]]
    plan = plan_contexts(WindowTable(write(windows)), 6, most_rows=100)
    assert plan.n_contexts == 0
    activations, means = activations_of(windows), table_means()
    chosen = chosen_of(summed(plan, windows, activations), means, n_kept)
    assert chosen.rows.shape == chosen.values.shape == (N_UNITS, 0)
    expected = activations[0] - means[:, :3].T  # (place, unit)
    assert np.allclose(chosen.by_place[:, :3], expected.T, atol=1e-6)


def test_a_unit_that_the_table_predicts_keeps_no_context(
    write: Callable[[Windows], Path],
) -> None:
    windows = drawn(80)
    plan = plan_contexts(WindowTable(write(windows)), 6, most_rows=10_000)
    means = np.arange(N_UNITS * 6, dtype=np.float32).reshape(N_UNITS, 6)
    activations = [means[:, window].T for window in windows]
    chosen = chosen_of(summed(plan, windows, activations), means, n_kept=10)
    assert (chosen.rows == -1).all()
    assert (chosen.values == 0).all()
    assert np.allclose(chosen.by_place, 0, atol=1e-6)


def test_a_place_that_never_counts_adds_nothing(write: Callable[[Windows], Path]) -> None:
    windows = drawn(80)
    plan = plan_contexts(WindowTable(write(windows)), 6, most_rows=10_000)
    counted = [[place >= 2 for place in range(len(window))] for window in windows]
    activations = activations_of(windows)
    chosen = chosen_of(summed(plan, windows, activations, counted), table_means())
    assert (chosen.by_place[:, :2] == 0).all()
    assert (chosen.by_place[:, 2:] != 0).all()


def test_positions_that_do_not_count_leave_no_mark(write: Callable[[Windows], Path]) -> None:
    windows = drawn(60)
    plan = plan_contexts(WindowTable(write(windows)), 6, most_rows=10_000)
    rng = random.Random(3)
    counted = [[rng.random() < 0.5 for _ in window] for window in windows]
    one = activations_of(windows)
    other = [
        np.where(np.array(mask)[:, None], acts, 1e6).astype(np.float32)
        for acts, mask in zip(one, counted, strict=True)
    ]
    sums: list[Tensor] = [summed(plan, windows, acts, counted).sums for acts in (one, other)]
    assert torch.equal(*sums)
