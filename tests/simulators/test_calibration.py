"""Calibration maps to raw activations, leaves correlation alone, and is defined for a constant."""

from __future__ import annotations

import numpy as np
import pytest

from neuron_explainer.scoring.metrics import correlation, explained_variance
from neuron_explainer.simulators.calibration import (
    LinearCalibration,
    PercentileCalibration,
)


def draw(n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Simulated 0..10, and real activations that follow it."""
    rng = np.random.default_rng(0)
    simulated = rng.uniform(0, 10, size=n)
    return simulated, 0.3 * simulated - 0.2 + rng.normal(size=n)


def test_line_is_that_of_least_squares() -> None:
    simulated, real = draw()
    line = LinearCalibration.fit(simulated, real)
    slope, intercept = np.polyfit(simulated, real, deg=1)
    assert (line.slope, line.intercept) == pytest.approx((slope, intercept), rel=1e-9)


@pytest.mark.parametrize(("factor", "offset"), [(1e-200, 0.0), (1e200, 0.0), (1e-6, 1e6)])
def test_line_survives_unusual_units(factor: float, offset: float) -> None:
    simulated, real = draw()
    line = LinearCalibration.fit(offset + factor * simulated, real)
    plain = LinearCalibration.fit(simulated, real)
    assert line.slope * factor == pytest.approx(plain.slope, rel=1e-3)
    assert LinearCalibration.fit(simulated, real * 1e150).slope == pytest.approx(
        plain.slope * 1e150
    )


def test_a_rising_line_leaves_the_correlation_unchanged() -> None:
    simulated, real = draw()
    line = LinearCalibration.fit(simulated, real)
    assert line.slope > 0
    assert correlation(real, line.apply(simulated)) == pytest.approx(correlation(real, simulated))


def test_a_line_fitted_on_the_scored_tokens_explains_rho_squared() -> None:
    simulated, real = draw()
    rho = correlation(real, simulated)
    assert rho is not None
    calibrated = LinearCalibration.fit(simulated, real).apply(simulated)
    assert explained_variance(real, calibrated) == pytest.approx(rho**2)
    assert calibrated.mean() == pytest.approx(real.mean())


@pytest.mark.parametrize("fit", [LinearCalibration.fit, PercentileCalibration.fit])
def test_a_constant_simulation_is_mapped_to_the_mean(fit: object) -> None:
    calibration = fit([0.1] * 5, [1.0, 2.0, 3.0, 4.0, 10.0])  # type: ignore[operator]
    np.testing.assert_allclose(calibration.apply(np.array([0.1, 7.0])), [4.0, 4.0])


@pytest.mark.parametrize("fit", [LinearCalibration.fit, PercentileCalibration.fit])
def test_missing_predictions_are_left_out_of_the_fit(fit: object) -> None:
    with_missing = fit([1.0, None, 2.0, None, 4.0], [5.0, 99.0, 6.0, -99.0, 9.0])  # type: ignore[operator]
    assert with_missing == fit([1.0, 2.0, 4.0], [5.0, 6.0, 9.0])  # type: ignore[operator]


@pytest.mark.parametrize("fit", [LinearCalibration.fit, PercentileCalibration.fit])
def test_what_cannot_be_fitted_is_an_error(fit: object) -> None:
    for simulated, real, message in (
        ([], [], "no token"),
        ([None, None], [1.0, 2.0], "no token"),
        ([1.0], [1.0, 2.0], "1 predictions for 2"),
        ([1.0, float("nan")], [1.0, 2.0], "not finite"),
        ([1.0, 2.0], [1.0, float("inf")], "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(simulated, real)  # type: ignore[operator]


def test_percentiles_without_ties_are_the_published_interpolation() -> None:
    simulated, real = draw()
    values = np.linspace(-1, 11, 50)
    expected = np.interp(values, np.sort(simulated), np.sort(real))
    np.testing.assert_allclose(PercentileCalibration.fit(simulated, real).apply(values), expected)


def test_percentiles_give_the_simulation_the_real_distribution() -> None:
    simulated, real = draw()
    mapped = PercentileCalibration.fit(simulated, real).apply(simulated)
    np.testing.assert_allclose(np.sort(mapped), np.sort(real))
    np.testing.assert_array_equal(np.argsort(mapped), np.argsort(simulated))


def test_tied_predictions_share_the_mean_of_their_quantiles() -> None:
    calibration = PercentileCalibration.fit([0.0, 0.0, 0.0, 1.0], [9.0, 1.0, 2.0, 3.0])
    np.testing.assert_allclose(calibration.apply(np.array([0.0, 1.0])), [2.0, 9.0])
