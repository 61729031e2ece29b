"""The bootstrap over windows equals the slow obvious way, and knows when to give no interval."""

from __future__ import annotations

import numpy as np
import pytest

from neuron_explainer.scoring.metrics import correlation
from neuron_explainer.scoring.uncertainty import (
    WindowPair,
    bootstrap_interval,
    draw_resamples,
    null_correlations,
    resampled_correlations,
)


def draw_windows(n_windows: int, seed: int = 0, offset: float = 0.0) -> list[WindowPair]:
    rng = np.random.default_rng(seed)
    windows = []
    for n_tokens in rng.integers(5, 64, size=n_windows):
        real = rng.normal(size=n_tokens) + rng.normal()
        windows.append(WindowPair(offset + real, offset + real + rng.normal(size=n_tokens)))
    return windows


def silent(n_tokens: int = 8, value: float = 0.0) -> WindowPair:
    return WindowPair(np.full(n_tokens, value), np.full(n_tokens, 0.1))


def obvious_correlations(windows: list[WindowPair], counts: np.ndarray) -> list[float]:
    """Write every resample out, token by token, and correlate it."""
    found = []
    for row in counts:
        taken = [window for window, n in zip(windows, row, strict=True) for _ in range(n)]
        value = correlation([w.real for w in taken], [w.simulated for w in taken])
        if value is not None:
            found.append(value)
    return found


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_summed_statistics_equal_resamples_written_out(offset: float) -> None:
    windows = draw_windows(8, offset=offset)
    counts = draw_resamples([5, 3], 100, np.random.default_rng(0))
    fast, slow = resampled_correlations(windows, counts), obvious_correlations(windows, counts)
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-9)


def test_resamples_without_variation_are_left_out_as_in_the_obvious_way() -> None:
    windows = [*draw_windows(1), *[silent(value=-0.1)] * 4, WindowPair(np.empty(0), np.empty(0))]
    counts = draw_resamples([len(windows)], 200, np.random.default_rng(0))
    fast, slow = resampled_correlations(windows, counts), obvious_correlations(windows, counts)
    assert 0 < len(fast) < 200
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-9)


def test_each_stratum_is_resampled_apart() -> None:
    counts = draw_resamples([5, 3], 50, np.random.default_rng(0))
    assert counts.shape == (50, 8)
    assert (counts[:, :5].sum(axis=1) == 5).all()
    assert (counts[:, 5:].sum(axis=1) == 3).all()
    assert len({tuple(row) for row in counts}) > 25


def test_draws_within_a_stratum_are_uniform() -> None:
    counts = draw_resamples([4], 20_000, np.random.default_rng(0))
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.03)
    np.testing.assert_allclose(counts.var(axis=0), 4 * 0.25 * 0.75, atol=0.03)


def test_interval_is_between_the_percentiles_of_the_resamples() -> None:
    windows = draw_windows(10)
    interval = bootstrap_interval([windows[:5], windows[5:]], np.random.default_rng(3))
    counts = draw_resamples([5, 5], 200, np.random.default_rng(3))
    expected = np.quantile(obvious_correlations(windows, counts), [0.025, 0.975])
    assert interval == pytest.approx(expected, abs=1e-9)


def test_interval_holds_the_score_and_narrows_with_more_windows() -> None:
    def width(n_windows: int) -> float:
        windows = draw_windows(n_windows)
        interval = bootstrap_interval([windows], np.random.default_rng(0))
        value = correlation([w.real for w in windows], [w.simulated for w in windows])
        assert interval is not None and value is not None
        assert interval.low <= value <= interval.high
        return interval.high - interval.low

    assert width(160) < width(10) / 2


def test_the_same_seed_gives_the_same_interval() -> None:
    windows = draw_windows(10)
    first, again, other = (
        bootstrap_interval([windows], np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_one_varying_window_of_five_is_too_little_and_two_are_enough() -> None:
    one = [*draw_windows(1), *[silent()] * 4]
    two = [*draw_windows(2), *[silent()] * 3]
    assert bootstrap_interval([one], np.random.default_rng(0)) is None
    assert bootstrap_interval([two], np.random.default_rng(0)) is not None


@pytest.mark.parametrize(
    "strata",
    [
        [],
        [draw_windows(1)],
        [draw_windows(5), draw_windows(1)],
        [[silent(), silent(), silent()]],
        [[WindowPair(np.arange(4.0), np.full(4, 0.1 * (1 + 1e-16 * i))) for i in range(3)]],
    ],
    ids=["none", "one window", "one window in a stratum", "silent", "constant prediction"],
)
def test_no_interval_where_nothing_can_be_resampled(strata: list[list[WindowPair]]) -> None:
    assert bootstrap_interval(strata, np.random.default_rng(0)) is None


def test_no_resamples_asked_for_no_interval() -> None:
    assert bootstrap_interval([draw_windows(5)], np.random.default_rng(0), n_resamples=0) is None


def test_turned_simulations_keep_the_windows_and_lose_the_tokens() -> None:
    """Within a window the alignment is gone; which window is active is still known."""
    rng = np.random.default_rng(0)
    level = np.repeat([0.0, 0.0, 0.0, 5.0], 64).reshape(4, 64)
    real = level + rng.normal(size=(4, 64))
    exact = [WindowPair(r, r.copy()) for r in real]
    null = null_correlations(exact, np.random.default_rng(0))
    levels_alone = correlation(real, level)
    assert levels_alone is not None
    assert null.mean() == pytest.approx(levels_alone**2, abs=0.02)
    one_window = null_correlations(exact[:1], np.random.default_rng(0))
    assert abs(one_window.mean()) < 0.05


def test_a_turned_simulation_equals_one_turned_by_hand() -> None:
    windows = draw_windows(1)
    real, simulated = windows[0]
    by_hand = [correlation(real, np.roll(simulated, -k)) or 0 for k in range(1, len(real))]
    null = null_correlations(windows, np.random.default_rng(0), n_shifts=2000)
    np.testing.assert_allclose(np.unique(null.round(9)), np.unique(np.round(by_hand, 9)), atol=1e-8)


def test_an_undefined_correlation_has_no_null() -> None:
    assert len(null_correlations([silent()], np.random.default_rng(0))) == 0
