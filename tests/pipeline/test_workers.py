"""Work that is spread over processes comes to the same results, and loses nothing in silence."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from neuron_explainer.errors import StoreError, WorkerLost
from neuron_explainer.pipeline import workers as workers_module
from neuron_explainer.pipeline.events import ignore
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.records import open_records
from neuron_explainer.pipeline.run import run_collect, run_explain
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.pipeline.spread import spread_over
from neuron_explainer.pipeline.workers import Workers, count_workers
from neuron_explainer.stores.results import Results
from tests.pipeline.test_patterns import rows
from tests.pipeline.test_run import everything, make_spec


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> RunSpec:
    base = tmp_path_factory.mktemp("inputs")
    return make_spec(base, n_resamples=5, pattern_tokens=300, n_contexts=60)


@pytest.fixture(scope="module")
def collected(spec: RunSpec, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("collected") / "run")
    run_collect(spec, folder, ignore)
    return folder


def drain(workers: Workers, function: Callable[[Any], Any], parts: Iterable[Any]) -> list[Any]:
    async def all_results() -> list[Any]:
        return [result async for result in workers.map(function, parts)]

    return asyncio.run(all_results())


def as_many(monkeypatch: pytest.MonkeyPatch, *, threads: int, cores: int, left: float) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(workers_module, "available_cores", lambda: cores)
    monkeypatch.setattr(workers_module, "memory_budget_bytes", lambda *_: left)
    monkeypatch.setattr(workers_module, "used_memory_bytes", lambda _: 0.0)


@pytest.mark.slow
def test_two_workers_come_to_the_results_of_one_process(
    spec: RunSpec, collected: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, together = (
        RunFolder(shutil.copytree(collected.path, tmp_path / name)) for name in ("a", "b")
    )
    run_explain(spec, alone, ignore)
    as_many(monkeypatch, threads=2, cores=2, left=8e9)
    monkeypatch.setattr(workers_module, "UNITS_A_WORKER", 32)
    started: list[int] = []
    begin = Workers.map

    def spy(self: Workers, *arguments: Any) -> Any:
        started.append(self.n)
        return begin(self, *arguments)

    monkeypatch.setattr(Workers, "map", spy)
    run_explain(spec, together, ignore)
    assert started == [2, 2, 2]  # the baseline, patterns, and their scores
    assert everything(together) == everything(alone)
    assert rows(together) == rows(alone)
    with Results(alone.results) as one, Results(together.results) as other:
        assert one.method_uses()[-1].choices == other.method_uses()[-1].choices


def test_one_worker_is_none(spec: RunSpec, collected: RunFolder) -> None:
    assert spread_over(Workers(1), spec, collected) is None


def test_an_error_in_a_worker_is_told_as_it_is_here() -> None:
    with Workers(2) as workers:
        with pytest.raises(StoreError, match="no collection"):
            drain(workers, open_records, [RunFolder(Path("/nowhere"))])
        with pytest.raises(WorkerLost, match=r"OMP_NUM_THREADS=1 goes on in one process"):
            drain(workers, os._exit, [3])


def test_there_are_as_many_workers_as_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    as_many(monkeypatch, threads=8, cores=6, left=20e9)
    assert count_workers(100_000, None) == 6
    assert count_workers(256 * 3 + 1, None) == 3
    assert count_workers(255, None) == 0
    as_many(monkeypatch, threads=1, cores=6, left=20e9)
    assert count_workers(100_000, None) == 1
    as_many(monkeypatch, threads=8, cores=6, left=2.5e9)
    assert count_workers(100_000, None) == 2
    assert Workers(2).have_room(1e9, None)
    assert not Workers(2).have_room(1.3e9, None)
    assert not Workers(1).have_room(0, None)
