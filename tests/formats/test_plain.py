"""Records as JSON and back: equal, or refused with a word on what is wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_explainer.formats.plain import from_plain, parse_object, to_plain, write_line
from neuron_explainer.records.scale import ActivationScale


@dataclass(frozen=True)
class Inner:
    values: tuple[float | None, ...]
    texts: tuple[str, ...] = ()


class Pair(NamedTuple):
    name: str
    share: float = 0.5


@dataclass(frozen=True)
class Outer:
    inner: tuple[Inner, ...]
    by_name: dict[str, Inner]
    n: int
    scale: ActivationScale
    note: str | None = None
    pair: Pair | None = None
    sets: tuple[frozenset[str] | None, ...] = ()
    only_sets: tuple[frozenset[str], ...] = ()
    flags: tuple[bool, ...] = field(default=())


WHOLE = Outer(
    (Inner((1.5, None, -0.0)), Inner((), ("a", "\u2028\ud800"))), {"é": Inner((2.0,))}, 3,
    ActivationScale.NEURON, None, Pair("a", 0.25), (frozenset("ba"), None), (frozenset("c"),),
    (True, False),
)  # fmt: skip
PLAIN: dict[str, Any] = to_plain(WHOLE)


def test_what_is_written_reads_back_equal() -> None:
    line = write_line(PLAIN)
    assert line.count(b"\n") == 1
    assert len(line.decode().splitlines()) == 1
    assert from_plain(Outer, parse_object(line), "it") == WHOLE


def test_sets_and_named_tuples_are_plain_for_any_program() -> None:
    assert (PLAIN["pair"], PLAIN["sets"]) == ({"name": "a", "share": 0.25}, [["a", "b"], None])
    assert from_plain(Pair, {"name": "b"}, "it") == Pair("b")
    with pytest.raises(ValueError, match="it lacks name"):
        from_plain(Pair, {"share": 1.0}, "it")


@given(st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.tuples(x)))
def test_lists_of_plain_values_are_what_json_reads(value: Any) -> None:
    assert to_plain({"a": value}) == json.loads(json.dumps({"a": value}))


def test_a_field_with_a_default_may_be_missing() -> None:
    fields = {name: value for name, value in PLAIN.items() if name not in ("note", "flags")}
    assert from_plain(Outer, fields, "it").flags == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"n": True}, "n is true or false, not a whole number"),
        ({"n": 1.0}, "n is a number, not a whole number"),
        ({"scale": "loud"}, "scale is 'loud'; known are"),
        ({"scale": []}, "scale is"),
        ({"note": 3}, "note is a whole number, not a text"),
        ({"extra": 3}, "it has a field 'extra'"),
        ({"inner": {}}, "inner is an object, not a list"),
        ({"inner": [3]}, "one of inner is a whole number, not an object"),
        ({"inner": [{}]}, "one of inner lacks values"),
        ({"inner": [{"values": ["1"]}]}, "one of values is a text, not a number"),
        ({"inner": [{"values": [True]}]}, "one of values is true or false, not a number"),
        ({"inner": [{"values": [10**400]}]}, "one of values is too large a number"),
        ({"inner": [{"values": [], "texts": [None]}]}, "one of texts is null, not a text"),
        ({"by_name": {"é": None}}, "by_name 'é' is null, not an object"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        from_plain(Outer, PLAIN | change, "it")
    assert reason in str(raised.value)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", "-1e999"])
def test_no_number_but_a_finite_one_is_read(value: str) -> None:
    with pytest.raises(ValueError, match="number"):
        from_plain(Inner, parse_object(b'{"values": [1.0, %s]}' % value.encode()), "it")


@pytest.mark.parametrize("document", [b"[" * 10**5, b"\xff", b"3", b"", b'{"a": 1', b"9" * 5000])
def test_what_is_no_object_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|object"):
        parse_object(document)


def test_no_number_but_a_finite_one_is_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_line(to_plain(Inner((float("nan"),))))
