"""A set of units behaves as the plain list of its ids."""

from __future__ import annotations

import random

import pytest

from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.units import Units

EVERYONE = [NeuronId(layer, unit) for layer in (0, 2, 5) for unit in range(7)]


@pytest.mark.parametrize("n_chosen", [None, 1, 2, 9, 21])
def test_units_are_the_list_of_their_ids(n_chosen: int | None) -> None:
    if n_chosen is None:
        units, expected = Units((0, 2, 5), 7), EVERYONE
    else:
        drawn = random.Random(n_chosen).sample(EVERYONE, n_chosen)
        units, expected = Units.choose([*drawn, drawn[0]], 7), sorted(drawn)
    assert list(units) == expected
    assert len(units) == len(expected)
    assert units.layers == tuple(sorted({i.layer_index for i in expected}))
    for layer in range(7):
        beside = [i for i in expected if i.layer_index == layer]
        assert [NeuronId(layer, unit) for unit in units.of_layer(layer)] == beside
        for unit in range(9):
            neuron_id = NeuronId(layer, unit)
            assert (neuron_id in units) == (neuron_id in beside)
            row = beside.index(neuron_id) if neuron_id in beside else None
            assert units.row_of(neuron_id) == row


def test_the_sentence_counts_what_there_is() -> None:
    assert Units((0, 2, 5), 3072).sentence() == "3 layers of 3,072 neurons each"
    assert Units((4,), 10).sentence() == "1 layer of 10 neurons each"
    assert Units.choose(EVERYONE[:9], 7).sentence() == "9 chosen neurons of 2 layers"
    assert Units.choose(EVERYONE[:1], 7).sentence() == "1 chosen neuron of 1 layer"
