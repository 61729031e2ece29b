"""SIGKILL at random instants of real processes, and what they make in the end."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from jobs import kill_runs
from tests.pipeline.test_run import write_corpus


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    write_corpus(corpus, n_documents=900)
    flags = ("--corpus", str(corpus), "--tokens", "16000", "--neurons", "100", "--layers", "0,1")
    flags += ("--checkpoint-s", "0.1")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    took_s = kill_runs.run_command("run", flags, whole)
    assert kill_runs.kill_often("run", flags, killed, took_s, 3, random.Random(0)) == 3
    kill_runs.run_command("run", flags, killed)
    expected = kill_runs.digests(whole)
    assert kill_runs.differences(expected, kill_runs.digests(killed)) == []
    assert {"report.html", "store/store.json", "results: scores"} <= set(expected)


def test_a_difference_is_seen_wherever_it_is() -> None:
    one = {"a": "1", "b": "2", "results: scores": "3"}
    assert kill_runs.differences(one, one) == []
    assert kill_runs.differences(one, {"a": "1", "c": "2", "results: scores": "4"}) == [
        "b", "c", "results: scores",
    ]  # fmt: skip
