"""Two methods are compared over the units that both score, and over no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import Score
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.comparison import TIE, Baseline, Mover, PairedScores, read_baseline
from neuron_explainer.stores.results import BASELINE, BASELINE_LABEL, Results
from tests.pipeline.test_summary import UNITS, VALUES, unexplained, unit


def test_a_comparison_is_over_the_units_that_both_methods_score() -> None:
    scores = [0.0, 0.2, 0.9, 0.5, None, 0.5]
    baseline = [
        unit(i % 2, i, value, None if value is not None else "constant prediction")
        for i, value in enumerate(scores)
    ]
    found = PairedScores.of(UNITS, [*baseline, unit(3, 3, 1.0)]).compare()
    assert found is not None
    mine, other = np.array([0.1, 0.2, 0.5, 0.6, -0.3]), np.array([0.0, 0.2, 0.9, 0.5, 0.5])
    assert found.n_units == 5
    assert (found.mean, found.baseline_mean) == (pytest.approx(mine.mean()), other.mean())
    assert found.difference == pytest.approx((mine - other).mean())
    assert (found.n_better, found.n_same, found.n_worse) == (2, 1, 2)
    assert found.low < found.difference < found.high
    assert PairedScores.of(UNITS, []).compare() is None
    assert PairedScores.of(UNITS, baseline).compare() == found


def test_one_unit_has_a_difference_and_no_interval() -> None:
    found = PairedScores.of([unit(0, 0, 0.3)], [unit(0, 0, 0.5)]).compare()
    assert found is not None
    assert found.difference == pytest.approx(-0.2)
    assert (found.low, found.high) == (None, None)
    assert "[" not in found.sentence()


def test_a_comparison_does_not_depend_on_the_order_of_units() -> None:
    baseline = [unit(i % 2, i, value / 2) for i, value in enumerate(VALUES)]
    assert PairedScores.of(UNITS[::-1], baseline[::-1]) == PairedScores.of(UNITS, baseline)


def test_each_layer_is_compared_by_itself_and_the_movers_are_in_order() -> None:
    baseline = [unit(i % 2, i, 0.5) for i, _ in enumerate(VALUES)]
    paired = PairedScores.of(UNITS, baseline)
    assert [m.neuron_id.neuron_index for m in paired.movers] == [4, 3, 2, 1, 0, 5]
    assert paired.movers[0].difference == pytest.approx(0.4)
    by_layer = paired.by_layer()
    assert list(by_layer) == [0, 1]
    assert by_layer[0].mean == pytest.approx(np.mean([0.1, 0.5, 0.9]))
    assert sum(found.n_units for found in by_layer.values()) == len(paired.movers)
    assert all(m.neuron_id in {NeuronId(i % 2, i) for i in range(6)} for m in paired.movers)


def test_the_interval_is_that_of_drawing_all_resamples_at_once() -> None:
    n = 700  # more than is drawn at once, as pairs of unit and resample
    rng = np.random.default_rng(5)
    mine, other = rng.normal(0.3, 0.1, n), rng.normal(0.25, 0.1, n)
    paired = PairedScores.of(
        [unit(0, i, value) for i, value in enumerate(mine)],
        [unit(0, i, value) for i, value in enumerate(other)],
    )
    found = paired.compare(seed=3)
    differences = np.array([mover.difference for mover in paired.movers])
    drawn = np.random.default_rng(3).integers(n, size=(1000, n))
    low, high = np.quantile(differences[drawn].mean(axis=1), (0.025, 0.975))
    assert found is not None
    assert (found.low, found.high) == (low, high)
    assert found.difference == pytest.approx((mine - other).mean())


def test_units_that_are_not_compared_are_counted_by_reason() -> None:
    baseline = [
        unit(0, 0, 0.1),
        unit(1, 1, None, "too few windows: 3 of 20"),
        unexplained(0, 2, "refused: no"),
        unexplained(1, 8, "dead unit: gone"),
        UnitResult(NeuronId(1, 3), "e", "text", None, {"all": Score("auc", 0.9, 9)}, "all", "s"),
        unit(5, 5, 0.5),
    ]
    paired = PairedScores.of(UNITS, baseline, "before")
    assert [mover.neuron_id for mover in paired.movers] == [NeuronId(0, 0)]
    assert paired.left_out == {
        "before: no result": 2,
        "dead unit": 2,
        "before: refused": 1,
        "before: scored by auc, not m": 1,
        "before: too few windows": 1,
        "constant prediction": 1,
    }
    assert len(paired.movers) + sum(paired.left_out.values()) == len(UNITS)


def test_gains_and_losses_are_largest_first_with_ties_by_unit() -> None:
    changes = dict(enumerate([0.25, -0.25, 0.25, 0, -0.25, 0.5, TIE / 2, -TIE, TIE, -0.75]))
    paired = PairedScores.of(
        [unit(i % 2, i, change) for i, change in changes.items()],
        [unit(i % 2, i, 0.0) for i in changes],
    )

    def indices(movers: tuple[Mover, ...]) -> list[int]:
        return [mover.neuron_id.neuron_index for mover in movers]

    assert indices(paired.gains(9)) == [5, 0, 2, 8]
    assert indices(paired.losses(9)) == [9, 4, 1, 7]
    assert indices(paired.gains(2)) == [5, 0]
    assert indices(paired.losses(1)) == [9]
    found = paired.compare()
    assert found is not None
    assert (found.n_better, found.n_same, found.n_worse) == (4, 2, 4)


def test_a_method_is_read_beside_the_one_that_its_choices_name(tmp_path: Path) -> None:
    with Results(tmp_path / "r.sqlite") as results:
        results.use_method("b", {})
        results.use_method("m", {BASELINE: "b", BASELINE_LABEL: "before"})
        results.use_method("n", {BASELINE: "b"})
        assert read_baseline(results, "b") is None
        assert read_baseline(results, "m") == Baseline("b", "before")
        assert read_baseline(results, "n") == Baseline("b", "token lookup table")
