"""Explanations from elsewhere are imported and found by their words, beside the run's own."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neuron_explainer import open_run
from neuron_explainer.cli import main
from tests.e2e.command_lines import Call, assert_one_line, write_lines

Ask = Callable[..., tuple[int, Any]]
ROWS = [
    {"layer": 0, "neuron": 1, "explanation": " words about rivers.", "score": 0.5},
    {"layer": 0, "neuron": 2, "explanation": "bridges over rivers", "score": 0.75},
    {"layer": 1, "neuron": 3, "explanation": 'the colour "<b>blue</b>"', "score": None},
]


@pytest.fixture
def lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "rivers.jsonl", *ROWS)
    return tmp_path


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Calls the program; its exit code, and what it printed as JSON."""

    def call_main(*arguments: str) -> tuple[int, Any]:
        monkeypatch.setattr(sys, "argv", ["neuron-explainer", *arguments, "--json"])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), json.loads(capsys.readouterr().out)

    return call_main


def units(answer: Any) -> set[int]:
    return {hit["neuron_id"]["neuron_index"] for hit in answer["explanations"]}


def test_what_was_imported_is_found_by_words_layer_and_score(lists: Path, ask: Ask) -> None:
    assert lists.is_dir()
    code, (imported,) = ask("import", "rivers.jsonl", "--run", "run")
    assert (code, imported["added"]["n_added"]) == (0, 3)
    _, (again,) = ask("import", "rivers.jsonl", "--run", "run")
    assert (again["added"]["n_added"], again["added"]["n_known"]) == (0, 3)
    for flags, found in (
        (["rivers"], {1, 2}),
        (["rivers", "--min-score", "0.6"], {2}),
        (["blue", "--layer", "1"], {3}),
        (["blue", "--layer", "0"], set()),
        (['"NEAR( *'], set()),
    ):
        code, answer = ask("search", *flags, "--run", "run")
        assert (code, units(answer)) == (0, found)


def test_a_file_that_is_no_list_is_refused_and_the_others_are_taken(lists: Path, ask: Ask) -> None:
    (lists / "broken.jsonl").write_text('{"layer": 0, "neuron"')
    code, (broken, taken) = ask("import", "broken.jsonl", "rivers.jsonl", "--run", "run")
    assert code == 1
    assert "broken.jsonl" in broken["refused"]
    assert (taken["refused"], taken["added"]["n_added"]) == (None, 3)


def test_nothing_to_search_is_one_line(lists: Path, call: Call) -> None:
    assert lists.is_dir()
    assert_one_line(call("search", "rivers", "--run", "none"), 1, "nothing to search in none")


def test_a_runs_own_explanations_are_searched_too(
    finished_run: Path, tmp_path: Path, ask: Ask
) -> None:
    shutil.copytree(finished_run, tmp_path / "mine")
    own = {unit.neuron_id.neuron_index for unit in open_run(finished_run).results() if unit.text}
    for _ in range(2):  # the second time they are there already
        code, answer = ask("search", "tokens", "--run", str(tmp_path / "mine"))
        assert (code, units(answer)) == (0, own)
