"""`show` tells what an explanation was chosen from and what it cost; a dry run tells one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neuron_explainer.cli import app
from tests.llm.rule_server import rule_server
from tests.tiny_models import save_tiny_model

ASK = ["--explainer", "openai:rule-1", "--simulator", "auto", "--n-resamples", "0"]


@pytest.fixture
def run(user: Path, finished_run: Path) -> Path:
    return shutil.copytree(finished_run, user / "run")


def call(*arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments, "--run", "run"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def write_prices(folder: Path) -> list[str]:
    (folder / "prices.json").write_text('{"models": {"rule-1": {"input": "1", "output": "4"}}}')
    return ["--prices", "prices.json"]


@pytest.mark.parametrize("n_explanations", [1, 3])
def test_show_tells_the_candidates_with_their_scores_and_the_cost(
    run: Path, n_explanations: int
) -> None:
    with rule_server() as server:
        call(
            "explain", "--neurons", "0:3,1:5", "--n-explanations", str(n_explanations), *ASK,
            "--base-url", server.base_url, "--requests-a-minute", "1000000",
            *write_prices(run.parent),
        )  # fmt: skip
    answer = json.loads(call("show", "0:3", "--json"))
    result, candidates = answer["result"], answer["candidates"]
    assert result["cost"]["n_requests"] > 20
    shown = " ".join(call("show", "0:3").split())
    assert f"asked of language models: {result['cost']['n_requests']} requests, " in shown
    assert f"${result['cost']['cost_picousd'] / 1e12:,.4f}" in shown
    if n_explanations == 1:
        assert candidates == []
        assert "Chosen from" not in shown
        return
    assert candidates[0]["text"] == result["text"]
    values = [candidate["score"]["value"] for candidate in candidates]
    assert values == sorted(values, key=lambda v: -(v if v is not None else -2))
    _, _, listed = shown.partition("Chosen from, by the score on the calibration split ")
    for candidate in candidates:
        value = candidate["score"]["value"]
        score = f"– ({candidate['score']['reason']})" if value is None else f"{value:.2f}"
        assert f"{score} {candidate['text']}" in listed


@pytest.mark.usefixtures("run")
def test_a_unit_of_the_lookup_table_has_no_candidates_and_no_cost() -> None:
    answer = json.loads(call("show", "0:3", "--json"))
    assert answer["candidates"] == []
    assert "Chosen from" not in call("show", "0:3")
    assert "asked of language models" not in call("show", "0:3")


def test_a_dry_run_prints_one_line_and_logs_nothing(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    save_tiny_model(run.parent / "lm", 1, 8, n_ctx=4096)
    flags = ["--explainer", "hf:./lm", "--simulator", "auto", "--n-explanations", "3"]
    flags += ["--explainer-prompt", "summary"]
    told = call("explain", "--dry-run", "--neurons", "4", *flags)
    assert told.startswith("4 neurons: hf:./lm: ")
    assert told.count("\n") == 1
    assert caplog.records == []
