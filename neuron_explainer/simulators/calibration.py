"""Calibration: from a simulator's units to raw activations, fitted on windows that are not scored.

Bills et al. 2023, `calibrated_simulator.py`: linear (least squares) and percentile matching.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self, TypeAlias

import numpy as np

from neuron_explainer.records.scale import CalibrationKind
from neuron_explainer.simulators.spread import FloatArray, measure_spread

Predictions: TypeAlias = Sequence[float | None] | FloatArray
"""One a token; None where the simulator could not predict it."""


class Calibration(Protocol):
    """A fitted map from simulated to raw activations."""

    def apply(self, simulated: FloatArray) -> FloatArray:
        """simulated: (n,), the simulator's units -> (n,), raw."""


@dataclass(frozen=True, slots=True)
class LinearCalibration:
    """raw = slope · simulated + intercept; with slope > 0 no correlation changes."""

    slope: float
    intercept: float

    @classmethod
    def fit(cls, simulated: Predictions, real: Sequence[float] | FloatArray) -> Self:
        """Ordinary least squares over all tokens that have a prediction.

        A constant simulation gets slope 0 and the mean of `real`: of all the lines that fit it
        equally well, the one that claims nothing more. ValueError when no token has a prediction,
        when the lengths differ, and for values that are not finite.
        """
        fitted = _with_prediction(simulated, real)
        p, r = measure_spread(fitted.simulated), measure_spread(fitted.real)
        if p.is_constant:
            return cls(slope=0.0, intercept=r.mean)
        slope = float(p.deviations @ r.deviations) / p.sum_of_squares * (p.unit / r.unit)
        intercept = r.mean - slope * p.mean
        if not (math.isfinite(slope) and math.isfinite(intercept)):
            raise ValueError(f"the line has slope {slope} and intercept {intercept}")
        return cls(slope=slope, intercept=intercept)

    def apply(self, simulated: FloatArray) -> FloatArray:
        return self.slope * simulated + self.intercept


@dataclass(frozen=True, slots=True)
class PercentileCalibration:
    """Maps each quantile of the simulation to the same quantile of the real activations.

    Values between two knots are interpolated, values outside them get the nearest knot. Equal
    simulated values are one knot, at the mean of their real quantiles, so that a constant
    simulation maps to the mean; without ties this is the published `np.interp` over both sorted
    lists.
    """

    simulated: tuple[float, ...]
    """Strictly increasing, the simulator's units."""
    real: tuple[float, ...]
    """Not decreasing, raw; one a simulated value."""

    @classmethod
    def fit(cls, simulated: Predictions, real: Sequence[float] | FloatArray) -> Self:
        """Tokens without a prediction are left out; ValueError as for the linear fit."""
        fitted = _with_prediction(simulated, real)
        knots, starts, counts = np.unique(
            np.sort(fitted.simulated), return_index=True, return_counts=True
        )
        means = np.add.reduceat(np.sort(fitted.real), starts) / counts
        return cls(simulated=tuple(knots.tolist()), real=tuple(means.tolist()))

    def apply(self, simulated: FloatArray) -> FloatArray:
        return np.interp(simulated, self.simulated, self.real)


@dataclass(frozen=True, slots=True)
class ScaleOnly:
    """No calibration: normalized predictions become raw by the unit's maximum, raw ones stay."""

    factor: float

    def apply(self, simulated: FloatArray) -> FloatArray:
        return self.factor * simulated


def fit_calibration(
    kind: CalibrationKind,
    simulated: Predictions,
    real: Sequence[float] | FloatArray,
    raw_factor: float,
) -> Calibration:
    """The map that `kind` means; raw_factor: one simulated unit, in raw activation.

    ValueError as for the linear fit, which `none` does not need.
    """
    match kind:
        case CalibrationKind.NONE:
            return ScaleOnly(raw_factor)
        case CalibrationKind.LINEAR:
            return LinearCalibration.fit(simulated, real)
        case CalibrationKind.PERCENTILE:
            return PercentileCalibration.fit(simulated, real)


class _Fitted(NamedTuple):
    simulated: FloatArray
    real: FloatArray


def _with_prediction(simulated: Predictions, real: Sequence[float] | FloatArray) -> _Fitted:
    if len(simulated) != len(real):
        raise ValueError(f"{len(simulated)} predictions for {len(real)} activations")
    if not isinstance(simulated, np.ndarray):
        known = [(p, r) for p, r in zip(simulated, real, strict=True) if p is not None]
        simulated, real = [p for p, _ in known], [r for _, r in known]
    fitted = _Fitted(np.asarray(simulated, dtype=np.float64), np.asarray(real, dtype=np.float64))
    if len(fitted.real) == 0:
        raise ValueError("no token with a prediction to calibrate on")
    if not (np.isfinite(fitted.simulated).all() and np.isfinite(fitted.real).all()):
        raise ValueError("an activation is not finite")
    return fitted
