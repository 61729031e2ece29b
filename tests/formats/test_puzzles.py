"""The published puzzles are read whole, and a file that is something else is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.formats.puzzles import read_puzzles

PUZZLE: dict[str, Any] = {
    "name": "rivers",
    "explanation": "names of rivers",
    "false_explanations": ["names", "water"],
    "sentences": [["The", [" Rhine", 9]], ["No", " river"]],
}


def write(folder: Path, content: Any) -> Path:
    path = folder / "puzzles.json"
    path.write_text(json.dumps(content))
    return path


def test_a_token_without_a_value_has_activation_0(tmp_path: Path) -> None:
    (puzzle,) = read_puzzles(write(tmp_path, {"rivers": PUZZLE}))
    assert (puzzle.name, puzzle.explanation) == ("rivers", "names of rivers")
    assert puzzle.false_explanations == ("names", "water")
    assert [s.tokens for s in puzzle.sentences] == [("The", " Rhine"), ("No", " river")]
    assert [s.activations for s in puzzle.sentences] == [(0, 9), (0, 0)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"explanation": None}, "an explanation is no text"),
        ({"false_explanations": []}, "no false explanation"),
        ({"false_explanations": ["names of rivers"]}, "no false explanation, or one twice"),
        ({"sentences": []}, "no token is active"),
        ({"sentences": [["a"], []]}, "a sentence is no list of tokens"),
        ({"sentences": [["a", [" b", "9"]]]}, "[' b', '9'] is no token, nor one with"),
        ({"sentences": [["a", [9, " b"]]]}, "[9, ' b'] is no token"),
        ({"sentences": [["a", 3]]}, "3 is no token"),
        ({"sentences": [["a", [" b", 9, 9]]]}, "[' b', 9, 9] is no token"),
        ({"sentences": [["a", [" b", -1]]]}, "[' b', -1] is no token"),
        ({"sentences": [["a", [" b", math.nan]]]}, "[' b', nan] is no token"),
        ({"sentences": "abc"}, "its sentences are no list"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_reason(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    path = write(tmp_path, {"rivers": {**PUZZLE, **change}})
    with pytest.raises(RecordFormatError, match=r"puzzles.json: puzzle 'rivers': ") as raised:
        read_puzzles(path)
    assert reason in str(raised.value)


@pytest.mark.parametrize("name", [name for name in PUZZLE if name != "name"])
def test_a_field_that_is_missing_is_named(tmp_path: Path, name: str) -> None:
    fields = {key: value for key, value in PUZZLE.items() if key != name}
    with pytest.raises(RecordFormatError, match=f"lacks '{name}'"):
        read_puzzles(write(tmp_path, {"rivers": fields}))


@pytest.mark.parametrize("content", ["not JSON", "[]", "{}", '{"rivers": 3}'])
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "puzzles.json"
    path.write_text(content)
    with pytest.raises(RecordFormatError):
        read_puzzles(path)


@pytest.mark.shared_data
def test_the_published_puzzles_have_the_known_counts(shared_data: Path) -> None:
    puzzles = read_puzzles(shared_data / "published" / "neuron_puzzles.json")
    assert len(puzzles) == 19
    assert {len(puzzle.false_explanations) for puzzle in puzzles} == {3, 4}
    n_sentences = [len(puzzle.sentences) for puzzle in puzzles]
    n_tokens = [sum(len(s.tokens) for s in puzzle.sentences) for puzzle in puzzles]
    n_active = [sum(bool(a) for s in p.sentences for a in s.activations) for p in puzzles]
    assert (min(n_sentences), max(n_sentences)) == (6, 13)
    assert (min(n_tokens), max(n_tokens)) == (89, 536)
    assert (min(n_active), max(n_active)) == (4, 57)
    by_name = {puzzle.name: puzzle for puzzle in puzzles}
    python, html = by_name["python"].sentences, by_name["html"].sentences
    assert [s.tokens for s in python] == [s.tokens for s in html]
