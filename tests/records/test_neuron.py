"""Units' names, and windows that hold together."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from neuron_explainer.errors import UsageError
from neuron_explainer.records.neuron import ActivationRecord, NeuronId
from tests.scoring.builders import neuron_record, window


@pytest.mark.parametrize("neuron_id", [NeuronId(0, 0), NeuronId(9, 6236), NeuronId(47, 6399)])
def test_an_id_reads_back_as_it_is_written(neuron_id: NeuronId) -> None:
    assert NeuronId.parse(str(neuron_id)) == neuron_id
    assert NeuronId.parse(f"  {neuron_id}\n") == neuron_id


def test_an_id_is_written_layer_first() -> None:
    assert str(NeuronId(9, 6236)) == "9:6236"


@pytest.mark.parametrize("text", ["", "9", "9:", ":6", "a:b", "9:6:2", "-1:2", "1.0:2", "9 : 6"])
def test_what_is_not_an_id_is_refused_with_the_text_and_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="LAYER:NEURON, such as 2:417") as raised:
        NeuronId.parse(text)
    assert repr(text) in str(raised.value)


@pytest.mark.parametrize("number", [17, np.int64(17), np.uint16(17), 17.0, np.float32(17)])
def test_an_id_is_of_whole_numbers_of_any_kind(number: object) -> None:
    made = NeuronId.of(number, number)
    assert made == NeuronId(17, 17)
    assert {type(made.layer_index), type(made.neuron_index)} == {int}


@pytest.mark.parametrize("number", ["17", 1.5, math.nan, math.inf, None, np.arange(2), [1]])
def test_an_id_is_of_nothing_else(number: object) -> None:
    for numbers in ((number, 0), (0, number)):
        with pytest.raises(UsageError, match="give whole numbers, both from 0"):
            NeuronId.of(*numbers)


def test_ids_sort_by_layer_then_unit_as_numbers() -> None:
    ordered = [NeuronId(0, 9), NeuronId(0, 10), NeuronId(2, 1), NeuronId(10, 0)]
    shuffled = random.Random(0).sample(ordered, len(ordered))
    assert sorted(shuffled) == ordered


@pytest.mark.parametrize(("tokens", "activations"), [(2, 1), (0, 1), (1, 3)])
def test_a_window_needs_one_activation_a_token(tokens: int, activations: int) -> None:
    with pytest.raises(ValueError, match=f"{activations} activations for {tokens} tokens"):
        ActivationRecord(("a",) * tokens, (0.5,) * activations)


def test_a_units_maximum_is_that_of_its_windows() -> None:
    top = [window([0.5, 3.0], "a"), window([4.0, -1.0], "b"), window([0.0], "c")]
    record = neuron_record(top, [window([1.0], "r")])
    assert record.max_activation == max(w.max_activation for w in top) == 4.0
