"""`doctor` as a person and as a program read it; no network is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neuron_explainer import cli_options
from neuron_explainer.cli import app

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
