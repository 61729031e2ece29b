"""The job reads its flags, asks a server that answers by rule, and prints what came of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer import Typer
from typer.testing import CliRunner, Result

from jobs.neuron_puzzles import neuron_puzzles
from neuron_explainer.errors import UsageError
from tests.llm.rule_server import rule_server

PUZZLES = {
    "rivers": {
        "name": "rivers",
        "explanation": 'tokens such as " Rhine", " Elbe"',
        "false_explanations": ['tokens such as " flows"', 'tokens such as " The", " Elbe"'],
        "sentences": [
            [" The", [" Rhine", 9], " flows"],
            [" No", " river", " at", " all"],
            [" The", [" Elbe", 10], " flows", " too"],
        ],
    },
    "the": {
        "name": "the",
        "explanation": 'tokens such as " The"',
        "false_explanations": ['tokens such as " the", " The"', 'tokens such as " Rhine"'],
        "sentences": [[[" The", 9], " Rhine"], [" A", " Rhine"]],
    },
}


@pytest.fixture
def puzzles(tmp_path: Path) -> Path:
    path = tmp_path / "puzzles.json"
    path.write_text(json.dumps(PUZZLES))
    return path


def run(*flags: str | Path) -> Result:
    app = Typer()
    app.command()(neuron_puzzles)
    return CliRunner().invoke(app, [str(flag) for flag in flags])


def run_on_server(puzzles: Path, tmp_path: Path, *flags: str) -> Result:
    with rule_server() as server:
        result = run(
            "--puzzles", puzzles, "--simulator", "openai:rule-1", "--base-url", server.base_url,
            "--run", tmp_path / "run", *flags,
        )  # fmt: skip
    assert result.exit_code == 0, result.output
    return result


def test_the_true_explanation_is_ranked_by_the_simulator(puzzles: Path, tmp_path: Path) -> None:
    found: dict[str, Any] = json.loads(run_on_server(puzzles, tmp_path, "--json").output)
    rivers, the = found["puzzles"]
    assert rivers["rank"] == {"best": 1, "worst": 1}
    assert the["rank"] == {"best": 1, "worst": 2}
    assert found["summary"]["n_first"] == 1
    assert found["summary"]["n_first_at_best"] == 2
    assert found["summary"]["n_tied"] == 1
    assert rivers["found"] is None


def test_what_an_explainer_finds_is_scored_too(puzzles: Path, tmp_path: Path) -> None:
    result = run_on_server(puzzles, tmp_path, "--json", "--explainer", "openai:rule-1")
    found = json.loads(result.output)
    rivers, _ = found["puzzles"]
    assert {"Rhine", "Elbe"} <= set(
        rivers["found"]["text"].replace('"', "").replace(",", "").split()
    )
    assert rivers["found"]["score"]["value"] == pytest.approx(1, abs=0.05)
    assert found["summary"]["n_found"] == 2


def test_the_table_says_how_many_are_first_and_what_is_open(puzzles: Path, tmp_path: Path) -> None:
    text = " ".join(run_on_server(puzzles, tmp_path).output.split())
    assert "rivers 1 of 3 1.00" in text
    assert "the 1-2 of 3 1.00 1.00" in text
    assert "first in 1 to 2 of 2 puzzles, among the best two in 2." in text
    assert "1 with a tie; without a score: 0 true and 0 false explanations." in text


def test_the_token_lookup_table_cannot_be_the_simulator(puzzles: Path, tmp_path: Path) -> None:
    result = run("--puzzles", puzzles, "--run", tmp_path / "run")
    assert isinstance(result.exception, UsageError)
    assert "--simulator openai:MODEL" in str(result.exception)
