"""The summary counts every unit once: with its score, or under the reason for having none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neuron_explainer.pipeline.summary import summarize_method, summarize_run
from neuron_explainer.records.cost import UnitCost
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import Score
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.comparison import PairedScores
from neuron_explainer.stores.results import BASELINE, Results

VALUES = [0.1, 0.2, 0.5, 0.6, 0.9, -0.3]


def unit(layer: int, index: int, value: float | None, reason: str | None = None) -> UnitResult:
    scores = {
        "all": Score("m", value, 10, reason=reason),
        "top": Score("m", 0.0, 5),
    }
    return UnitResult(NeuronId(layer, index), "e", "text", None, scores, "all", "s")


def unexplained(layer: int, index: int, reason: str) -> UnitResult:
    return UnitResult(NeuronId(layer, index), "e", None, reason, {}, None, None)


UNITS = [
    *(unit(i % 2, i, value) for i, value in enumerate(VALUES)),
    unit(0, 7, None, "constant prediction"),
    unexplained(1, 8, "dead unit: never active"),
    unexplained(2, 9, "dead unit: gone"),
]


def test_every_unit_is_scored_or_counted_under_its_reason() -> None:
    summary = summarize_run(UNITS)
    assert summary.overall.n_units == len(UNITS)
    assert summary.overall.n_scored == len(VALUES)
    assert summary.unscored == {"dead unit": 2, "constant prediction": 1}
    assert next(iter(summary.unscored)) == "dead unit"


def test_the_numbers_are_those_of_the_headline_scores() -> None:
    overall = summarize_run(UNITS).overall
    assert overall.mean == pytest.approx(np.mean(VALUES))
    assert overall.quantiles is not None
    assert overall.quantiles["0.5"] == pytest.approx(np.median(VALUES))
    assert overall.share_above_half == pytest.approx(2 / 6)
    assert overall.mean_by_name == {"all": pytest.approx(np.mean(VALUES)), "top": 0.0}


def test_each_layer_is_summed_up_as_if_it_were_alone() -> None:
    summary = summarize_run(UNITS)
    assert list(summary.by_layer) == [0, 1, 2]
    for layer, found in summary.by_layer.items():
        alone = summarize_run(u for u in UNITS if u.neuron_id.layer_index == layer)
        assert found == alone.overall


def test_the_order_of_the_units_does_not_matter() -> None:
    forward, backward = summarize_run(UNITS), summarize_run(UNITS[::-1])
    assert forward.unscored == backward.unscored
    assert list(forward.by_layer) == list(backward.by_layer)
    assert forward.overall.mean == pytest.approx(backward.overall.mean)
    assert forward.overall.quantiles == backward.overall.quantiles


@pytest.mark.parametrize("units", [[], UNITS[-3:]], ids=["no unit", "none scored"])
def test_without_a_score_there_is_no_number(units: list[UnitResult]) -> None:
    overall = summarize_run(units).overall
    assert (overall.mean, overall.quantiles, overall.share_above_half) == (None, None, None)
    assert overall.n_units == len(units)


def test_what_a_run_cost_is_the_sum_of_what_its_units_cost() -> None:
    asked = [replace(u, cost=UnitCost(2, 10, 4, 3, 5 * i)) for i, u in enumerate(UNITS)]
    n = len(UNITS)
    total = UnitCost(2 * n, 10 * n, 4 * n, 3 * n, 5 * n * (n - 1) // 2)
    assert summarize_run(asked).cost == total
    assert summarize_run(UNITS).cost is None
    unpriced = replace(asked[0], cost=UnitCost(1, cost_picousd=None))
    cost = summarize_run([unpriced, *asked[1:]]).cost
    assert cost is not None
    assert cost.cost_usd is None


def test_what_is_beside_a_run_is_compared_in_all_and_by_layer() -> None:
    baseline = [unit(i % 2, i, 0.5) for i in range(len(VALUES))]
    summary = summarize_run(UNITS, baseline, "before")
    paired = PairedScores.of(UNITS, baseline, "before")
    assert summary.comparison == paired.compare()
    assert summary.comparison_by_layer == paired.by_layer()
    assert list(summary.comparison_by_layer) == [0, 1]
    assert summarize_run(UNITS).comparison_by_layer == {}


def test_a_method_is_summarized_beside_its_baseline(tmp_path: Path) -> None:
    with Results(tmp_path / "r.sqlite") as results:
        results.use_method("b", {})
        results.add_unexplained("b", NeuronId(0, 0), "token_lookup", "dead unit: x")
        assert summarize_method(results).comparison is None
        results.use_method("m", {BASELINE: "b"})
        results.add_unexplained("m", NeuronId(0, 0), "summary", "refused: y")
        assert summarize_method(results).unscored == {"refused": 1}
        assert summarize_method(results, "b").unscored == {"dead unit": 1}
