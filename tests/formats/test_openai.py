"""Published activation records: every known quirk is read, and a damaged file is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.formats.openai import NO_ACTIVATION, read_record, write_record
from neuron_explainer.published.locations import Kind
from neuron_explainer.records.neuron import ActivationRecord, NeuronId
from neuron_explainer.records.published import PublishedRecord
from tests.formats.openai_documents import (
    ID,
    encode,
    plain_id,
    plain_record,
    plain_window,
    read,
    which,
)
from tests.formats.openai_schema import assert_loadable

PATH = which(Kind.ACTIVATIONS).path


def record(**changes: Any) -> PublishedRecord:
    """Of the made-up document, with other values for some fields."""
    found: PublishedRecord = read(Kind.ACTIVATIONS, plain_record() | changes).value
    return found


def reason(plain: Any) -> str:
    with pytest.raises(RecordFormatError) as caught:
        read(Kind.ACTIVATIONS, plain)
    assert caught.value.path == PATH
    return caught.value.reason


def test_every_field_is_taken_over() -> None:
    found = record()
    assert found.neuron_id == NeuronId(3, 17)
    assert found.top == (
        ActivationRecord((" t0", " t1", " t2"), (-0.1, 5.25, 1.0)),
        ActivationRecord((" t0", " t1"), (4.5, 0.0)),
    )
    assert [len(window.tokens) for window in found.random] == [2, 3]
    assert [band[0].max_activation for band in found.bands] == [0.1, 1.1, 2.1, 3.1, 4.1]
    assert found.boundaries == (None, 0.5, 1.5, 2.5, 3.5, None)
    assert (found.mean, found.variance, found.skewness, found.kurtosis) == (-0.05, 0.02, 9.1, 150)


def test_four_boundaries_of_five_bands_mean_the_same_as_six() -> None:
    assert record(quantile_boundaries=[0.5, 1.5, 2.5, 3.5]) == record()
    assert record(quantile_boundaries=[-float("inf"), 0.5, 1.5, 2.5, 3.5, float("inf")]) == record()


@pytest.mark.parametrize("lists", [None, []])
def test_bands_may_be_left_out(lists: list[Any] | None) -> None:
    found = record(random_sample_by_quantile=lists, quantile_boundaries=lists)
    assert (found.bands, found.boundaries) == ((), ())


def test_bands_without_boundaries_are_kept() -> None:
    assert record(quantile_boundaries=None).boundaries == (None,) * 6
    assert len(record(quantile_boundaries=None).bands) == 5


def test_boundaries_of_no_bands_are_counted() -> None:
    plain = plain_record() | {"random_sample_by_quantile": None}
    assert read(Kind.ACTIVATIONS, plain).left_out == {"quantile_boundaries of no windows": 1}


def test_null_nan_and_infinity_are_no_numbers() -> None:
    text = json.dumps(plain_record() | {"mean": float("nan"), "variance": None, "skewness": 1e9})
    text = text.replace("1000000000.0", "1e999").replace("5.25", "-Infinity")
    found: PublishedRecord = read(Kind.ACTIVATIONS, text.encode()).value
    assert (found.mean, found.variance, found.skewness) == (None, None, None)
    assert found.top[0].activations == (-0.1, None, 1)


def test_only_the_unit_must_be_there() -> None:
    plain = {"neuron_id": {"layer_index": 3, "neuron_index": 17}}
    assert read(Kind.ACTIVATIONS, plain).value == PublishedRecord(ID, top=(), random=())


@pytest.mark.parametrize(
    "older",
    [
        {"dataclass_name": "NeuronId", "layer": 3, "idx": 17},
        {"layer_index": "3", "neuron_index": 17},
    ],
)
def test_units_are_read_by_their_older_names(older: dict[str, Any]) -> None:
    assert record(neuron_id=older).neuron_id == ID


def test_a_field_of_the_newer_name_wins() -> None:
    reading = read(Kind.ACTIVATIONS, plain_record() | {"neuron_id": plain_id() | {"layer": 4}})
    assert reading.value.neuron_id == ID
    assert reading.left_out == {"NeuronId.layer": 1}


def test_objects_need_not_name_their_class() -> None:
    text = encode(plain_record()).decode()
    for name in ("NeuronRecord", "NeuronId", "ActivationRecord"):
        text = text.replace(f'"dataclass_name":"{name}",', "")
    assert "dataclass_name" not in text
    assert read(Kind.ACTIVATIONS, text.encode()).value == record()


def test_unknown_fields_are_left_out_and_counted() -> None:
    plain = plain_record() | {"activation_count": 7}
    for window in plain["random_sample"]:
        window["document_id"] = 1
    reading = read(Kind.ACTIVATIONS, plain)
    assert reading.value == record()
    assert reading.left_out == {
        "NeuronRecord.activation_count": 1,
        "ActivationRecord.document_id": 2,
    }


def test_a_window_without_an_activation_is_left_out_and_counted() -> None:
    windows = [plain_window(), plain_window(None, None), plain_window(1.0)]
    reading = read(Kind.ACTIVATIONS, plain_record() | {"random_sample": windows})
    assert [window.activations for window in reading.value.random] == [(1.0,)]
    assert reading.left_out == {NO_ACTIVATION: 2}


def test_tokens_are_taken_as_they_are() -> None:
    tokens = ["<|endoftext|>", "\ufffd", "\n\n", "\n", "\xa0", ""]
    window = {"tokens": tokens, "activations": [0.5] * 6}
    assert record(random_sample=[window]).random[0].tokens == tuple(tokens)


@pytest.mark.parametrize("around", [b"\xef\xbb\xbf%s", b"%s\r\n", b"\r\n\r\n%s\n\n", b" %s\t"])
def test_marks_and_line_ends_around_it_do_no_harm(around: bytes) -> None:
    assert read_record(around % encode(plain_record()), PATH).value == record()


def test_a_document_over_many_lines_is_read() -> None:
    text = json.dumps(plain_record(), indent=1).replace("\n", "\r\n")
    assert read_record(text.encode(), PATH).value == record()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"neuron_id": None}, "a NeuronId is null, not an object"),
        ({"neuron_id": {"layer_index": 3}}, "a NeuronId lacks neuron_index"),
        (
            {"neuron_id": {"layer_index": True, "neuron_index": 17}},
            "layer_index is no whole number",
        ),
        ({"neuron_id": {"layer_index": -3, "neuron_index": 17}}, "layer_index is no whole number"),
        ({"neuron_id": {"layer_index": "३", "neuron_index": 17}}, "layer_index is no whole number"),
        ({"neuron_id": {"layer_index": 9, "neuron_index": 17}}, "it is of neuron 9:17"),
        (
            {"dataclass_name": "AttentionHeadRecord"},
            "where a NeuronRecord belongs is AttentionHeadRecord",
        ),
        ({"dataclass_name": ["NeuronRecord"]}, "where a NeuronRecord belongs is a list"),
        ({"mean": "0.1"}, "mean is a text, not a number"),
        ({"mean": False}, "mean is true or false, not a number"),
        ({"random_sample": None}, "random_sample is null, not a list"),
        (
            {"random_sample": [plain_window(1.0) | {"tokens": ["a", 1]}]},
            "one of tokens is a number",
        ),
        ({"random_sample": [plain_window(1.0) | {"activations": [[]]}]}, "is a list, not a number"),
        ({"random_sample": [plain_window(1.0) | {"tokens": []}]}, "1 activations for 0 tokens"),
        ({"quantile_boundaries": [0.5] * 5}, "5 quantile_boundaries of 5 lists of windows"),
        ({"random_sample_by_quantile": {}}, "is an object, not a list"),
    ],
)
def test_a_damaged_document_is_refused_with_the_reason(change: dict[str, Any], why: str) -> None:
    assert why in reason(plain_record() | change)


@pytest.mark.parametrize(
    "document",
    [b"", b"{", b"<html>busy</html>", b'"\xff"', b"[" * 100_000, encode(plain_record())[:-40],
     encode(plain_record()) * 2, b"1" * 5000],
)  # fmt: skip
def test_what_is_no_json_is_refused(document: bytes) -> None:
    assert reason(document).startswith("no JSON")


@pytest.mark.parametrize("raw", [None, 3, "text", [], [plain_record()]])
def test_json_that_is_no_object_is_refused(raw: Any) -> None:
    assert "not an object" in reason(encode(raw))


def test_what_is_written_is_what_openais_loader_takes() -> None:
    written = write_record(record())
    assert_loadable(written.document)
    assert written.left_out == {}
    assert json.loads(written.document) == plain_record()


def test_half_a_surrogate_pair_is_written_as_published_files_have_half_a_character() -> None:
    window = {"tokens": ["\ud83d", "\U0001f600"], "activations": [1.0, 2.0]}
    document = json.dumps(plain_record() | {"random_sample": [window]}).encode()
    written = write_record(read_record(document, PATH).value)
    assert read_record(written.document, PATH).value.random[0].tokens == ("\ufffd", "\U0001f600")
    assert written.left_out == {"half a surrogate pair": 1}
