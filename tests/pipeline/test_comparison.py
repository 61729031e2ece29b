"""Two methods are compared over the units that both score, and over no other."""

from __future__ import annotations

import numpy as np
import pytest

from neuron_explainer.pipeline.comparison import PairedScores
from neuron_explainer.records.neuron import NeuronId
from tests.pipeline.test_summary import UNITS, VALUES, unit


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
