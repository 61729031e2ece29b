"""From what a model wrote for JSON to one activation a token; None where it wrote none.

An entry counts for a token when its number and its token agree, or when its place among the other
entries tells (the entries and the window are aligned by their tokens). No value is ever guessed.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from neuron_explainer.errors import ParseError
from neuron_explainer.prompts.activations import show_token
from neuron_explainer.prompts.simulate_lenient_json import Pairs, Value, read_values
from neuron_explainer.records.scale import MAX_NORMALIZED_ACTIVATION

_NUMBER = ("n", "number", "index")
_TOKEN = ("token",)
_ACTIVATION = ("activation", "value")
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Entry:
    """What an answer says of one token, as far as it does."""

    activation: float | None
    n: int | None = None
    """The token's number, from 1."""
    token: str | None = None


def parse_activations(text: str, tokens: Sequence[str]) -> list[float | None]:
    """One activation a token, 0 to 10; None where there is no entry or no such number in it.

    Taken are entries with `n`, `token` and `activation`, an object that maps numbers or tokens to
    activations, pairs of token and activation, and a bare list with one number a token; in code
    fences, with prose around, cut off. ParseError when there is nothing of the kind.
    """
    reason = "no list of activations"
    for value in _candidates(read_values(_THOUGHT.sub("", text))):
        entries = list(_entries(value, tokens))
        if all(entry.n is None and entry.token is None for entry in entries):
            if entries and len(entries) == len(tokens):
                return [entry.activation for entry in entries]
            if entries:
                reason = f"{len(entries)} activations for {len(tokens)} tokens"
            continue
        placed = _by_token(entries, tokens)
        if any(placed):
            return [None if entry is None else entry.activation for entry in placed]
        reason = "no entry belongs to a token of the window"
    raise ParseError(text, reason)


def _candidates(values: Sequence[Value]) -> list[Value]:
    """What may be the answer; entries that stand alone, in no list, are one list together."""
    alone = [v for v in values if isinstance(v, Pairs) and _is_entry(v)]
    others = [v for v in values if not (isinstance(v, Pairs) and _is_entry(v))]
    return [*others, list(alone)]


def _is_entry(pairs: Pairs) -> bool:
    names = {name for name, _ in pairs.items}
    return not names.isdisjoint(_ACTIVATION) and not names.isdisjoint({*_NUMBER, *_TOKEN})


def _entries(value: Value, tokens: Sequence[str]) -> Iterator[Entry]:
    match value:
        case Pairs(items):
            inner = [(k, v) for k, v in items if isinstance(v, list | Pairs) and k != "tokens"]
            named = [v for name, v in inner if name == "activations"]
            if inner:  # {"activations": [...]}, or the first one of another name
                yield from _entries((named or [v for _, v in inner])[0], tokens)
            else:
                yield from _mapped_entries(items, tokens)
        case list():
            for item in value:
                yield _entry(item)
        case _:
            return


def _entry(item: Value) -> Entry:
    match item:
        case Pairs():
            token = item.get(*_TOKEN)
            return Entry(
                activation=_activation(item.get(*_ACTIVATION)),
                n=_whole(item.get(*_NUMBER)),
                token=token if isinstance(token, str) else None,
            )
        case [str(token), activation]:
            return Entry(_activation(activation), token=token)
        case _:
            return Entry(_activation(item))


def _mapped_entries(items: Sequence[tuple[str, Value]], tokens: Sequence[str]) -> Iterator[Entry]:
    """Of an object whose names are the tokens, or else their numbers."""
    shown = {_plain(token) for token in tokens}
    are_tokens = all(_plain(name) in shown for name, _ in items)
    numbers = [_whole(name) for name, _ in items]
    are_numbers = not are_tokens and None not in numbers
    for (name, value), number in zip(items, numbers, strict=True):
        if are_numbers:
            yield Entry(_activation(value), n=number)
        else:
            yield Entry(_activation(value), token=name)


def _by_token(entries: Sequence[Entry], tokens: Sequence[str]) -> list[Entry | None]:
    """The entry of each token; None: there is none, or there are several."""
    aligned = _align(entries, tokens)
    places = [_place(entry, aligned.get(i), tokens) for i, entry in enumerate(entries)]
    times = Counter(places)
    found = {
        place: entry
        for place, entry in zip(places, entries, strict=True)
        if place is not None and times[place] == 1
    }
    return [found.get(i) for i in range(len(tokens))]


def _place(entry: Entry, aligned: int | None, tokens: Sequence[str]) -> int | None:
    """Index of the entry's token in the window: by its number, unless its token contradicts."""
    numbered = None if entry.n is None else entry.n - 1
    if numbered is None or numbered not in range(len(tokens)):
        return aligned
    if entry.token is None or _plain(entry.token) == _plain(tokens[numbered]):
        return numbered
    return aligned


def _align(entries: Sequence[Entry], tokens: Sequence[str]) -> dict[int, int]:
    """Index of an entry -> index of its token, from the tokens' order alone.

    A run of tokens that are written as no token of the window is, beside others that agree, is
    taken one for one where there are as many entries as tokens and no number contradicts.
    """
    written = [None if entry.token is None else _plain(entry.token) for entry in entries]
    wanted = [_plain(token) for token in tokens]
    blocks = SequenceMatcher(None, written, wanted, autojunk=False).get_opcodes()
    has_anchor = any(tag == "equal" for tag, *_ in blocks)
    aligned: dict[int, int] = {}
    for tag, i, i_end, j, j_end in blocks:
        if tag == "equal":
            aligned |= dict(zip(range(i, i_end), range(j, j_end), strict=True))
        elif tag == "replace" and has_anchor and i_end - i == j_end - j:
            pairs = zip(range(i, i_end), range(j, j_end), strict=True)
            aligned |= {
                a: b for a, b in pairs if entries[a].n in (None, b + 1) and written[a] not in wanted
            }
    return aligned


def _plain(token: str) -> str:
    """What is left of a token when a model copies it: without the spaces around it."""
    shown = show_token(token)
    return shown.strip() or shown


def _activation(value: Value) -> float | None:
    """A number from 0 to 10, or one in quotes."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    is_valid = math.isfinite(value) and 0 <= value <= MAX_NORMALIZED_ACTIVATION
    return float(value) if is_valid else None


def _whole(value: Value) -> int | None:
    """A whole number, or one in quotes."""
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,9}\s*", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
