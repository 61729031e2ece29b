"""JSON as the published dataset has it: objects that name their class, null for what is no number.

Bills et al. 2023, `fast_dataclasses`. What these files hold and ours do not is left out with a
count; what does not follow the format is `Damaged`.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import orjson

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.formats.plain import why_no_json
from neuron_explainer.records.published import TokenValue, Values

T = TypeVar("T")
CLASS = "dataclass_name"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_LINE_ENDS = {c: f"\\u{ord(c):04x}" for c in "\x85\u2028\u2029"}
"""What ends a line for some readers; JSON escapes the other such characters by itself."""

LeftOut: TypeAlias = Counter[str]
"""What could not be taken over -> how often."""


class Reading(NamedTuple, Generic[T]):
    """What a document says."""

    value: T
    left_out: Mapping[str, int]
    """What is in the document and not in the value, by kind."""


class Written(NamedTuple):
    """A document, UTF-8."""

    document: bytes
    left_out: Mapping[str, int]
    """What the document cannot hold, by kind."""


class Damaged(Exception):
    """The document does not follow the format; its message says where."""


@dataclass(frozen=True)
class Shape:
    """A class of the files: what an object of it holds."""

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    older_fields: Mapping[str, str] = field(default_factory=dict)
    """Older name of a field -> its name."""
    older_names: tuple[str, ...] = ()

    @cached_property
    def usual_keys(self) -> frozenset[str]:
        """Of nearly all objects: the class and every field, by their newest names."""
        return frozenset((CLASS, *self.required, *self.optional))


def read_document(document: bytes, path: object, parse: Callable[[Any, LeftOut], T]) -> Reading[T]:
    """`parse` of the JSON; RecordFormatError, with `path`, for whatever is wrong with it.

    A byte order mark and any line ends are taken; NaN and Infinity are null.
    """
    left_out: LeftOut = Counter()
    try:
        raw = _load(document.removeprefix(_BYTE_ORDER_MARK))
    except (ValueError, RecursionError) as error:
        raise RecordFormatError(path, why_no_json(error)) from error
    try:
        value = parse(raw, left_out)
    except Damaged as error:
        raise RecordFormatError(path, str(error)) from error
    return Reading(value, left_out)


def write_document(plain: Any, end: str = "") -> Written:
    """One line, compact. Half a surrogate pair, which UTF-8 cannot hold, is U+FFFD, and counted."""
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text, n_replaced = _LONE_SURROGATE.subn("\ufffd", text)
    left_out = {"half a surrogate pair": n_replaced} if n_replaced else {}
    for line_end, escape in _LINE_ENDS.items():
        text = text.replace(line_end, escape)
    return Written((text + end).encode(), left_out)


def take(raw: Any, shape: Shape, left_out: LeftOut) -> dict[str, Any]:
    """The fields that an object has, by their newest names; unknown ones are counted.

    An object may name its class or not; when it does, it must be the right one. What has exactly
    the usual keys is given as it is, with its class.
    """
    if isinstance(raw, dict) and raw.keys() == shape.usual_keys and raw[CLASS] == shape.name:
        return raw
    if not isinstance(raw, dict):
        raise Damaged(f"a {shape.name} is {_describe(raw)}, not an object")
    if raw.get(CLASS, shape.name) not in (shape.name, *shape.older_names):
        raise Damaged(f"where a {shape.name} belongs is {_shorten(raw[CLASS])}")
    found: dict[str, Any] = {}
    for key, value in raw.items():
        name = shape.older_fields.get(key, key)
        is_known = name in shape.required or name in shape.optional
        if is_known and (name == key or name not in raw):
            found[name] = value
        elif key != CLASS:
            left_out[f"{shape.name}.{_shorten(key)}"] += 1
    for name in shape.required:
        if name not in found:
            raise Damaged(f"a {shape.name} lacks {name}")
    return found


def read_list(raw: Any, name: str) -> list[Any]:
    if not isinstance(raw, list):
        raise Damaged(f"{name} is {_describe(raw)}, not a list")
    return raw


def read_text(raw: Any, name: str) -> str:
    if not isinstance(raw, str):
        raise Damaged(f"{name} is {_describe(raw)}, not a text")
    return raw


def read_texts(raw: Any, name: str) -> tuple[str, ...]:
    texts = read_list(raw, name)
    if _are_texts(texts):
        return tuple(texts)
    return tuple(read_text(text, f"one of {name}") for text in texts)


def read_number(raw: Any, name: str) -> float | None:
    """None for null, and for what a float cannot hold."""
    if raw is None:
        return None
    if type(raw) not in (int, float):
        raise Damaged(f"{name} is {_describe(raw)}, not a number")
    try:
        number = float(raw)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def read_numbers(raw: Any, name: str) -> Values:
    """Each as `read_number` has it."""
    values = read_list(raw, name)
    if _are_plain(values):
        return tuple(values)
    return tuple(read_number(value, f"one of {name}") for value in values)


def read_number_lists(raw: Any, name: str) -> tuple[Values, ...]:
    """Each as `read_numbers` has it; thousands of short ones are looked at together."""
    lists = read_list(raw, name)
    if set(map(type, lists)) <= {list} and _are_plain(list(chain.from_iterable(lists))):
        return tuple(map(tuple, lists))
    return tuple(read_numbers(values, f"one of {name}") for values in lists)


def _are_plain(values: list[Any]) -> bool:
    """Finite floats alone, as nearly all lists are; those with a huge sum are looked at one by one.

    The sum of what holds an infinity, or both, is not finite.
    """
    return set(map(type, values)) <= {float} and math.isfinite(sum(values))


def _are_texts(values: list[Any]) -> bool:
    """Joining them takes a quarter of the time of looking at each."""
    try:
        "".join(values)
    except TypeError:
        return False
    return True


def read_token_values(
    fields: Mapping[str, Any], tokens: str, values: str
) -> tuple[TokenValue, ...]:
    """Two lists of an object, side by side."""
    texts, numbers = read_texts(fields[tokens], tokens), read_numbers(fields[values], values)
    check_lengths(len(texts), **{values: len(numbers)})
    return tuple(map(TokenValue, texts, numbers))


def check_lengths(n_tokens: int, **lengths: int) -> None:
    for name, length in lengths.items():
        if length != n_tokens:
            raise Damaged(f"{length} {name} for {n_tokens} tokens")


def _load(document: bytes) -> Any:
    """ValueError or RecursionError when it is no JSON.

    orjson is three times as quick, and refuses NaN, Infinity, halves of surrogate pairs, deep
    nesting and what no float holds: whatever it refuses, the standard library has the last word on.
    """
    try:
        return orjson.loads(document)
    except orjson.JSONDecodeError:
        return json.loads(document.decode(), parse_constant=_no_number)


def _no_number(_literal: str) -> None:
    """NaN, Infinity, -Infinity."""


def _describe(raw: Any) -> str:
    """What JSON calls it."""
    match raw:
        case None:
            return "null"
        case bool():
            return "true or false"
        case str():
            return "a text"
        case list():
            return "a list"
        case dict():
            return "an object"
    return "a number"


def _shorten(raw: Any) -> str:
    """On one line, however long it is."""
    text = raw if isinstance(raw, str) else _describe(raw)
    return text if text.isprintable() and len(text) <= 40 else f"{text[:40]!a}"
