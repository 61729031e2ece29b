"""What a second terminal is told of a run is what the run does."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from neuron_explainer.cli_status import print_status
from neuron_explainer.errors import StoreError
from neuron_explainer.pipeline.events import (
    MoneySpent,
    StageAdvanced,
    StageFinished,
    StageStarted,
)
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.progress import Progress, ProgressFile, read_progress
from neuron_explainer.pipeline.status import read_status
from neuron_explainer.pipeline.wording import format_count, format_rate, format_seconds
from neuron_explainer.records.cost import PICOUSD, UnitCost
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.results import Results
from tests.fakes import FakeListener


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "progress.json"


def test_the_rate_leaves_out_what_was_done_before(path: Path) -> None:
    clock, listener = Clock(), FakeListener()
    keep = ProgressFile(path, listener, clock=clock)
    events = [StageStarted("explain", 50, "neurons"), StageAdvanced("explain", 20)]
    for event in events:
        keep(event)
    clock.now += 10
    keep(MoneySpent(UnitCost(1, cost_picousd=PICOUSD // 2)))
    keep(StageAdvanced("explain", 25))
    progress = read_progress(path)
    assert progress == Progress("explain", "neurons", 50, 20, 25, 100.0, 110.0, 0.5)
    assert progress.rate == pytest.approx(0.5)
    assert progress.left_s == pytest.approx(50)
    assert listener.events[:2] == events


def test_the_file_is_written_once_a_second_and_at_the_end(path: Path) -> None:
    clock = Clock()
    keep = ProgressFile(path, FakeListener(), clock=clock)
    keep(StageStarted("collect", 1000, "tokens"))
    seen = set()
    for n in range(1, 31):
        clock.now += 0.1
        keep(StageAdvanced("collect", n))
        seen.add((read_progress(path) or pytest.fail()).n_done)
    assert len(seen) == 3
    keep(StageFinished("collect", "done"))
    assert (read_progress(path) or pytest.fail()).n_done == 30


def test_without_a_run_there_is_nothing_to_tell(tmp_path: Path) -> None:
    assert read_progress(tmp_path / "progress.json") is None
    with pytest.raises(StoreError, match=r"no run in .*; begin one"):
        read_status(RunFolder(tmp_path))


@pytest.mark.parametrize("text", ["", "[]", '{"stage": "x"}', "nonsense"])
def test_a_damaged_file_is_named(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(StoreError, match=f"{path} is damaged"):
        read_progress(path)


def test_a_status_counts_what_is_done_while_the_run_goes_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with folder.locked(), Results(folder.results) as results:
        assert read_status(folder).n_scored == 0
        results.use_method("f", {})
        results.add_unexplained("f", NeuronId(0, 1), "e", "refused: no", cost=UnitCost(2))
        status = read_status(folder)
    assert status.is_running
    assert (status.n_scored, status.unscored, status.cost) == (0, {"refused": 1}, UnitCost(2))
    assert not read_status(folder).is_running


def test_a_run_that_has_not_begun_a_stage_is_starting(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    console = Console(file=io.StringIO(), width=200)
    with folder.locked():
        print_status(console, read_status(folder), "")
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().startswith("running\nstarting: the model and the text")
    with pytest.raises(StoreError, match="no run in"):
        read_status(folder)


def test_times_and_rates_are_in_units_of_their_size() -> None:
    shown = [format_seconds(s) for s in (40, 720, 3.5 * 3600, 2.5 * 86400)]
    assert shown == ["40 s", "12 min", "3.5 h", "2.5 days"]
    assert [format_count(n, "file") for n in (0, 1, 3072)] == ["0 files", "1 file", "3,072 files"]
    assert format_rate(4548.2, "tokens") == "4,548 tokens/s"
    assert format_rate(0.2, "neurons") == "12 neurons/min"
    assert format_rate(1.2, "neurons") == "1 neuron/s"
    assert format_rate(0.001, "neurons") == "3.6 neurons/h"
