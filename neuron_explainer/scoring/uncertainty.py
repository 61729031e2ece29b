"""How sure a correlation is: a bootstrap interval over windows, and a null baseline.

1. Tokens of one window are not independent, so windows are resampled, never tokens.
2. Top and random windows are different populations: each stratum is resampled apart.
3. A correlation needs six sums, and those of a resample are sums of the windows' own:
   ρ = (Σrp − Σr·Σp/n) / √((Σr² − (Σr)²/n)·(Σp² − (Σp)²/n)), of deviations from the pooled means.
4. The interval runs between two percentiles of the resampled ρ (Efron 1979). With the published
   five windows a stratum it is too narrow: on made-up sparse units, intervals meant to hold the
   true value 95 times in 100 held it 80 times, and 87 times with twenty windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neuron_explainer.simulators.spread import FloatArray, measure_spread

CONSTANT_RESAMPLE = 1e-12
"""A resample is constant when its variance is at most this share of its mean squared deviation from
the pooled mean: the difference of the two sums is then mostly rounding (some 1e-15 of either)."""


class WindowPair(NamedTuple):
    """Real and simulated activations of one window's tokens, in the same order."""

    real: FloatArray
    simulated: FloatArray


Stratum = Sequence[WindowPair]


class Interval(NamedTuple):
    low: float
    high: float


def bootstrap_interval(
    strata: Sequence[Stratum],
    rng: np.random.Generator,
    *,
    weights: Sequence[float] | None = None,
    n_resamples: int = 200,
    level: float = 0.95,
    max_undefined_share: float = 0.2,
) -> Interval | None:
    """Percentile interval of the correlation over all windows of all strata.

    weights: one a stratum, how often each of its windows counts; None: once.
    A resample with no variation has no correlation and is left out. There is no interval when more
    than `max_undefined_share` of them are: at five windows, when one alone varies (0.8⁵ = 33 % miss
    it) but not when two do (0.6⁵ = 8 %). Nor is there one when a stratum has a single window.
    """
    if n_resamples < 1 or min(map(len, strata), default=0) < 2:
        return None
    sizes = [len(stratum) for stratum in strata]
    counts = draw_resamples(sizes, n_resamples, rng)
    weighted = counts * np.repeat([1.0] * len(sizes) if weights is None else weights, sizes)
    resampled = resampled_correlations([pair for stratum in strata for pair in stratum], weighted)
    if len(resampled) < (1 - max_undefined_share) * n_resamples:
        return None
    return central_range(resampled, level)


def central_range(values: FloatArray, level: float = 0.95) -> Interval:
    """values: (n,), n ≥ 1. Between which two percentiles that share of the values lies."""
    ranks = np.array([(1 - level) / 2, (1 + level) / 2]) * (len(values) - 1)
    # What np.quantile does, in a tenth of its time.
    low, high = np.interp(ranks, np.arange(len(values)), np.sort(values)).tolist()
    return Interval(low, high)


def draw_resamples(
    stratum_sizes: Sequence[int], n_resamples: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """(n_resamples, windows): how often each resample takes each window, stratum after stratum.

    Within a stratum every row sums to the stratum's size.
    """
    counts = [_draw_stratum(size, n_resamples, rng) for size in stratum_sizes]
    return np.concatenate(counts, axis=1)


def resampled_correlations(
    windows: Sequence[WindowPair], counts: npt.NDArray[np.int64] | FloatArray
) -> FloatArray:
    """(defined,): ρ of each row of `counts` (resample, window) where it is defined, in order."""
    n, r, p, rr, pp, rp = (counts @ _window_sums(windows)).T  # each (resample,)
    n = np.where(n == 0, 1, n)  # a resample without a token is undefined below
    rr_centred, pp_centred = rr - r * r / n, pp - p * p / n
    defined = (rr_centred > CONSTANT_RESAMPLE * rr) & (pp_centred > CONSTANT_RESAMPLE * pp)
    covariance = (rp - r * p / n)[defined]
    rho: FloatArray = covariance / np.sqrt(rr_centred[defined] * pp_centred[defined])
    return np.clip(rho, -1.0, 1.0)


def null_correlations(
    windows: Sequence[WindowPair], rng: np.random.Generator, n_shifts: int = 100
) -> FloatArray:
    """(n_shifts,): ρ when each window's simulation is turned round by a random number of tokens.

    What is left of a score without the alignment of tokens: how well the simulation tells active
    windows from silent ones. Empty when the correlation itself is undefined.
    """
    pooled = _pooled_deviations(windows)
    scale = np.sqrt((pooled.real @ pooled.real) * (pooled.simulated @ pooled.simulated))
    if scale == 0:
        return np.empty(0)
    lengths = np.array([len(window.real) for window in windows])
    length_of, products = np.repeat(lengths, lengths), np.zeros(n_shifts)
    for T in np.unique(lengths[lengths > 0]).tolist():
        r, p = (values[length_of == T].reshape(-1, T) for values in pooled)  # (window, T)
        turned = _turned_products(r, p)
        shifts = rng.integers(min(1, T - 1), T, size=(n_shifts, len(r)))
        products += turned[np.arange(len(r)), shifts].sum(axis=1)
    rho: FloatArray = products / scale
    return rho


def _turned_products(r: FloatArray, p: FloatArray) -> FloatArray:
    """r, p: (window, T) -> (window, T): Σ r·p with p turned round by 0, 1, … T − 1 tokens."""
    turned: FloatArray = np.fft.irfft(np.fft.rfft(p) * np.fft.rfft(r).conj(), r.shape[1])
    return turned


def _draw_stratum(size: int, n_resamples: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """(n_resamples, size): counts of `size` draws with replacement."""
    draws = rng.integers(size, size=(n_resamples, size))
    cells = draws + size * np.arange(n_resamples)[:, None]  # number of the (resample, window) cell
    counts = np.bincount(cells.ravel(), minlength=n_resamples * size)
    return counts.reshape(n_resamples, size)


def _window_sums(windows: Sequence[WindowPair]) -> FloatArray:
    """(window, 6): n, Σr, Σp, Σr², Σp², Σrp of each window's deviations from the pooled means."""
    r, p = _pooled_deviations(windows)
    lengths = [len(window.real) for window in windows]
    owner = np.repeat(np.arange(len(windows)), lengths)  # (n,)
    sums = [
        np.bincount(owner, weights=weights, minlength=len(windows))
        for weights in (r, p, r * r, p * p, r * p)
    ]
    return np.stack([np.array(lengths, dtype=np.float64), *sums], axis=1)


def _pooled_deviations(windows: Sequence[WindowPair]) -> WindowPair:
    """All tokens of all windows as one; 0 throughout where the pooled values are constant."""
    return WindowPair(
        real=_deviations(np.concatenate([window.real for window in windows])),
        simulated=_deviations(np.concatenate([window.simulated for window in windows])),
    )


def _deviations(values: FloatArray) -> FloatArray:
    if len(values) == 0:
        return values
    spread = measure_spread(values)
    return np.zeros_like(values) if spread.is_constant else spread.deviations
