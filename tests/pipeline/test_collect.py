"""The collect stage: the same store in one process or several, with much memory or little."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from neuron_explainer.collector import memory as memory_module
from neuron_explainer.collector.plans import Shard
from neuron_explainer.errors import SpecMismatch, StoreError, UsageError
from neuron_explainer.pipeline import collect as collect_module
from neuron_explainer.pipeline.events import MemoryPlanned, StageAdvanced
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.run import run_collect, run_explain, run_merge
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.stores.neuron_store import NeuronStore
from tests.fakes import FakeListener
from tests.pipeline.test_run import everything, write_corpus
from tests.tiny_models import save_tiny_model
from tests.tiny_stores import files_digest


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> RunSpec:
    base = tmp_path_factory.mktemp("inputs")
    write_corpus(base / "corpus.jsonl", n_documents=250)
    return RunSpec(
        model=str(save_tiny_model(base / "model", n_layer=3, n_embd=8)),
        corpus=str(base / "corpus.jsonl"),
        device="cpu", n_tokens=12_000, n_ctx=16, n_boundary_windows=60, n_resamples=20,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(spec: RunSpec, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("whole") / "run")
    run_collect(spec, folder, FakeListener())
    return folder


def collect_shards(spec: RunSpec, folder: RunFolder, n_shards: int) -> None:
    for number in range(n_shards, 0, -1):
        run_collect(replace(spec, shard=f"{number}/{n_shards}"), folder, FakeListener())


def test_little_memory_gives_the_same_store_in_more_passes(
    spec: RunSpec, whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[memory_module.MemoryPlan] = []

    def one_layer_fits(shape, plan, **sizes):
        alone = memory_module.plan_memory(replace(shape, n_layers=1), plan, **sizes)
        budget = {**sizes, "budget_bytes": (1 + memory_module.MARGIN) * alone.peak_bytes}
        plans.append(memory_module.plan_memory(shape, plan, **budget))
        return plans[-1]

    monkeypatch.setattr(collect_module, "plan_memory", one_layer_fits)
    folder = RunFolder(tmp_path / "run")
    run_collect(spec, folder, FakeListener())
    assert plans[-1].n_groups == 3
    assert files_digest(folder.store) == files_digest(whole.store)


def test_the_memory_plan_is_told_before_anything_is_read(spec: RunSpec, tmp_path: Path) -> None:
    listener = FakeListener()
    run_collect(spec, RunFolder(tmp_path / "run"), listener)
    (planned,) = listener.heard(MemoryPlanned)
    sentence = planned.plan.sentence()
    assert re.match(r"0\.\d\d of [\d.]+ GB at the peak \(program and model", sentence)
    reading = [e for e in listener.events if isinstance(e, StageAdvanced) and e.stage == "collect"]
    assert listener.events.index(planned) < listener.events.index(reading[0])


def test_too_little_memory_is_refused_and_more_goes_on_from_there(
    spec: RunSpec, whole: RunFolder, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(UsageError, match="one layer at a time needs"):
        run_collect(replace(spec, memory_gb=0.01), folder, FakeListener())
    run_collect(spec, folder, FakeListener())
    assert files_digest(folder.store) == files_digest(whole.store)


def test_merged_shards_explain_as_the_whole_does(
    spec: RunSpec, whole: RunFolder, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    collect_shards(spec, folder, 3)
    run_merge(folder, FakeListener())
    assert NeuronStore(folder.store).manifest == NeuronStore(whole.store).manifest
    for each in (folder, whole):
        run_explain(replace(spec, neurons="40"), each, FakeListener())
    one, two = everything(folder), everything(whole)
    assert [unit.text for unit, _ in one] == [unit.text for unit, _ in two]
    for (unit, _), (other, _) in zip(one, two, strict=True):
        assert (unit.score is None) == (other.score is None)
        if unit.score is not None and other.score is not None:
            assert unit.score.value == pytest.approx(other.score.value, abs=1e-5)


def test_a_merged_folder_goes_on_as_the_run_of_its_choices(spec: RunSpec, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    collect_shards(spec, folder, 2)
    run_merge(folder, FakeListener())
    before = files_digest(folder.store)
    run_merge(folder, FakeListener())
    run_collect(spec, folder, FakeListener())
    assert files_digest(folder.store) == before
    with pytest.raises(SpecMismatch, match="seed was 0, now 1"):
        run_collect(replace(spec, seed=1), folder, FakeListener())


def test_a_shard_is_read_once_and_refuses_other_choices(spec: RunSpec, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    one = replace(spec, shard="1/2")
    run_collect(one, folder, FakeListener())
    listener = FakeListener()
    run_collect(one, folder, listener)
    assert not listener.heard(StageAdvanced)
    with pytest.raises(SpecMismatch, match="top-k was 20, now 24"):
        run_collect(replace(one, top_k=24), folder, FakeListener())


def test_shards_are_missing_until_the_last_one(spec: RunSpec, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(StoreError, match=r"no shards in .*; run `collect --shard 1/N`"):
        run_merge(folder, FakeListener())
    run_collect(replace(spec, shard="2/2"), folder, FakeListener())
    with pytest.raises(StoreError, match=r"shard\(s\) 1/2 not finished"):
        run_merge(folder, FakeListener())


def test_two_shards_do_not_lock_each_other(spec: RunSpec, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.shard(Shard(1, 2)).locked():
        run_collect(replace(spec, shard="2/2"), folder, FakeListener())
        with pytest.raises(StoreError, match="another process is writing"):
            run_collect(replace(spec, shard="1/2"), folder, FakeListener())


def test_a_collection_that_was_begun_refuses_other_choices(spec: RunSpec, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        run_collect(spec, folder, FakeListener(fail_at=(MemoryPlanned, 1)))
    with pytest.raises(SpecMismatch, match=r"holds another run \(n-ctx was 16, now 8\); use --run"):
        run_collect(replace(spec, n_ctx=8), folder, FakeListener())
    run_collect(spec, folder, FakeListener())
