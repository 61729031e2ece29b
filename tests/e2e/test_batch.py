"""`--batch` from the command line: a batch outlives the command that sent it."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from neuron_explainer.cli_progress import ProgressDisplay
from neuron_explainer.llm.batch_book import BatchNews
from neuron_explainer.pipeline.events import BatchAdvanced, StageStarted
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.status import read_status
from neuron_explainer.stores.results import Results
from neuron_explainer.stores.spending import SpendingStore
from tests.e2e.command_lines import Call, assert_one_line
from tests.e2e.processes import command_line, start
from tests.llm.rule_batches import BatchFaults
from tests.llm.rule_server import RuleServer, rule_server

PRICES = '{"models": {"rule-1": {"input": "1", "output": "4"}}}'
N_UNITS = 4


def explain(server: RuleServer, run: str) -> list[str]:
    return [
        "explain", "--run", run, "--explainer", "openai:rule-1", "--simulator", "auto",
        "--simulation", "structured", "--base-url", server.base_url, "--neurons", str(N_UNITS),
        "--prices", "prices.json", "--n-resamples", "0", "--device", "cpu",
    ]  # fmt: skip


def units_of(run: Path) -> list[object]:
    """What is said of each unit, and how it scores."""
    with Results(run / "results.sqlite", read_only=True) as results:
        units = results.units(results.current_method())
        return [(unit.neuron_id, unit.text, unit.scores, unit.reason) for unit in units]


def spent_picousd(run: Path) -> int:
    with SpendingStore(run / "spending.sqlite") as spending:
        of_probe = spending.of_purpose("probe/").counted.cost_picousd or 0
        return spending.total_picousd() - of_probe


@pytest.mark.slow
def test_a_batch_outlives_the_command_that_sent_it(
    finished_run: Path, user: Path, call: Call
) -> None:
    (user / "prices.json").write_text(PRICES)
    for name in ("run", "direct"):
        shutil.copytree(finished_run, user / name)
    with rule_server(batches=BatchFaults(n_faulty=0, n_polls=0)) as server:
        server.batches.is_held = True
        child = start(command_line, (*explain(server, "run"), "--batch"), str(user))
        assert server.batches.was_created.wait(timeout=120)
        child.kill()
        child.join()
        (batch,) = read_status(RunFolder(user / "run")).batches
        assert batch.n_requests == N_UNITS
        assert spent_picousd(user / "run") == 0

        server.batches.is_held = False
        assert call(*explain(server, "run"), "--batch").code == 0
        assert max(server.batches.n_sent.values()) == 1
        assert max(server.log.n_answered.values()) == 1
    with rule_server() as server:
        assert call(*explain(server, "direct")).code == 0
    assert units_of(user / "run") == units_of(user / "direct")
    assert 2 * spent_picousd(user / "run") == spent_picousd(user / "direct") > 0


def test_a_batch_of_nothing_is_a_mistake(finished_run: Path, user: Path, call: Call) -> None:
    shutil.copytree(finished_run, user / "run")
    assert_one_line(call("explain", "--run", "run", "--batch"), 2, "leave --batch out")


def test_who_stops_while_a_batch_is_under_way_is_told_that_it_goes_on() -> None:
    console = Console(record=True, width=200, file=io.StringIO())
    with pytest.raises(KeyboardInterrupt), ProgressDisplay(console) as display:
        display(StageStarted("explain", 10, "neurons"))
        display(BatchAdvanced(BatchNews("batch_a", "completed", 9, 9, 0, is_over=True)))
        display(BatchAdvanced(BatchNews("batch_b", "in_progress", 9, 2, 0)))
        raise KeyboardInterrupt
    said = console.export_text()
    assert "batch_b in_progress: 2 of 9 requests done; it goes on at the provider" in said
    assert "batch_a" not in said
