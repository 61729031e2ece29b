"""Units of activation values, and the 0..10 integers that language models are shown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from enum import StrEnum

MAX_NORMALIZED_ACTIVATION = 10


class ActivationScale(StrEnum):
    """What a list of activations is measured in; the values are those of the published files."""

    NEURON = "neuron_activations"
    """Raw, as the subject computes them."""
    NORMALIZED = "simulated_normalized_activations"
    """0 to 10, relative to the unit's maximum."""


def normalize_activations(activations: Sequence[float], max_activation: float) -> list[int]:
    """Raw activations -> integers 0..10: min(10, floor(10·relu(x)/max)); all 0 if max ≤ 0.

    Source: Bills et al. 2023, `activation_records.py`.
    """
    if max_activation <= 0:
        return [0] * len(activations)
    top = MAX_NORMALIZED_ACTIVATION
    return [min(top, math.floor(top * max(x, 0.0) / max_activation)) for x in activations]


def denormalize_activations(normalized: Iterable[float], max_activation: float) -> list[float]:
    """0..10 -> raw: the value in the same units as `max_activation`."""
    return [x / MAX_NORMALIZED_ACTIVATION * max_activation for x in normalized]
