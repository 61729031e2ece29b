"""Agreement of simulated and real activations: arrays in, number out.

Bills et al. 2023, `scoring.py` and the section on scoring. r: real, p: simulated, token by token;
an aggregate takes the tokens of all windows as one list, it is not a mean of scores.

    ev_correlation_score            ρ(r, p), Pearson; the preferred score
    rsquared_score                  1 − mean((r − p)²) / mean(r²), as published: not Var(r)
    absolute_dev_explained_score    1 − mean(|r − p|) / mean(|r|)
    explained_variance              1 − mean((r − p)²) / Var(r), the paper's formula
    weighted ev_correlation_score   ρ where each token counts as often as its weight says

A metric that is undefined has a reason in place of a value, never NaN or infinity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple, TypeAlias

import numpy as np

from neuron_explainer.simulators.spread import FloatArray, Spread, measure_spread

Activations: TypeAlias = (
    FloatArray | Sequence[float] | Sequence[Sequence[float]] | Sequence[FloatArray]
)
"""One value a token: a flat list, or a list of windows of any lengths."""


class Metric(StrEnum):
    """The name of a score; the published field where there is one."""

    EV_CORRELATION = "ev_correlation_score"
    RSQUARED = "rsquared_score"
    ABSOLUTE_DEV_EXPLAINED = "absolute_dev_explained_score"
    EXPLAINED_VARIANCE = "explained_variance"


class Undefined(StrEnum):
    """Why a metric has no value; when several apply, the first of this list."""

    TOO_FEW_TOKENS = "too few tokens"
    """None at all; for a correlation or a variance, fewer than two."""
    NO_ACTIVATIONS = "no activations"
    """Every real activation is exactly 0."""
    CONSTANT_ACTIVATIONS = "constant activations"
    """The real activations do not vary, but for rounding noise."""
    CONSTANT_PREDICTION = "constant prediction"
    """The simulation does not vary, but for rounding noise."""
    OUT_OF_RANGE = "score out of range"
    """The error is so much larger than the activations that a float cannot hold the ratio."""


class Measurement(NamedTuple):
    """A value, or the reason there is none."""

    value: float | None
    reason: Undefined | None
    n_tokens: int


def correlation(real: Activations, simulated: Activations) -> float | None:
    """Pearson ρ, in [−1, 1]: the published `ev_correlation_score`; None where undefined."""
    return measure(Metric.EV_CORRELATION, real, simulated).value


def rsquared(real: Activations, simulated: Activations) -> float | None:
    """1 − mean((r − p)²) / mean(r²), as published; None where undefined."""
    return measure(Metric.RSQUARED, real, simulated).value


def absolute_dev_explained(real: Activations, simulated: Activations) -> float | None:
    """1 − mean(|r − p|) / mean(|r|); None where undefined."""
    return measure(Metric.ABSOLUTE_DEV_EXPLAINED, real, simulated).value


def explained_variance(real: Activations, simulated: Activations) -> float | None:
    """1 − mean((r − p)²) / Var(r), population variance; None where undefined."""
    return measure(Metric.EXPLAINED_VARIANCE, real, simulated).value


def undefined_reason(metric: Metric, real: Activations, simulated: Activations) -> Undefined | None:
    """Why `metric` has no value on these activations; None when it has one."""
    return measure(metric, real, simulated).reason


def measure(metric: Metric, real: Activations, simulated: Activations) -> Measurement:
    """The value or the reason, in one pass.

    ValueError when the lengths differ, window by window where both are windows, and for values
    that are not finite.
    """
    r, p = _flatten(real), _flatten(simulated)
    _check_lengths(r, p)
    n_tokens = len(r.values)
    if n_tokens == 0:
        return Measurement(None, Undefined.TOO_FEW_TOKENS, n_tokens)
    pair = _Pair(r.values, p.values, measure_spread(r.values), measure_spread(p.values))
    reason = _why_undefined(metric, pair)
    if reason is not None:
        return Measurement(None, reason, n_tokens)
    with np.errstate(over="ignore"):
        value = _FORMULAS[metric](pair)
    if not math.isfinite(value):
        return Measurement(None, Undefined.OUT_OF_RANGE, n_tokens)
    return Measurement(value, None, n_tokens)


def measure_weighted(
    real: Activations, simulated: Activations, weights: Activations
) -> Measurement:
    """ρ with weights, all above 0, of the same shape; undefined where the plain ρ is."""
    plain = measure(Metric.EV_CORRELATION, real, simulated)
    if plain.value is None:
        return plain
    w = _flatten(weights).values  # (n,)
    w = w / w.sum()
    r, p = (measure_spread(_flatten(a).values).deviations for a in (real, simulated))
    r, p = r - w @ r, p - w @ p
    rho = float((w * r) @ p) / math.sqrt(float((w * r) @ r) * float((w * p) @ p))
    return Measurement(max(-1.0, min(1.0, rho)), None, plain.n_tokens)


class _Pair(NamedTuple):
    """Real and simulated activations of the same n tokens."""

    r: FloatArray  # (n,)
    p: FloatArray  # (n,)
    r_spread: Spread
    p_spread: Spread

    @property
    def scaled_error(self) -> FloatArray:
        """r − p, in the unit of the real activations' spread."""
        return (self.r - self.p) * self.r_spread.unit


def _why_undefined(metric: Metric, pair: _Pair) -> Undefined | None:
    if len(pair.r) < _MIN_TOKENS[metric]:
        return Undefined.TOO_FEW_TOKENS
    if pair.r_spread.peak == 0:
        return Undefined.NO_ACTIVATIONS
    if pair.r_spread.is_constant and metric in (Metric.EV_CORRELATION, Metric.EXPLAINED_VARIANCE):
        return Undefined.CONSTANT_ACTIVATIONS
    if pair.p_spread.is_constant and metric is Metric.EV_CORRELATION:
        return Undefined.CONSTANT_PREDICTION
    return None


def _correlation(pair: _Pair) -> float:
    r, p = pair.r_spread, pair.p_spread
    rho = float(r.deviations @ p.deviations) / math.sqrt(r.sum_of_squares * p.sum_of_squares)
    return max(-1.0, min(1.0, rho))  # rounding can step outside


def _rsquared(pair: _Pair) -> float:
    r, error = pair.r * pair.r_spread.unit, pair.scaled_error
    return 1 - float(error @ error) / float(r @ r)


def _absolute_dev_explained(pair: _Pair) -> float:
    r, error = pair.r * pair.r_spread.unit, pair.scaled_error
    return 1 - float(np.abs(error).sum()) / float(np.abs(r).sum())


def _explained_variance(pair: _Pair) -> float:
    error = pair.scaled_error
    return 1 - float(error @ error) / pair.r_spread.sum_of_squares


_FORMULAS: dict[Metric, Callable[[_Pair], float]] = {
    Metric.EV_CORRELATION: _correlation,
    Metric.RSQUARED: _rsquared,
    Metric.ABSOLUTE_DEV_EXPLAINED: _absolute_dev_explained,
    Metric.EXPLAINED_VARIANCE: _explained_variance,
}
_MIN_TOKENS: dict[Metric, int] = {
    Metric.EV_CORRELATION: 2,
    Metric.RSQUARED: 1,
    Metric.ABSOLUTE_DEV_EXPLAINED: 1,
    Metric.EXPLAINED_VARIANCE: 2,
}


class _Flat(NamedTuple):
    values: FloatArray  # (n,)
    window_lengths: tuple[int, ...]  # () for a list that came flat


def _flatten(activations: Activations) -> _Flat:
    if isinstance(activations, np.ndarray) and activations.ndim == 1:
        return _Flat(np.asarray(activations, dtype=np.float64), ())
    if len(activations) == 0 or np.ndim(activations[0]) == 0:
        return _Flat(np.array(activations, dtype=np.float64), ())
    windows = [np.asarray(window, dtype=np.float64) for window in activations]
    return _Flat(np.concatenate(windows), tuple(map(len, windows)))


def _check_lengths(r: _Flat, p: _Flat) -> None:
    both_windows = r.window_lengths and p.window_lengths
    if len(r.values) != len(p.values) or (both_windows and r.window_lengths != p.window_lengths):
        raise ValueError(f"{_describe(p)} simulated activations for {_describe(r)} real ones")


def _describe(flat: _Flat) -> str:
    return " + ".join(map(str, flat.window_lengths or (len(flat.values),)))
