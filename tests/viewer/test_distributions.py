"""Histograms and quantiles of scores."""

from __future__ import annotations

import re
import statistics

import numpy as np
import pytest

from neuron_explainer.viewer.distributions import Axis, describe, histogram_path, pair_density


@pytest.mark.parametrize(
    ("values", "low"), [([], 0.0), ([0.3], 0.0), ([-0.1, 0.9], -0.25), ([-7.0], -1.0)]
)
def test_axis_includes_zero_and_one_and_no_more_than_minus_one(
    values: list[float], low: float
) -> None:
    axis = Axis.covering(values)
    assert (axis.low, axis.high) == (low, 1.0)
    assert {0.0, 1.0} <= set(axis.ticks)
    assert min(axis.ticks) >= low


def test_numbers_are_those_of_the_standard_library() -> None:
    values = [0.1, 0.9, 0.4, 0.5, 0.6, 0.51]
    shown = describe("all", values, Axis(0.0))
    quartiles = statistics.quantiles(values, n=4, method="inclusive")
    assert shown.n == 6
    assert shown.mean == pytest.approx(statistics.mean(values))
    assert (shown.first_quartile, shown.median, shown.third_quartile) == pytest.approx(
        tuple(quartiles)
    )
    assert shown.share_good == pytest.approx(3 / 6)


def test_no_values_have_no_mean_rather_than_zero() -> None:
    shown = describe("none", [], Axis(0.0))
    assert (shown.n, shown.mean, shown.median, shown.share_good, shown.path) == (
        0,
        None,
        None,
        None,
        "",
    )


def test_bars_are_as_high_as_the_counts() -> None:
    axis = Axis(0.0)
    values = np.array([0.0, 0.01, 0.049, 0.05, 0.99, 1.0])
    heights = [100 - float(y) for y in re.findall(r"V([\d.]+)H", histogram_path(values, axis))]
    expected = np.zeros(20)
    expected[[0, 1, 19]] = [3, 1, 2]
    assert heights == pytest.approx(100 * expected / 3, abs=0.1)


def test_values_below_the_axis_are_drawn_in_the_first_bar_and_counted() -> None:
    shown = describe("low", [-4.0, -1.0, 0.5], Axis(-1.0))
    assert shown.n_below_axis == 1
    assert shown.path.startswith("M0 100V0H2.5")


def test_density_counts_every_pair_once() -> None:
    rng = np.random.default_rng(7)
    pairs = [(float(x), float(y)) for x, y in rng.uniform(-1.2, 1.0, (500, 2))]
    density = pair_density(pairs)
    assert density is not None
    assert sum(cell.n_neurons for cell in density.cells) == density.n == 500
    assert max(cell.weight for cell in density.cells) == 1.0
    assert all(0 <= cell.x < 100 and 0 <= cell.y < 100 for cell in density.cells)


def test_density_puts_a_pair_where_its_scores_are() -> None:
    density = pair_density([(0.52, 0.02)])
    assert density is not None
    (cell,) = density.cells
    assert (cell.x, cell.y) == (50.0, 0.0)


def test_no_pairs_make_no_plot() -> None:
    assert pair_density([]) is None
