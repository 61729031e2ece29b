"""The four metrics: published vectors, invariances, and a reason wherever there is no value."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuron_explainer.scoring.metrics import (
    Metric,
    Undefined,
    absolute_dev_explained,
    correlation,
    explained_variance,
    measure,
    rsquared,
    undefined_reason,
)
from neuron_explainer.simulators.calibration import LinearCalibration

PUBLISHED = Path(__file__).parents[2].parent / "shared/data/published/gpt2xl_simulated_5.json"
PUBLISHED_CORRELATION = {
    (6, 3251): 0.914840,
    (13, 979): 0.746847,
    (19, 1763): 0.586193,
    (0, 816): 0.216964,
    (16, 518): -0.045498,
}

needs_published = pytest.mark.skipif(
    not PUBLISHED.exists(), reason="no shared data folder beside the project"
)


def draw(n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    real = rng.normal(size=n)
    return real, real + rng.normal(size=n)


# Values of the original functions; None stands where they give NaN or infinity.
@pytest.mark.parametrize(
    ("real", "simulated", "rho", "rsq", "absdev"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], 1, 1, 1),
        ([1, 2, 3, 4], [3, 5, 7, 9], 1, -0.8, -0.4),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1, 1 / 3, 0.2),
        ([1, 2, 3, 4], [0, 0, 0, 0], None, 0, 0),
        ([1, 2, 3, 4], [2, 2, 2, 2], None, 0.8, 0.6),
        ([0, 0.5, -0.1, 3], [0, 1, 0, 8], 0.998007, -1.727862, -0.555556),
        ([0, 0, 0, 0], [1, 2, 3, 4], None, None, None),
        ([0, 0, 0, 0], [0, 0, 0, 0], None, None, None),
        ([], [], None, None, None),
    ],
)
def test_values_are_those_of_the_original_functions(
    real: list[float],
    simulated: list[float],
    rho: float | None,
    rsq: float | None,
    absdev: float | None,
) -> None:
    found = (
        correlation(real, simulated),
        rsquared(real, simulated),
        absolute_dev_explained(real, simulated),
    )
    for value, expected in zip(found, (rho, rsq, absdev), strict=True):
        assert value == (None if expected is None else pytest.approx(expected, abs=1e-6))


def published_units() -> dict[tuple[int, int], dict[str, Any]]:
    units = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    return {(unit["layer"], unit["neuron"]): unit for unit in units}


def strengths(unit: dict[str, Any], which: str) -> list[list[float]]:
    return [[t["strength"] for t in sequence[which]] for sequence in unit["score_sequences"]]


@pytest.mark.shared_data
@needs_published
def test_published_simulations_get_their_published_correlation() -> None:
    units = published_units()
    found = {
        unit_id: round(correlation(strengths(unit, "actual"), strengths(unit, "simulated")) or 0, 6)
        for unit_id, unit in units.items()
    }
    assert found == PUBLISHED_CORRELATION


@pytest.mark.shared_data
@needs_published
def test_calibration_on_the_scored_tokens_explains_rho_squared() -> None:
    unit = published_units()[6, 3251]
    real, simulated = strengths(unit, "actual"), strengths(unit, "simulated")
    assert rsquared(real, simulated) == pytest.approx(-0.6321, abs=1e-4)
    assert absolute_dev_explained(real, simulated) == pytest.approx(-0.9138, abs=1e-4)
    r, p = np.concatenate(real), np.concatenate(simulated)
    line = LinearCalibration.fit(p, r)
    assert line.slope == pytest.approx(0.46542, abs=1e-5)
    assert line.intercept == pytest.approx(-0.12501, abs=1e-5)
    assert explained_variance(r, line.apply(p)) == pytest.approx(0.8369, abs=1e-4)
    assert explained_variance(r, line.apply(p)) == pytest.approx(0.914840**2, abs=1e-5)


def test_correlation_equals_numpys() -> None:
    real, simulated = draw()
    assert correlation(real, simulated) == pytest.approx(np.corrcoef(real, simulated)[0, 1], 1e-12)


def test_explained_variance_of_the_mean_is_zero_and_of_the_truth_one() -> None:
    real, _ = draw()
    assert explained_variance(real, np.full_like(real, real.mean())) == pytest.approx(0, abs=1e-12)
    assert explained_variance(real, real) == 1


@pytest.mark.parametrize("offset", [0.0, -3.0, 1e6])
@pytest.mark.parametrize("factor", [1e-150, 1e-3, 1.0, 1e150])
def test_correlation_is_the_same_after_any_rising_line(factor: float, offset: float) -> None:
    real, simulated = draw()
    moved = factor * (simulated + offset)
    expected = correlation(real, simulated)
    assert expected is not None
    assert correlation(real, moved) == pytest.approx(expected, abs=1e-9)
    assert correlation(moved, real) == pytest.approx(expected, abs=1e-9)
    assert correlation(real, -moved) == pytest.approx(-expected, abs=1e-9)


def test_a_small_variation_on_a_large_offset_is_not_lost() -> None:
    """The values are exact in binary, so the offset may not change the result at all."""
    steps = np.arange(64.0) % 7
    other = np.arange(64.0) % 5
    expected = correlation(steps, other)
    assert correlation(1e6 + steps * 2.0**-20, other) == pytest.approx(expected, rel=1e-12)


def test_correlation_never_leaves_its_interval() -> None:
    for seed in range(50):
        real, _ = draw(n=5, seed=seed)
        value = correlation(real, 3 * real + 1)
        assert value is not None and 1 - 1e-12 < value <= 1


@pytest.mark.parametrize("constant", [0.0, 0.1, -0.17, 1e6 + 0.1, 1e-300, 1e300])
def test_a_constant_is_a_constant_whatever_its_value(constant: float) -> None:
    real, _ = draw()
    flat = np.full_like(real, constant)
    assert undefined_reason(Metric.EV_CORRELATION, real, flat) == "constant prediction"
    reason = undefined_reason(Metric.EV_CORRELATION, flat, real)
    assert reason == ("no activations" if constant == 0 else "constant activations")
    assert undefined_reason(Metric.EXPLAINED_VARIANCE, flat, real) == reason


def test_rounding_noise_does_not_make_a_constant_vary() -> None:
    real, _ = draw()
    noisy = np.full(len(real), 0.1)
    noisy[::2] = sum([0.1] * 10) / 10  # differs in the last bits
    noisy[::3] = 0.3 - 0.2
    assert len(set(noisy)) > 1
    assert undefined_reason(Metric.EV_CORRELATION, real, noisy) is Undefined.CONSTANT_PREDICTION


def test_one_token_a_float32_step_away_is_a_variation() -> None:
    real = np.ones(640)
    real[17] = np.nextafter(np.float32(1), np.float32(2))
    simulated = np.zeros(640)
    simulated[17] = 1
    assert correlation(real, simulated) == pytest.approx(1)


@pytest.mark.parametrize("metric", list(Metric))
def test_a_measurement_has_a_value_or_a_reason(metric: Metric) -> None:
    lists: tuple[list[float], ...] = (
        [],
        [0.0],
        [1.0],
        [0.0, 0.0],
        [2.0, 2.0],
        [0.0, 1.0],
        [1e-300, 0.0],
        [1e300, -1e300],
    )
    for real in lists:
        for simulated in (s for s in lists if len(s) == len(real)):
            value, reason, n_tokens = measure(metric, real, simulated)
            assert (value is None) != (reason is None)
            assert value is None or math.isfinite(value)
            assert n_tokens == len(real)


def test_reasons_by_metric() -> None:
    def reasons(real: list[float], simulated: list[float]) -> list[str | None]:
        return [undefined_reason(metric, real, simulated) for metric in Metric]

    few, none, flat = "too few tokens", "no activations", "constant activations"
    assert reasons([], []) == [few, few, few, few]
    assert reasons([1.0], [1.0]) == [few, None, None, few]
    assert reasons([0.0, 0.0], [1.0, 2.0]) == [none, none, none, none]
    assert reasons([3.0, 3.0], [1.0, 2.0]) == [flat, None, None, flat]
    assert reasons([1.0, 2.0], [3.0, 3.0]) == ["constant prediction", None, None, None]
    assert reasons([1.0, 2.0], [2.0, 3.0]) == [None, None, None, None]


def test_an_error_too_large_for_a_float_has_a_reason() -> None:
    assert undefined_reason(Metric.RSQUARED, [1e-300, 0], [1e300, 0]) is Undefined.OUT_OF_RANGE


@pytest.mark.parametrize("metric", list(Metric))
def test_the_aggregate_is_the_score_of_the_concatenation(metric: Metric) -> None:
    real, simulated = draw(n=100)
    cuts = [3, 3, 40, 77]  # ragged, with an empty window
    whole = measure(metric, real, simulated)
    windows = measure(metric, np.split(real, cuts), np.split(simulated, cuts))
    lists = measure(
        metric,
        [w.tolist() for w in np.split(real, cuts)],
        [w.tolist() for w in np.split(simulated, cuts)],
    )
    assert whole == windows == lists


def test_the_aggregate_is_not_the_mean_of_the_windows_scores() -> None:
    real, simulated = [[0, 1, 0], [9, 8, 9]], [[1, 0, 1], [5, 6, 5]]
    assert [correlation(r, p) for r, p in zip(real, simulated, strict=True)] == pytest.approx(
        [-1, -1]
    )
    assert (correlation(real, simulated) or 0) > 0.9


@pytest.mark.parametrize("metric", list(Metric))
def test_the_order_of_windows_does_not_matter(metric: Metric) -> None:
    real, simulated = draw(n=60)
    r, p = np.split(real, [10, 25]), np.split(simulated, [10, 25])
    forward, backward = measure(metric, r, p), measure(metric, r[::-1], p[::-1])
    assert forward.value == pytest.approx(backward.value, rel=1e-12)


def test_equal_windows_may_come_as_one_block() -> None:
    real, simulated = draw(n=60)
    assert correlation(real.reshape(3, 20), simulated.reshape(3, 20)) == correlation(
        real, simulated
    )


def test_lengths_that_differ_are_an_error() -> None:
    with pytest.raises(ValueError, match="2 simulated activations for 3 real"):
        correlation([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match=r"2 \+ 1 simulated activations for 1 \+ 2 real"):
        correlation([[1], [2, 3]], [[1, 2], [3]])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("metric", list(Metric))
def test_values_that_are_not_finite_are_an_error(metric: Metric, bad: float) -> None:
    for real, simulated in (([1, bad, 2], [1, 2, 3]), ([1, 2, 3], [bad, 1, 2]), ([bad], [1])):
        with pytest.raises(ValueError, match="not finite"):
            measure(metric, real, simulated)


def test_the_arrays_passed_in_are_left_alone() -> None:
    real, simulated = draw()
    before = real.copy(), simulated.copy()
    for metric in Metric:
        measure(metric, real, simulated)
    np.testing.assert_array_equal((real, simulated), before)
