"""The batch job takes the flags of `run`, and means every neuron."""

from __future__ import annotations

from pathlib import Path

from typer import Typer
from typer.testing import CliRunner

from jobs.explain_all import explain_all


def test_a_dry_run_estimates_every_neuron_and_starts_nothing(tmp_path: Path) -> None:
    app = Typer()
    app.command()(explain_all)
    for explainer, asks in (("patterns", False), ("openai:gpt-4o-mini", True)):
        flags = ["--dry-run", "--explainer", explainer, "--run", str(tmp_path / "run")]
        result = CliRunner().invoke(app, flags)
        assert result.exit_code == 0, result.output
        assert result.output.startswith("3,072 neurons: ")
        assert ("requests" in result.output) == asks
        assert "1,500,000 tokens for the collection" in result.output
    assert not (tmp_path / "run").exists()
