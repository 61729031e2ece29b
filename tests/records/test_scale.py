"""Raw activations as integers 0..10, as the published code makes them."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from neuron_explainer.records.scale import ActivationScale, normalize_activations, raw_unit
from tests.records.published import read_published_records

RNG = random.Random(0)
ACTIVATIONS = [RNG.uniform(-1, 5) for _ in range(500)]


@pytest.mark.shared_data
def test_published_windows_give_the_published_integers(shared_data: Path) -> None:
    train = read_published_records(shared_data).train
    maximum = max(record.max_activation for record in train)
    assert maximum == 4.0117
    found = []
    for record in train:
        normalized = normalize_activations(record.activations, maximum)
        found.append([(t, n) for t, n in zip(record.tokens, normalized, strict=True) if n > 0])
    first, second, third, fourth, fifth = found
    assert first == [(" two", 10)]
    assert second == [(" kid", 1), (" two", 8)]
    assert fourth == [(" half", 8)]
    assert fifth == [(" I", 1), ("'m", 1), (" twice", 7)]
    assert sum(map(len, found)) == 31
    assert sum(len(record.tokens) for record in train) == 320
    assert len(third) == 24


def test_integers_lie_between_0_and_10_and_keep_the_order() -> None:
    ordered = sorted(ACTIVATIONS)
    normalized = normalize_activations(ordered, 4.0)
    assert set(normalized) == set(range(11))
    assert normalized == sorted(normalized)


def test_the_maximum_is_10_and_zero_and_below_are_0() -> None:
    for value in np.array([a for a in ACTIVATIONS if a > 0], np.float32).tolist():  # as stored
        assert normalize_activations([value, 0.0, -value], value) == [10, 0, 0]


def test_scaling_a_unit_does_not_change_its_integers() -> None:
    doubled = [2 * a for a in ACTIVATIONS]
    assert normalize_activations(doubled, 10.0) == normalize_activations(ACTIVATIONS, 5.0)


@pytest.mark.parametrize("maximum", [0.0, -0.5])
def test_a_unit_that_is_never_active_is_0_throughout(maximum: float) -> None:
    assert normalize_activations([-0.5, 0.0, maximum], maximum) == [0, 0, 0]


def test_back_in_raw_units_a_value_is_within_a_step_below_the_true_one() -> None:
    active = [a for a in ACTIVATIONS if 0 <= a <= 4]
    unit = raw_unit(ActivationScale.NORMALIZED, 4.0)
    restored = [unit * value for value in normalize_activations(active, 4.0)]
    for value, floor in zip(active, restored, strict=True):
        assert floor <= value + 1e-9
        assert value < floor + 0.4 + 1e-9


def test_raw_values_are_in_raw_units_already() -> None:
    assert raw_unit(ActivationScale.NEURON, 4.0) == 1.0
