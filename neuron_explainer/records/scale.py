"""Units of activation values, and the 0..10 integers that language models are shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum

MAX_NORMALIZED_ACTIVATION = 10


class ActivationScale(StrEnum):
    """What a list of activations is measured in; the values are those of the published files."""

    NEURON = "neuron_activations"
    """Raw, as the subject computes them."""
    NORMALIZED = "simulated_normalized_activations"
    """0 to 10, relative to the unit's maximum."""


class CalibrationKind(StrEnum):
    """How simulated activations become raw ones (Bills et al. 2023, `calibrated_simulator.py`)."""

    NONE = "none"
    LINEAR = "linear"
    PERCENTILE = "percentile"


def normalize_activations(activations: Sequence[float], max_activation: float) -> list[int]:
    """Raw activations -> integers 0..10: min(10, floor(10·relu(x)/max)); all 0 if max ≤ 0.

    Source: Bills et al. 2023, `activation_records.py`.
    """
    if max_activation <= 0:
        return [0] * len(activations)
    top = MAX_NORMALIZED_ACTIVATION
    return [min(top, math.floor(top * max(x, 0.0) / max_activation)) for x in activations]


def raw_unit(scale: ActivationScale, max_activation: float) -> float:
    """What 1 on a scale is in raw activation, for a unit with that maximum."""
    return 1.0 if scale is ActivationScale.NEURON else max_activation / MAX_NORMALIZED_ACTIVATION
