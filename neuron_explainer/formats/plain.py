"""Our records as plain values of JSON, and back by their declared types; ValueError for damage.

    dataclass            an object of its fields; on reading, one with a default may be missing
    tuple, Mapping       a list, an object
    NamedTuple           an object of its fields
    frozenset            a list, in order
    int, float, str, …   themselves; no number but a finite one, and no other kind in its place
    X | None             null is None

What goes there and comes back is equal.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
_ESCAPED = re.compile("[\x85\u2028\u2029\ud800-\udfff]")
"""What ends a line for some readers, and what UTF-8 cannot hold; JSON escapes the others."""
_FLAT = (bool, float, int, NoneType, str)


def to_plain(value: Any) -> Any:
    """Dataclasses, tuples and mappings, however deep, as objects and lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: to_plain(inner) for key, inner in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: to_plain(getattr(value, name)) for name in value._fields}
    if isinstance(value, list | tuple):
        is_flat = set(map(type, value)).issubset(_FLAT)  # as the thousands of activations are
        return list(value) if is_flat else [to_plain(inner) for inner in value]
    return value


def write_line(plain: Mapping[str, Any]) -> bytes:
    """One line of UTF-8, with its end; ValueError for a number that is not finite."""
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return (_ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n").encode()


def parse_object(document: bytes) -> dict[str, Any]:
    """A JSON object; ValueError for whatever is none."""
    try:
        parsed = json.loads(document, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(why_no_json(error)) from error
    if not isinstance(parsed, dict):
        raise ValueError(f"{_describe(parsed)}, not an object")
    return parsed


def why_no_json(error: Exception) -> str:
    """In a line, what `json.loads` found."""
    if isinstance(error, RecursionError):
        return "no JSON (too deep)"
    text = next(iter(str(error).splitlines()), type(error).__name__)
    if "set_int_max_str_digits" in text:
        return f"no JSON (a number of more than {sys.get_int_max_str_digits():,} digits)"
    return f"no JSON ({text})"


def from_plain(kind: type[T], raw: Any, name: str) -> T:
    """What `to_plain` gave, as `kind`; `name` is what it is called in a ValueError."""
    declared: Any = kind
    value: T = _parser(declared)(raw, name)
    return value


Parse = Callable[[Any, str], Any]


@cache
def _parser(kind: Any) -> Parse:
    """How a value of a declared type is read."""
    if kind is Any:
        return lambda raw, _: raw
    arguments = get_args(kind)
    match get_origin(kind):
        case origin if origin is Union or origin is UnionType:
            (inner,) = (argument for argument in arguments if argument is not NoneType)
            return _optional(_parser(inner))
        case origin if origin is tuple:
            return _list_of(arguments[0])
        case origin if origin is frozenset:
            return _set_of(_list_of(arguments[0]))
        case origin if origin is not None and issubclass(origin, Mapping):
            return _object_of(_parser(arguments[1]))
    if is_dataclass(kind):
        required = [f.name for f in fields(kind) if f.default is f.default_factory is MISSING]
        return _record_of(kind, required)
    if hasattr(kind, "_fields"):
        return _record_of(kind, [f for f in kind._fields if f not in kind._field_defaults])
    return _enum_of(kind) if issubclass(kind, StrEnum) else _PARSERS[kind]


def _optional(parse: Parse) -> Parse:
    return lambda raw, name: None if raw is None else parse(raw, name)


def _list_of(element: Any) -> Parse:
    parse = _parser(element)
    plain_types = _plain_types(element)

    def parse_list(raw: Any, name: str) -> tuple[Any, ...]:
        values = _require(raw, list, name)
        if set(map(type, values)) <= plain_types and _are_finite(values):
            return tuple(values)
        return tuple(parse(value, f"one of {name}") for value in values)

    return parse_list


def _object_of(parse: Parse) -> Parse:
    def parse_object_of(raw: Any, name: str) -> dict[str, Any]:
        found = _require(raw, dict, name)
        return {key: parse(value, f"{name} {key!r:.40}") for key, value in found.items()}

    return parse_object_of


def _set_of(parse: Parse) -> Parse:
    return lambda raw, name: frozenset(parse(raw, name))


def _record_of(kind: Any, required: Sequence[str]) -> Parse:
    """required: fields without a default."""
    hints = get_type_hints(kind)
    names = kind._fields if hasattr(kind, "_fields") else [field.name for field in fields(kind)]
    parsers = {name: _parser(hints[name]) for name in names}

    def parse_record(raw: Any, name: str) -> Any:
        found = _require(raw, dict, name)
        for key in required:
            if key not in found:
                raise ValueError(f"{name} lacks {key}")
        for key in found:
            if key not in parsers:
                raise ValueError(f"{name} has a field {key!r:.40} that is not known")
        return kind(**{key: parsers[key](value, key) for key, value in found.items()})

    return parse_record


def _enum_of(kind: type[StrEnum]) -> Parse:
    def parse_enum(raw: Any, name: str) -> StrEnum:
        if raw not in list(kind):
            raise ValueError(f"{name} is {raw!r:.40}; known are {', '.join(kind)}")
        return kind(raw)

    return parse_enum


def _parse_float(raw: Any, name: str) -> float:
    if type(raw) not in (int, float):
        raise ValueError(f"{name} is {_describe(raw)}, not a number")
    try:
        number = float(raw)
    except OverflowError as error:
        raise ValueError(f"{name} is too large a number") from error
    if not math.isfinite(number):
        raise ValueError(f"{name} is not a finite number")
    return number


def _exactly(kind: type) -> Parse:
    return lambda raw, name: _require(raw, kind, name)


_PARSERS: Mapping[Any, Parse] = {float: _parse_float} | {
    kind: _exactly(kind) for kind in (bool, int, str)
}


def _plain_types(element: Any) -> set[type]:
    """Of the values that are taken as they are, all of a list together."""
    if get_origin(element) not in (None, Union, UnionType):
        return set()
    kinds = set(get_args(element)) or {element}
    return kinds if kinds <= {float, NoneType} or kinds == {str} else set()


def _are_finite(values: Sequence[Any]) -> bool:
    return math.inf not in values and -math.inf not in values


def _require(raw: Any, kind: type, name: str) -> Any:
    if type(raw) is not kind:
        raise ValueError(f"{name} is {_describe(raw)}, not {_NAMES[kind]}")
    return raw


_NAMES: Mapping[type, str] = {
    NoneType: "null", bool: "true or false", int: "a whole number", float: "a number",
    str: "a text", list: "a list", dict: "an object",
}  # fmt: skip


def _describe(raw: Any) -> str:
    return _NAMES[type(raw)]


def _refuse_constant(literal: str) -> None:
    raise ValueError(f"{literal} is no number")
