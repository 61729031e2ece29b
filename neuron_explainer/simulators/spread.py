"""Deviations of a list of values from their mean, and when the values count as constant."""

from __future__ import annotations

import math
import sys
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

CONSTANT_TOLERANCE = 64 * sys.float_info.epsilon
"""Values are constant when their standard deviation is at most this share of the largest magnitude.

1.4e-14 is what some tens of roundings in float64 can leave of one value (a mean, a sum over eleven
probabilities, a line), so nothing below it can be told from noise. Subjects compute in float32 at
best, where two neighbours differ by 6e-8: no real difference is that small, not even one token's in
a million. Values that were small differences of large ones cannot be recognised here.
"""


class Spread(NamedTuple):
    """Deviations of n values; multiplied by `unit` so that no square overflows or vanishes."""

    peak: float
    """Largest magnitude of a value, in the units of the values."""
    mean: float
    """In the units of the values."""
    deviations: FloatArray
    """(n,) from the mean, times `unit`."""
    sum_of_squares: float
    """Of `deviations`."""
    unit: float
    """A power of two, so the product is exact; brings the largest magnitude into [0.5, 1)."""
    is_constant: bool
    """Whether the deviations are rounding noise, by CONSTANT_TOLERANCE."""


def measure_spread(values: FloatArray) -> Spread:
    """values: (n,), n ≥ 1; ValueError for a value that is not finite."""
    peak = float(np.abs(values).max())
    if not math.isfinite(peak):
        raise ValueError("an activation is not finite")
    unit = power_of_two_unit(peak)
    deviations = values * unit
    # The first value goes first: the difference of close values is exact, so an offset that
    # dwarfs the variation costs no digits, and a constant becomes exactly 0.
    deviations -= deviations[0]
    mean_deviation = float(deviations.sum()) / len(values)
    deviations -= mean_deviation
    sum_of_squares = float(deviations @ deviations)
    noise = CONSTANT_TOLERANCE * peak * unit
    return Spread(
        peak=peak,
        mean=float(values[0]) + mean_deviation / unit,
        deviations=deviations,
        sum_of_squares=sum_of_squares,
        unit=unit,
        is_constant=sum_of_squares <= len(values) * noise**2,
    )


def power_of_two_unit(peak: float) -> float:
    """The power of two that brings `peak` ≥ 0 into [0.5, 1); 1 for 0, 2^1023 at the most."""
    return math.ldexp(1.0, min(-math.frexp(peak)[1], 1023))
