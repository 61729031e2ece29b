"""`doctor` as a person and as a program read it; no network is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neuron_explainer import cli_options
from neuron_explainer.cli import app
from tests.e2e.command_lines import Call, assert_one_line
from tests.llm.rule_options import ServerOptions
from tests.llm.rule_server import rule_server

LONG = "a-folder-with-a-name-that-is-longer-than-a-terminal-is-wide-" * 2
STATUSES = ("ok", "note", "problem")


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CliRunner:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PIP_INDEX_URL", tmp_path.as_uri())
    return CliRunner()


def test_a_program_reads_checks_and_the_exit_code(runner: CliRunner, tmp_path: Path) -> None:
    done = runner.invoke(app, ["doctor", "--json", "--run", str(tmp_path / "run")])
    checks = json.loads(done.stdout)["checks"]
    assert {check["status"] for check in checks} <= {*STATUSES}
    assert [set(check) for check in checks] == [{"name", "status", "found", "todo"}] * len(checks)
    assert done.exit_code == 0
    assert list(tmp_path.iterdir()) == []


def test_a_problem_is_exit_code_1(runner: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = runner.invoke(app, ["doctor", "--run", str(tmp_path / "file")])
    assert done.exit_code == 1
    assert "problem  run folder" in done.stdout
    assert done.stdout.rstrip().endswith("1 problem")


@pytest.mark.parametrize("width", [80, 120])
def test_a_person_reads_a_table_that_fits_and_commands_that_are_whole(
    runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setattr(cli_options.console, "width", width)
    run = tmp_path / LONG / "[bold]run"
    lines = runner.invoke(app, ["doctor", "--run", str(run)]).stdout.splitlines()
    todo = [line for line in lines if line.strip().startswith("→")]
    assert all(len(line) <= width for line in lines if line not in todo)
    assert any(line.endswith(f"neuron-explainer run --run '{run}'") for line in todo)
    assert "".join(line.strip() for line in lines).count(LONG) >= 2


@pytest.mark.parametrize(
    ("options", "simulations"),
    [
        (ServerOptions(), ["all_at_once", "streaming", "structured", "one_at_a_time"]),
        (ServerOptions(echo="refused"), ["streaming", "structured", "one_at_a_time"]),
        (ServerOptions(echo="refused", n_top_logprobs=0, schema="refused"), ["structured"]),
    ],
)
def test_of_a_server_it_says_which_simulations_it_offers(
    runner: CliRunner, options: ServerOptions, simulations: list[str]
) -> None:
    with rule_server(options) as server:
        asked = ["doctor", "--base-url", server.base_url]
        table, program = runner.invoke(app, asked), runner.invoke(app, [*asked, "--json"])
    assert (table.exit_code, program.exit_code) == (0, 0)
    (line,) = [
        line for line in table.stdout.splitlines() if line.startswith("ok       simulations")
    ]
    assert line.endswith(f"  {' > '.join(simulations)}")
    answer = json.loads(program.stdout)
    assert answer["simulations"] == simulations
    assert answer["capabilities"]["model"] == "rule-1"
    assert {tuple(check) for check in answer["checks"]} == {("name", "status", "found", "todo")}


def test_a_model_that_the_server_lacks_is_exit_code_1(runner: CliRunner) -> None:
    with rule_server() as server:
        asked = ["doctor", "--base-url", server.base_url, "--model-name", "no-such"]
        done = runner.invoke(app, asked)
    assert done.exit_code == 1
    assert "problem  simulations" in done.stdout


def test_no_server_and_a_name_without_one_end_in_one_line(call: Call) -> None:
    with rule_server() as server:
        pass
    assert_one_line(call("doctor", "--base-url", server.base_url), 1, "no connection")
    assert_one_line(call("doctor", "--model-name", "gpt-4o"), 2, "--base-url")
