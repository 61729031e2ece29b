"""Explanations from elsewhere are imported and found by their words, beside the run's own."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from neuron_explainer import cli_search, open_run
from neuron_explainer.cli import main
from neuron_explainer.published.archive import Archive
from neuron_explainer.published.locations import Kind
from neuron_explainer.records.neuron import NeuronId
from tests.e2e.command_lines import Call, assert_one_line, write_lines
from tests.published.mirror import document, which
from tests.tiny_embedding import save_tiny_embedding

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
    return {hit["neuron"] for hit in answer["explanations"]}


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


def test_a_search_says_what_kind_its_scores_are_of(
    lists: Path, ask: Ask, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Console(record=True, width=120, file=io.StringIO())
    monkeypatch.setattr(cli_search, "console", recorder)

    def shown() -> str:
        assert call("search", "rivers", "--run", "run").code == 0
        return recorder.export_text()

    row = {"layer": 0, "neuron": 1, "explanation": "rivers"}
    write_lines(lists / "one.jsonl", row | {"score": 0.5, "score_kind": "fuzz"})
    write_lines(lists / "other.jsonl", row | {"score": 1, "score_kind": "input_success"})
    ask("import", "one.jsonl", "--run", "run")
    assert "score: fuzz" in shown()
    ask("import", "other.jsonl", "--run", "run")
    both = shown()
    assert "kind of score" in both
    assert "input_success" in both


def test_what_a_search_prints_can_be_imported(lists: Path, ask: Ask) -> None:
    ask("import", "rivers.jsonl", "--run", "run")
    _, found = ask("search", "rivers", "--run", "run")
    (lists / "found.json").write_text(json.dumps(found))
    code, (imported,) = ask("import", "found.json", "--run", "other")
    assert (code, imported["added"]["n_added"], imported["left_out"]) == (0, 2, {})
    _, again = ask("search", "rivers", "--run", "other")
    assert again == found


def test_published_explanations_are_found_in_an_archive(lists: Path, ask: Ask) -> None:
    with Archive(lists / "a.sqlite") as archive:
        for one in (which(Kind.EXPLANATIONS, NeuronId(1, n)) for n in range(3)):
            archive.add(one, document(one), "here")
    for flags, found in (
        (["numbers"], {0, 1, 2}),
        (["numbers", "--layer", "2"], set()),
        (["numbers", "--limit", "1"], {0}),
    ):
        code, answer = ask("search", *flags, "--published", "--archive", "a.sqlite")
        assert (code, units(answer)) == (0, found)


def test_a_search_by_meaning_finds_the_nearest_first(lists: Path, ask: Ask) -> None:
    save_tiny_embedding(lists / "model")
    ask("import", "rivers.jsonl", "--run", "run")
    flags = ("--semantic", "--embedding-model", "./model", "--run", "run")
    code, answer = ask("search", "bridges over rivers", *flags)
    assert code == 0
    assert answer["explanations"][0]["neuron"] == 2
    similarities = [hit["similarity"] for hit in answer["explanations"]]
    assert similarities == sorted(similarities, reverse=True)
    assert similarities[0] == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        ("--archive a.sqlite", 2, "give --published too"),
        ("--embedding-model x", 2, "is for --semantic"),
        ("--published --dataset gpt5", 2, "no published dataset 'gpt5'"),
        ("--published --archive none.sqlite", 1, "no archive none.sqlite"),
        ("--semantic --embedding-model ./none", 1, "no model folder at ./none"),
    ],
)
def test_a_search_that_cannot_be_meant_is_one_line(
    lists: Path, ask: Ask, call: Call, flags: str, code: int, says: str
) -> None:
    assert lists.is_dir()
    ask("import", "rivers.jsonl", "--run", "run")
    assert_one_line(call("search", "rivers", "--run", "run", *flags.split()), code, says)


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
    said = [unit for unit in open_run(finished_run).results() if "token" in (unit.text or "")]
    own = {unit.neuron_id.neuron_index for unit in said}
    for _ in range(2):  # the second time they are there already
        code, answer = ask("search", "tokens", "--run", str(tmp_path / "mine"))
        assert (code, units(answer)) == (0, own)
