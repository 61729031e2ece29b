"""Documents at random: what is written reads back, and what is damaged is refused, never worse."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.formats.openai_json import read_document
from neuron_explainer.formats.openai_results import read_claims, read_results
from neuron_explainer.published.documents import FORMATS
from neuron_explainer.published.locations import Kind
from tests.formats.openai_documents import encode, plain_document, plain_results, which
from tests.formats.openai_schema import assert_loadable
from tests.formats.openai_strategies import REPEATABLE, contents, json_values

PATH = "some/where.json"
kinds = st.sampled_from(Kind)


@pytest.mark.parametrize("kind", Kind)
@REPEATABLE
@given(data=st.data())
def test_what_is_written_reads_back_equal(kind: Kind, data: st.DataObject) -> None:
    content = data.draw(contents[kind])
    written = FORMATS[kind].write(content)
    assert_loadable(written.document)
    reading = FORMATS[kind].read(written.document, PATH)
    assert reading.value == content
    assert {**written.left_out, **reading.left_out} == {}


def read_or_refuse(kind: Kind, document: bytes) -> None:
    """A record that can be written and read again; or a RecordFormatError with the path."""
    try:
        reading = FORMATS[kind].read(document, PATH)
    except RecordFormatError as error:
        assert error.path == PATH
        assert error.reason
        assert len(str(error)) < 300
        return
    written = FORMATS[kind].write(reading.value)
    if not written.left_out:
        assert FORMATS[kind].read(written.document, PATH).value == reading.value


@REPEATABLE
@given(kind=kinds, document=st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(kind: Kind, document: bytes) -> None:
    read_or_refuse(kind, document)


@REPEATABLE
@given(kind=kinds, plain=json_values)
def test_any_json_is_read_or_refused(kind: Kind, plain: Any) -> None:
    read_or_refuse(kind, json.dumps(plain).encode())


@pytest.mark.parametrize("kind", Kind)
@REPEATABLE
@given(seed=st.integers(0, 10**9), values=st.lists(json_values, min_size=1, max_size=2))
def test_any_change_of_a_document_is_read_or_refused(
    kind: Kind, seed: int, values: list[Any]
) -> None:
    plain, rng = plain_document(kind), random.Random(seed)
    for value in values:
        change_somewhere(plain, value, rng)
    read_or_refuse(kind, json.dumps(plain).encode())


@pytest.mark.parametrize("kind", Kind)
@REPEATABLE
@given(data=st.data())
def test_any_damage_of_the_bytes_is_read_or_refused(kind: Kind, data: st.DataObject) -> None:
    document = encode(plain_document(kind))
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(document))] * 2)))
    middle = data.draw(st.binary(max_size=3) | st.sampled_from([b"NaN", b"null", b"-Infinity"]))
    read_or_refuse(kind, document[:start] + middle + document[end:])


@pytest.mark.parametrize("kind", Kind)
def test_a_document_that_is_cut_off_anywhere_is_refused(kind: Kind) -> None:
    document = encode(plain_document(kind))
    for n_bytes in range(0, len(document), 1 + len(document) // 200):
        with pytest.raises(RecordFormatError):
            FORMATS[kind].read(document[:n_bytes], which(kind).path)


def change_somewhere(plain: Any, value: Any, rng: random.Random) -> None:
    """Goes down at random; there a value is replaced, taken out or added."""
    while True:
        key = rng.choice(list(plain) if isinstance(plain, dict) else range(len(plain)))
        inner = plain[key]
        if not isinstance(inner, dict | list) or not inner or rng.random() < 0.2:
            break
        plain = inner
    match rng.choice(["replace", "remove", "add"]), plain:
        case "replace", _:
            plain[key] = value
        case "remove", _:
            del plain[key]
        case "add", dict():
            plain[str(value)] = inner
        case "add", list():
            plain.insert(key, value)


@pytest.mark.parametrize(
    "text",
    ["NaN", "-Infinity", "1e400", "-1e400", "1" + "0" * 400, "0.1", "1e-400", "-0.0", "12345678901",
     r'"\ud800"', r'"\ud83d\ude00"', '"\x7f"', "[1e400, 0.5]", '{"a": 1, "a": 2}'],
)  # fmt: skip
def test_both_parsers_mean_the_same(text: str) -> None:
    """orjson reads most documents, the standard library what it refuses."""
    plain = json.loads(text, parse_constant=lambda _: None)
    assert read_document(text.encode(), PATH, lambda raw, _: raw).value == plain
    assert read_document(b"\xef\xbb\xbf" + text.encode(), PATH, lambda raw, _: raw).value == plain


@pytest.mark.parametrize("text", ["", "[1,]", '"\x00"', "01", "'a'", "nan", "\ufeff\ufeff1", "1 2"])
def test_what_neither_parser_takes_is_refused(text: str) -> None:
    with pytest.raises(RecordFormatError, match="no JSON"):
        read_document(text.encode(), PATH, lambda raw, _: raw)


def test_a_list_without_windows_says_the_same_of_each_explanation() -> None:
    document = encode(plain_results(which(Kind.EXPLANATIONS).neuron_id, " a.", None, " b."))
    whole, claims = read_results(document, PATH), read_claims(document, PATH)
    assert claims.value.explanations == tuple(
        replace(explanation, windows=()) for explanation in whole.value.explanations
    )
    assert (claims.value.neuron_id, claims.left_out) == (whole.value.neuron_id, whole.left_out)
