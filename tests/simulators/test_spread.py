"""Spread is that of the plain formulas wherever those can be trusted."""

from __future__ import annotations

import numpy as np
import pytest

from neuron_explainer.simulators.spread import measure_spread, power_of_two_unit


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e3])
def test_spread_is_that_of_the_plain_formulas(factor: float) -> None:
    values = factor * np.random.default_rng(0).normal(size=100)
    spread = measure_spread(values)
    assert spread.mean == pytest.approx(values.mean())
    assert spread.peak == np.abs(values).max()
    assert spread.sum_of_squares / spread.unit**2 == pytest.approx(values.var() * 100)
    np.testing.assert_allclose(spread.deviations / spread.unit, values - values.mean(), atol=1e-12)


@pytest.mark.parametrize("peak", [5e-324, 1e-310, 1e-200, 0.3, 0.5, 1.0, 7.0, 1e308])
def test_unit_is_a_power_of_two_that_keeps_squares_in_range(peak: float) -> None:
    unit = power_of_two_unit(peak)
    assert np.frexp(unit)[0] == 0.5
    assert 2.0**-52 < peak * unit < 1


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1.0, 1e308])
def test_a_constant_is_told_from_a_step_at_any_scale(scale: float) -> None:
    assert measure_spread(np.full(7, scale)).is_constant
    assert not measure_spread(np.array([scale, 0.0, 0.0])).is_constant
    assert not measure_spread(np.array([scale, -scale])).is_constant


def test_a_value_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(ValueError, match="not finite"):
        measure_spread(np.array([1.0, np.nan]))
