"""Command lines on a tiny model and a small corpus, and what they should come to when it is bad."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SIZES = ["--tokens", "8000", "--n-ctx", "16", "--n-boundary-windows", "60", "--device", "cpu"]
RUN = ["run", "--model", "./model", "--corpus", "corpus.jsonl", *SIZES, "--n-resamples", "5"]
COMMANDS = {
    "run": RUN,
    "explain": ["explain", "--n-resamples", "4"],  # other choices: every neuron is to be done
    "show": ["show", "0:3"],
    "scores": ["scores"],
    "report": ["report"],
}


class Answer(NamedTuple):
    """What a command line came to."""

    code: int
    error: str
    """All of stderr."""


Call = Callable[..., Answer]
Break = Callable[[Path], object]


def write_lines(path: Path, *objects: object) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in objects))


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def assert_one_line(answer: Answer, code: int, says: str) -> None:
    assert answer.error.startswith("error: ")
    assert answer.error.count("\n") == 1
    assert says in answer.error
    assert answer.code == code


def assert_nothing_half_written(folder: Path) -> None:
    hidden = [p for p in folder.rglob(".*") if p.name != ".lock"] if folder.exists() else []
    assert hidden == []
    assert not (folder / "report.html").exists()
    assert not (folder / "store/store.json").exists()
