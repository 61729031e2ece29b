"""The contexts of the fit text and their sums equal a slow count, however the text is read."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from neuron_explainer.collector.contexts import (
    MIN_COUNT,
    MIN_COUNT_BEFORE,
    N_PLACES,
    NOT_MEANT,
    ContextPlan,
    plan_contexts,
)
from neuron_explainer.stores.windows import WindowTable
from tests.collector.context_texts import (
    CASES,
    N_UNITS,
    Context,
    Windows,
    activations_of,
    drawn,
    rows_of,
    slow_sums,
    summed,
    written,
)
from tests.fakes import ChunkedTable


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


@pytest.mark.parametrize("windows", CASES.values(), ids=CASES.keys())
def test_every_context_that_is_frequent_enough_is_followed(
    windows: Windows, tmp_path: Path
) -> None:
    plan = plan_contexts(WindowTable(written(tmp_path, windows)), 6, most_rows=10_000)
    expected = {c for c, n in slow_counts(windows).items() if n >= least_count(c)}
    rows = rows_of(plan)
    assert len(rows) == plan.n_contexts
    assert sorted(rows) == sorted(expected)


@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize("windows", CASES.values(), ids=CASES.keys())
def test_sums_and_counts_are_those_of_a_slow_count(
    windows: Windows, is_masked: bool, tmp_path: Path
) -> None:
    plan = plan_contexts(WindowTable(written(tmp_path, windows)), 6, most_rows=10_000)
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
def test_sums_do_not_depend_on_the_blocks(size: int, seed: int, tmp_path: Path) -> None:
    windows = drawn(60)
    plan = plan_contexts(WindowTable(written(tmp_path, windows)), 6, most_rows=10_000)
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


def test_the_plan_does_not_depend_on_how_the_table_is_read(tmp_path: Path) -> None:
    windows = drawn(60)
    folder = written(tmp_path, windows)
    expected = plain(plan_contexts(WindowTable(folder), 6, most_rows=40))
    for size in (1, 7):
        assert plain(plan_contexts(ChunkedTable(folder, size), 6, most_rows=40)) == expected


@pytest.mark.parametrize("most_rows", [0, 1, 8, 20, 40, 80])
def test_with_little_room_the_most_frequent_contexts_are_followed(
    most_rows: int, tmp_path: Path
) -> None:
    windows = drawn(300)
    plan = plan_contexts(WindowTable(written(tmp_path, windows)), 6, most_rows)
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


def test_when_rare_contexts_are_dropped_frequent_ones_are_counted_in_full(tmp_path: Path) -> None:
    windows = [[0, 1, 0, 1], [2, 3, 4, 5, 4, 2], *drawn(40, seed=5)]
    table = ChunkedTable(written(tmp_path, windows), 1)  # pruned after each window
    everything = slow_counts(windows)
    plan = plan_contexts(table, 6, 10_000, most_followed=4)
    pairs = dict(zip(rows_of(plan), plan.pairs.counts.tolist(), strict=False))
    assert 0 < len(pairs) < len({c for c in everything if c[0] == NOT_MEANT != c[2]})
    assert all(n <= everything[context] for context, n in pairs.items())
    assert pairs[NOT_MEANT, 0, 1] == everything[NOT_MEANT, 0, 1]  # never seen only once
    assert_pairs_of_triples(rows_of(plan))


def test_positions_that_do_not_count_leave_no_mark(tmp_path: Path) -> None:
    windows = drawn(60)
    plan = plan_contexts(WindowTable(written(tmp_path, windows)), 6, most_rows=10_000)
    rng = random.Random(3)
    counted = [[rng.random() < 0.5 for _ in window] for window in windows]
    one = activations_of(windows)
    other = [
        np.where(np.array(mask)[:, None], acts, 1e6).astype(np.float32)
        for acts, mask in zip(one, counted, strict=True)
    ]
    sums: list[Tensor] = [summed(plan, windows, acts, counted).sums for acts in (one, other)]
    assert torch.equal(*sums)
