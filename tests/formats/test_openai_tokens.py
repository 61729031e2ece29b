"""Published tokens and units related to a unit."""

from __future__ import annotations

import json
from typing import Any

import pytest

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.published.documents import write_content
from neuron_explainer.published.locations import Kind
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.published import RelatedNeuron, TokenValue
from tests.formats.openai_documents import (
    plain_document,
    plain_related_neurons,
    plain_tokens_by_activation,
    plain_tokens_by_weight,
    read,
    which,
)
from tests.formats.openai_schema import assert_loadable

KINDS = (Kind.TOKENS_BY_ACTIVATION, Kind.TOKENS_BY_WEIGHT, Kind.RELATED_NEURONS)


def test_tokens_by_activation_are_read() -> None:
    found = read(Kind.TOKENS_BY_ACTIVATION, plain_tokens_by_activation()).value
    assert found.tokens == (
        TokenValue(" two", 2.125), TokenValue(" half", 1.5), TokenValue("\ufffd", None)
    )  # fmt: skip


def test_tokens_by_weight_are_read() -> None:
    found = read(Kind.TOKENS_BY_WEIGHT, plain_tokens_by_weight()).value
    assert found.input_positive == (TokenValue(" two", 3.5),)
    assert found.input_negative == (TokenValue(" cat", -1), TokenValue("\n", None))
    assert found.output_positive == ()
    assert found.output_negative == (TokenValue(" so", -0.5),)


def test_related_neurons_are_read() -> None:
    found = read(Kind.RELATED_NEURONS, plain_related_neurons()).value
    assert found.upstream is None
    assert found.downstream.positive == (
        RelatedNeuron(NeuronId(4, 17), 1.25), RelatedNeuron(NeuronId(11, 0), None)
    )  # fmt: skip
    assert found.downstream.negative == (RelatedNeuron(NeuronId(5, 2), -1.0),)


def test_related_neurons_may_name_any_class() -> None:
    plain = plain_related_neurons() | {"dataclass_name": "Whatever"}
    reading = read(Kind.RELATED_NEURONS, plain)
    assert reading.value == read(Kind.RELATED_NEURONS, plain_related_neurons()).value
    assert reading.left_out == {}


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_fields_are_counted(kind: Kind) -> None:
    reading = read(kind, plain_document(kind) | {"more": 1})
    assert reading.value == read(kind, plain_document(kind)).value
    assert list(reading.left_out.values()) == [1]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_what_was_read(kind: Kind) -> None:
    written = write_content(which(kind), read(kind, plain_document(kind)).value)
    assert_loadable(written.document)
    assert json.loads(written.document) == plain_document(kind)


@pytest.mark.parametrize(
    ("kind", "change", "why"),
    [
        (Kind.TOKENS_BY_ACTIVATION, {"average_activations": [1.0]}, "1 average_activations for 3"),
        (Kind.TOKENS_BY_ACTIVATION, {"tokens": " two"}, "tokens is a text, not a list"),
        (Kind.TOKENS_BY_WEIGHT, {"input_positive": None}, "a TokensAndWeights is null"),
        (Kind.RELATED_NEURONS, {"c_fc": {}}, "lacks top_positive_neurons"),
        (Kind.RELATED_NEURONS, {"c_fc": []}, "is a list, not an object"),
    ],
)
def test_a_damaged_document_is_refused_with_the_reason(
    kind: Kind, change: dict[str, Any], why: str
) -> None:
    with pytest.raises(RecordFormatError, match=why):
        read(kind, plain_document(kind) | change)


@pytest.mark.parametrize("name", ["4", "4_", "4_17_1", "x4_17", "-4_17", "4_17 "])
def test_a_related_neuron_of_another_name_is_refused(name: str) -> None:
    plain = plain_related_neurons()
    plain["c_proj"]["top_negative_neurons"] = [name]
    with pytest.raises(RecordFormatError, match="LAYER_NEURON"):
        read(Kind.RELATED_NEURONS, plain)


def test_as_many_weights_as_neurons_are_demanded() -> None:
    plain = plain_related_neurons()
    plain["c_proj"]["top_negative_weights"] = []
    with pytest.raises(RecordFormatError, match="0 top_negative_weights for 1"):
        read(Kind.RELATED_NEURONS, plain)
