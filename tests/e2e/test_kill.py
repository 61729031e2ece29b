"""SIGKILL of real processes in every stage, and what the same run makes in the end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from jobs import kill_runs
from neuron_explainer.pipeline.events import Event
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.run import run
from neuron_explainer.pipeline.spec import RunSpec
from tests.e2e.processes import run_to_its_end
from tests.fakes import FakeListener
from tests.pipeline.test_run import write_corpus
from tests.tiny_models import save_tiny_model

INSTANTS = [
    ("tokenise", 40), ("collect", 10), ("collect", 40), ("collect", 45), ("contexts", 3),
    ("patterns", 1), ("patterns", 3), ("explain", 20),
]  # fmt: skip


def run_until(folder: str, spec: RunSpec, stage: str, n_events: int) -> None:
    """In a process of its own, which the next event of the stage kills."""
    left = n_events

    def listen(event: Event) -> None:
        nonlocal left
        left -= getattr(event, "stage", None) == stage
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    run(spec, RunFolder(Path(folder)), listen)


@pytest.mark.slow
def test_a_run_that_is_killed_in_every_stage_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus.jsonl", n_documents=250)
    spec = RunSpec(
        model=str(save_tiny_model(tmp_path / "model", n_embd=8)),
        corpus=str(tmp_path / "corpus.jsonl"), device="cpu", n_tokens=12_000, n_ctx=16,
        block_size=16, n_boundary_windows=60, n_resamples=20, checkpoint_s=0.0,
    )  # fmt: skip
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    run(spec, whole, FakeListener())
    for stage, n_events in INSTANTS:
        child = run_to_its_end(run_until, str(killed.path), spec, stage, n_events)
        assert child.returncode == -signal.SIGKILL
    run(spec, killed, FakeListener())
    expected = kill_runs.digests(whole.path)
    assert kill_runs.differences(expected, kill_runs.digests(killed.path)) == []
    assert {"report.html", "store/store.json", "results: scores", "patterns: unit_patterns"} <= set(
        expected
    )


def test_a_difference_is_seen_wherever_it_is() -> None:
    one = {"a": "1", "b": "2", "results: scores": "3"}
    assert kill_runs.differences(one, one) == []
    assert kill_runs.differences(one, {"a": "1", "c": "2", "results: scores": "4"}) == [
        "b", "c", "results: scores",
    ]  # fmt: skip
