"""Neuron puzzles: made-up units with a known explanation (Bills et al. 2023, `puzzles.json`).

{name: {"name", "explanation", "false_explanations": [text, …],
        "sentences": [["tok", ["tok", 9], …], …]}}      a plain token has activation 0
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.formats.plain import why_no_json
from neuron_explainer.records.neuron import ActivationRecord


@dataclass(frozen=True, slots=True)
class Puzzle:
    """A unit that somebody made up."""

    name: str
    explanation: str
    """The true one."""
    false_explanations: tuple[str, ...]
    """At least one; each different, and none the true one."""
    sentences: tuple[ActivationRecord, ...]
    """Activations as they were written by hand, 0 to 10; at least one is positive."""


def read_puzzles(path: Path) -> tuple[Puzzle, ...]:
    """In the file's order; RecordFormatError when it is no such file."""
    try:
        raw = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RecordFormatError(path, why_no_json(error)) from error
    if not isinstance(raw, dict) or not raw:
        raise RecordFormatError(path, "no object of puzzles by name")
    puzzles = []
    for name, fields in raw.items():
        try:
            puzzles.append(_puzzle(name, fields))
        except (KeyError, TypeError, ValueError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise RecordFormatError(path, f"puzzle {name!r}: {reason}") from error
    return tuple(puzzles)


def _puzzle(name: str, fields: Mapping[str, Any]) -> Puzzle:
    explanation, false = fields["explanation"], tuple(fields["false_explanations"])
    if not all(isinstance(text, str) and text.strip() for text in (explanation, *false)):
        raise ValueError("an explanation is no text")
    if not false or len({explanation, *false}) != len(false) + 1:
        raise ValueError("no false explanation, or one twice")
    if not isinstance(fields["sentences"], list):
        raise ValueError("its sentences are no list")
    sentences = tuple(map(_sentence, fields["sentences"]))
    if not any(sentence.max_activation > 0 for sentence in sentences):
        raise ValueError("no token is active")
    return Puzzle(name, explanation, false, sentences)


def _sentence(tokens: Any) -> ActivationRecord:
    if not isinstance(tokens, list) or not tokens:
        raise ValueError("a sentence is no list of tokens")
    pairs = [_token(token) for token in tokens]
    return ActivationRecord(
        tokens=tuple(token for token, _ in pairs),
        activations=tuple(activation for _, activation in pairs),
    )


def _token(raw: Any) -> tuple[str, float]:
    """`"tok"` -> ("tok", 0.0); `["tok", 9]` -> ("tok", 9.0)."""
    match raw:
        case str():
            return raw, 0.0
        case [str(token), int() | float() as activation] if activation >= 0:
            return token, float(activation)
    raise ValueError(f"{raw!r} is no token, nor one with an activation")
