"""Windows and their activations as language models are shown them: a token a line, 0 to 10.

Bills et al. 2023, `activation_records.py`: `token<tab>activation`, between a start and an end mark.
Line breaks and tabs in a token are shown escaped, so that a line is always one token. A position
that does not count has a line without tab and value: it is text, and nothing is said of it.

Lee et al. 2023 (arXiv 2310.06200) show the window as plain text instead, with the active tokens
listed below it (summary) or marked in place (highlight).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from neuron_explainer.records.neuron import ActivationRecord
from neuron_explainer.records.scale import MAX_NORMALIZED_ACTIVATION, normalize_activations

START, END = "<start>", "<end>"
BEFORE_ACTIVE, AFTER_ACTIVE = "<<", ">>"
REPEAT_BELOW = 0.2
"""The non-zero lines are shown once more when their share is smaller (published: 0.2)."""
MARKED_FROM = 0.3
"""A token is marked when its activation is at least this share of its window's largest."""
MAX_LISTED = 20
"""Tokens of a summary."""

_ESCAPES = str.maketrans({"\n": "\\n", "\t": "\\t", "\r": "\\r", "\x0b": "\\v", "\x0c": "\\f",
                          "\x85": "\\x85", "\u2028": "\\u2028", "\u2029": "\\u2029"})  # fmt: skip


@dataclass(frozen=True, slots=True)
class ShownWindow:
    """A window as a prompt shows it."""

    tokens: tuple[str, ...]
    """Display strings, not escaped."""
    activations: tuple[int | None, ...]
    """Normalized, 0 to 10; one a token, None where the position does not count."""

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.activations):
            raise ValueError(f"{len(self.activations)} activations for {len(self.tokens)} tokens")
        known = [activation for activation in self.activations if activation is not None]
        if not all(0 <= activation <= MAX_NORMALIZED_ACTIVATION for activation in known):
            raise ValueError("an activation does not lie between 0 and 10")

    @property
    def max_activation(self) -> int:
        """Normalized; 0 when no position counts."""
        return max((a for a in self.activations if a is not None), default=0)


def show_token(token: str) -> str:
    """A token on one line: what would break the line or the column is escaped."""
    return token.translate(_ESCAPES)


def normalize_window(record: ActivationRecord, max_activation: float) -> ShownWindow:
    """`max_activation`: the largest ever recorded for the unit, raw; it may lie in another window.

    The published code takes the largest of the windows shown, the paper the largest of all.
    """
    known = [activation for activation in record.activations if activation is not None]
    normalized = iter(normalize_activations(known, max_activation))
    return ShownWindow(
        record.tokens, tuple(None if a is None else next(normalized) for a in record.activations)
    )


def shift_to_next(window: ShownWindow) -> ShownWindow:
    """Each activation beside the token that follows; the first token is left out."""
    return ShownWindow(window.tokens[1:], window.activations[:-1])


def non_zero_share(windows: Sequence[ShownWindow]) -> float:
    """Of the positions that count, in all the windows together; 0 when none does."""
    known = [a for window in windows for a in window.activations if a is not None]
    return sum(a > 0 for a in known) / len(known) if known else 0.0


def format_pairs(windows: Sequence[ShownWindow], *, with_zeros: bool = True) -> str:
    """The windows one below the other, each between its marks; ends without a line break."""
    lines = []
    for window in windows:
        lines.append(START)
        for token, activation in zip(window.tokens, window.activations, strict=True):
            if activation is None and with_zeros:
                lines.append(show_token(token))
            elif activation is not None and (activation > 0 or with_zeros):
                lines.append(f"{show_token(token)}\t{activation}")
        lines.append(END)
    return "\n".join(lines)


def format_plain(window: ShownWindow) -> str:
    """The text alone, on one line."""
    return "".join(map(show_token, window.tokens))


def format_marked(window: ShownWindow) -> str:
    """The text on one line, each run of active tokens between marks: `on << 14 March>>`."""
    floor = MARKED_FROM * window.max_activation
    is_active = [bool(a) and a is not None and a >= floor for a in window.activations]
    text = ""
    for active, run in groupby(zip(is_active, window.tokens, strict=True), lambda pair: pair[0]):
        shown = escape_marks("".join(show_token(token) for _, token in run))
        text += f"{BEFORE_ACTIVE}{shown}{AFTER_ACTIVE}" if active else shown
    return text


def escape_marks(text: str) -> str:
    """Marks that are part of the text, such as C++'s, with a backslash before them."""
    for mark in (BEFORE_ACTIVE, AFTER_ACTIVE):
        text = text.replace(mark, "\\" + mark)
    return text


def format_strongest(windows: Sequence[ShownWindow], most: int = MAX_LISTED) -> str:
    """The active tokens with their largest activation, strongest first: `" two" 10, " half" 8`."""
    return ", ".join(f"{quote(token)} {a}" for token, a in strongest(windows)[:most])


def format_tokens(tokens: Sequence[str]) -> str:
    """`" two", " half"`, in the order given."""
    return ", ".join(map(quote, tokens))


def strongest(windows: Sequence[ShownWindow]) -> list[tuple[str, int]]:
    """(token, its largest activation) of the active tokens, strongest first, then as they come."""
    largest: dict[str, int] = {}
    for window in windows:
        for token, activation in zip(window.tokens, window.activations, strict=True):
            if activation:
                largest[token] = max(activation, largest.get(token, 0))
    return sorted(largest.items(), key=lambda item: -item[1])


def quote(token: str) -> str:
    """Between quotation marks, so that a space at its edge can be seen."""
    return f'"{show_token(token)}"'
