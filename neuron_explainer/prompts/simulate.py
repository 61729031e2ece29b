"""The all-at-once simulator's prompt: `unknown` stands where each activation is asked for.

Bills et al. 2023, `simulator.py`: worked examples whose first activations are `unknown` and whose
others are written out, then the explanation and every token of the window with `unknown`. What the
model expects in the place of each `unknown` is its prediction, so one reading of the prompt
predicts the window. The prompt is made of pieces, each a string that is turned into token ids
alone: no search through tokens or text is needed to find the places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from neuron_explainer.prompts.activations import show_token
from neuron_explainer.prompts.few_shot import FewShotNeuron, FewShotRecord

PROMPT_VERSION = "all_at_once/1"
UNKNOWN = "unknown"
TAB = "\t"
LINE_BREAK = "\n"
START = "<start>\n"
END = "<end>\n"
TASK = (
    "Each neuron of a language model looks for one thing in a text and becomes active on the "
    "tokens where it finds it. Of every neuron below there is an explanation of what it looks for, "
    "then texts with one token a line: the token, a tab, and how active the neuron is on it, a "
    "whole number from 0 (not at all) to 10 (as much as ever). Most tokens have 0. Where nobody "
    "has looked up the number, it says unknown. Line breaks and tabs inside a token are written "
    "\\n and \\t.\n"
)


class WindowPieces(NamedTuple):
    """The last part of a prompt: an explanation and the tokens it is to predict."""

    pieces: tuple[str, ...]
    asked: tuple[int, ...]
    """Index of each token's `unknown` among the pieces."""


def explanation_line(number: int, explanation: str) -> str:
    """How every simulator's prompt introduces a neuron, without the line break."""
    return f"{_explanation_lead(number)} {explanation.strip()}"


def prefix_pieces(few_shot: Sequence[FewShotNeuron]) -> list[str]:
    """All that is equal for all units: the task, the examples, and the lead of the next neuron."""
    pieces = [TASK]
    for number, neuron in enumerate(few_shot, start=1):
        pieces += [_header(number), f" {neuron.explanation.strip()}", _ACTIVATIONS]
        for record in neuron.records:
            pieces += [START, *_record_pieces(record), END]
    return [*pieces, _header(len(few_shot) + 1)]


def window_pieces(explanation: str, tokens: Sequence[str]) -> WindowPieces:
    """What follows the prefix; it ends with the last `unknown`, as nothing after it is read."""
    pieces = [f" {explanation.strip()}", _ACTIVATIONS, START]
    asked = []
    for token in tokens:
        asked.append(len(pieces) + 2)
        pieces += _line(token, UNKNOWN)
    return WindowPieces(tuple(pieces[:-1]), tuple(asked))


def _header(number: int) -> str:
    return f"\nNeuron {number}\n{_explanation_lead(number)}"


def _explanation_lead(number: int) -> str:
    return f"Explanation of neuron {number}:"


_ACTIVATIONS = "\nActivations:\n"


def _record_pieces(record: FewShotRecord) -> list[str]:
    pieces: list[str] = []
    for i, (token, activation) in enumerate(zip(record.tokens, record.activations, strict=True)):
        pieces += _line(token, UNKNOWN if i < record.n_unknown else str(activation))
    return pieces


def _line(token: str, activation: str) -> tuple[str, str, str, str]:
    return show_token(token), TAB, activation, LINE_BREAK
