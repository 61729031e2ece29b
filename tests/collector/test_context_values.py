"""Context means follow their formulas, and those are kept that say most of a unit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from neuron_explainer.collector.contexts import (
    N_PLACES,
    NOT_MEANT,
    SHRINKAGE,
    SHRINKAGE_BEFORE,
    ContextSums,
    UnitContexts,
    choose_contexts,
    plan_contexts,
)
from neuron_explainer.stores.windows import WindowTable
from tests.collector.context_texts import (
    CASES,
    N_UNITS,
    Context,
    Values,
    Windows,
    activations_of,
    drawn,
    rows_of,
    slow_sums,
    summed,
    written,
)


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
def test_values_and_places_follow_the_formulas(windows: Windows, tmp_path: Path) -> None:
    plan = plan_contexts(WindowTable(written(tmp_path, windows)), 6, most_rows=10_000)
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


def test_those_are_kept_that_say_most_beyond_the_shorter_context(tmp_path: Path) -> None:
    windows = drawn(80)
    plan = plan_contexts(WindowTable(written(tmp_path, windows)), 6, most_rows=10_000)
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


def test_a_pair_and_a_triple_by_hand(tmp_path: Path) -> None:
    windows = [[0, 1, 2], [0, 1, 2], [0, 1, 2], [3, 1, 2]]
    plan = plan_contexts(WindowTable(written(tmp_path, windows)), 6, most_rows=100)
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
    units_at_once: int, tmp_path: Path
) -> None:
    windows = drawn(80)
    plan = plan_contexts(WindowTable(written(tmp_path, windows)), 6, most_rows=10_000)
    sums, means = summed(plan, windows, activations_of(windows)), table_means()
    expected = chosen_of(sums, means, n_kept=7)
    chosen = chosen_of(sums, means, n_kept=7, units_at_once=units_at_once)
    assert all(np.array_equal(one, other) for one, other in zip(chosen, expected, strict=True))


@pytest.mark.parametrize("n_kept", [0, 5])
def test_a_text_without_frequent_contexts_has_places_alone(n_kept: int, tmp_path: Path) -> None:
    windows = [[0, 1, 2]]
    plan = plan_contexts(WindowTable(written(tmp_path, windows)), 6, most_rows=100)
    assert plan.n_contexts == 0
    activations, means = activations_of(windows), table_means()
    chosen = chosen_of(summed(plan, windows, activations), means, n_kept)
    assert chosen.rows.shape == chosen.values.shape == (N_UNITS, 0)
    expected = activations[0] - means[:, :3].T  # (place, unit)
    assert np.allclose(chosen.by_place[:, :3], expected.T, atol=1e-6)


def test_a_unit_that_the_table_predicts_keeps_no_context(tmp_path: Path) -> None:
    windows = drawn(80)
    plan = plan_contexts(WindowTable(written(tmp_path, windows)), 6, most_rows=10_000)
    means = np.arange(N_UNITS * 6, dtype=np.float32).reshape(N_UNITS, 6)
    activations = [means[:, window].T for window in windows]
    chosen = chosen_of(summed(plan, windows, activations), means, n_kept=10)
    assert (chosen.rows == -1).all()
    assert (chosen.values == 0).all()
    assert np.allclose(chosen.by_place, 0, atol=1e-6)


def test_a_place_that_never_counts_adds_nothing(tmp_path: Path) -> None:
    windows = drawn(80)
    plan = plan_contexts(WindowTable(written(tmp_path, windows)), 6, most_rows=10_000)
    counted = [[place >= 2 for place in range(len(window))] for window in windows]
    activations = activations_of(windows)
    chosen = chosen_of(summed(plan, windows, activations, counted), table_means())
    assert (chosen.by_place[:, :2] == 0).all()
    assert (chosen.by_place[:, 2:] != 0).all()
