"""Reads what language models write for JSON: single quotes, spare commas, answers that are cut off.

Nothing is made up: of a value that is cut off, the entries that are whole are kept, and a number
or string whose end is not seen is left out.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TypeAlias

MAX_DEPTH = 8
"""Of lists in lists; an answer needs three."""
_SPACE = re.compile(r"\s*")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?=\s*[,\]}:\s])")
_BARE_WORD = re.compile(r"[A-Za-z_]\w*(?=\s*[,\]}:\s])")
_STRING = {quote: re.compile(rf"{quote}((?:[^{quote}\\]|\\.)*){quote}", re.S) for quote in "\"'"}
_WORDS: dict[str, bool | None] = {
    "true": True, "false": False, "null": None, "True": True, "False": False, "None": None
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pairs:
    """A JSON object in its order; a name may occur more than once."""

    items: tuple[tuple[str, Value], ...]

    def get(self, *names: str) -> Value:
        """Of the first pair that has one of the names; None when there is none."""
        return next((value for name, value in self.items if name in names), None)


Value: TypeAlias = "bool | float | int | str | list[Value] | Pairs | None"


class _NotJson(Exception):
    """What stands here is none of JSON's values."""


class _CutOff(Exception):
    """The text ends before the value does."""


def read_values(text: str) -> list[Value]:
    """Every object and list in the text that is in no other one, with prose around them."""
    reader = _Reader(text)
    values: list[Value] = []
    start = 0
    while (opening := re.compile(r"[{\[]").search(text, start)) is not None:
        try:
            values.append(reader.read(opening.start()))
            start = reader.at
        except _NotJson:
            start = opening.end()
    return values


class _Reader:
    """Reads one value from a place in the text; `at` is where it has come to."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.at = 0

    def read(self, start: int) -> Value:
        self.at = start
        return self._value(depth=0)

    def _value(self, depth: int) -> Value:
        if depth > MAX_DEPTH:
            raise _NotJson
        match self._peek():
            case "{":
                return self._object(depth)
            case "[":
                return self._list(depth)
            case '"' | "'":
                return self._string()
            case _:
                return self._number_or_word()

    def _object(self, depth: int) -> Pairs:
        items: list[tuple[str, Value]] = []
        self.at += 1
        try:
            while self._peek() != "}":
                name = self._value(depth + 1)
                if self._peek() != ":" or isinstance(name, list | Pairs):
                    raise _NotJson
                self.at += 1
                items.append((str(name), self._value(depth + 1)))
                self._comma("}")
            self.at += 1
        except _CutOff:
            self.at = len(self._text)
        return Pairs(tuple(items))

    def _list(self, depth: int) -> list[Value]:
        items: list[Value] = []
        self.at += 1
        try:
            while self._peek() != "]":
                items.append(self._value(depth + 1))
                self._comma("]")
            self.at += 1
        except _CutOff:
            self.at = len(self._text)
        return items

    def _string(self) -> str:
        match = _STRING[self._text[self.at]].match(self._text, self.at)
        if match is None:
            raise _CutOff
        self.at = match.end()
        body = match[1] if match[0][0] == '"' else _with_double_quotes(match[1])
        try:
            string: str = json.loads(f'"{body}"', strict=False)
        except ValueError:  # an escape that JSON does not have, such as \x85
            return match[1]
        return string

    def _number_or_word(self) -> Value:
        number = _NUMBER.match(self._text, self.at)
        word = _BARE_WORD.match(self._text, self.at)
        found = number or word
        if found is None:
            is_last = re.compile(r"[\w+.-]*\Z").match(self._text, self.at)
            raise _CutOff if is_last else _NotJson
        if word is not None and word[0] not in _WORDS:
            raise _NotJson
        self.at = found.end()
        if word is not None:
            return _WORDS[word[0]]
        return int(found[0]) if re.fullmatch(r"[+-]?\d{1,9}", found[0]) else float(found[0])

    def _comma(self, closing: str) -> None:
        char = self._peek()
        if char == ",":
            self.at += 1
        elif char != closing:
            raise _NotJson

    def _peek(self) -> str:
        """The next character that is no space."""
        space = _SPACE.match(self._text, self.at)
        self.at = self.at if space is None else space.end()
        if self.at >= len(self._text):
            raise _CutOff
        return self._text[self.at]


def _with_double_quotes(body: str) -> str:
    """The inside of a string in single quotes, as one in double quotes has it."""
    return re.sub(r"\\.|\"", lambda m: {"\\'": "'", '"': '\\"'}.get(m[0], m[0]), body, flags=re.S)
