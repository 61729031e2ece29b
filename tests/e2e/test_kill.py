"""SIGKILL of real processes in every stage, and what the same run makes in the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs import kill_runs
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.run import run
from neuron_explainer.pipeline.spec import RunSpec
from tests.fakes import FakeListener
from tests.pipeline.test_run import write_corpus
from tests.tiny_models import save_tiny_model

KILLED_RUN = """
import json, os, signal, sys
from pathlib import Path
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.run import run
from neuron_explainer.pipeline.spec import RunSpec

folder, choices, stage, left = sys.argv[1:]
left = int(left)

def listen(event):
    global left
    left -= getattr(event, "stage", None) == stage
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)

run(RunSpec(**json.loads(choices)), RunFolder(Path(folder)), listen)
"""
INSTANTS = [
    ("tokenise", 40), ("collect", 10), ("collect", 40), ("collect", 45), ("contexts", 3),
    ("patterns", 1), ("patterns", 3), ("explain", 20),
]  # fmt: skip


@pytest.mark.slow
def test_a_run_that_is_killed_in_every_stage_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus.jsonl", n_documents=250)
    choices: dict[str, Any] = {
        "model": str(save_tiny_model(tmp_path / "model", n_embd=8)),
        "corpus": str(tmp_path / "corpus.jsonl"),
        "device": "cpu", "n_tokens": 12_000, "n_ctx": 16, "block_size": 16,
        "n_boundary_windows": 60, "n_resamples": 20, "checkpoint_s": 0.0,
    }  # fmt: skip
    spec = RunSpec(**choices)
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    run(spec, whole, FakeListener())
    for stage, n_events in INSTANTS:
        child = subprocess.run(
            [sys.executable, "-c", KILLED_RUN, str(killed.path), json.dumps(choices), stage,
             str(n_events)],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300, check=False,
        )  # fmt: skip
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
