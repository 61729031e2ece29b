"""The collect stage: the same store in one process or several, with much memory or little."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from neuron_explainer.collector import memory as memory_module
from neuron_explainer.collector.plans import Shard
from neuron_explainer.errors import SpecMismatch, StoreError, UsageError
from neuron_explainer.pipeline import collect as collect_module
from neuron_explainer.pipeline.events import (
    Event,
    Listener,
    MemoryPlanned,
    Noted,
    StageAdvanced,
    StageFinished,
)
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.run import run_collect, run_explain, run_merge
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.stores.neuron_store import NeuronStore
from tests.e2e.command_lines import write_lines
from tests.fakes import WORDS, FakeListener
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
        alone = memory_module.plan_memory(replace(shape, n_units=shape.n_units[:1]), plan, **sizes)
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
    assert re.match(r"\d\.\d\d of [\d.]+ GB at the peak \(program and model", sentence)
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


def test_shards_of_another_number_are_refused(spec: RunSpec, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    run_collect(replace(spec, shard="1/2"), folder, FakeListener())
    with pytest.raises(UsageError, match="in 2 parts, and this one is of 3"):
        run_collect(replace(spec, shard="2/3"), folder, FakeListener())
    assert [shard.path.name for shard in folder.shards()] == ["1-of-2"]


@pytest.mark.parametrize(("seed", "is_told"), [(2, True), (0, False)])
def test_little_text_to_fit_on_is_told(
    spec: RunSpec, tmp_path: Path, seed: int, is_told: bool
) -> None:
    """Of two long documents and a short one, the short one alone is fitted on, or a long one."""
    rng = random.Random(seed)
    texts = (" ".join(rng.choices(WORDS, k=length)) for length in (400, 400, 20))
    write_lines(tmp_path / "texts.jsonl", *({"text": text} for text in texts))
    few = replace(spec, corpus=str(tmp_path / "texts.jsonl"), max_overlap=1.0)
    listener = FakeListener()
    run_collect(few, RunFolder(tmp_path / "run"), listener)
    manifest = NeuronStore(tmp_path / "run" / "store").manifest
    share = 1 - manifest.n_record_tokens / manifest.n_tokens
    told = [event.text for event in listener.heard(Noted) if event.subject == "fit"]
    assert len(told) == is_told == (share < few.fit_share / 4)
    assert all(f"({share:.1%})" in text for text in told)


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


# Chosen units

CHOSEN = "2:5,0:3,2:31,2:6"


def assert_same_units(few: NeuronStore, whole: NeuronStore) -> None:
    for neuron_id in few.neuron_ids():
        assert few.read_neuron(neuron_id) == whole.read_neuron(neuron_id)
        tables = [store.read_token_lookup(neuron_id) for store in (few, whole)]
        assert dict(tables[0].mean_by_token) == dict(tables[1].mean_by_token)


def test_chosen_units_have_the_records_of_the_whole_collection(
    spec: RunSpec, whole: RunFolder, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    listener = FakeListener()
    run_collect(replace(spec, units=CHOSEN), folder, listener)
    store = NeuronStore(folder.store)
    assert sorted(map(str, store.neuron_ids())) == ["0:3", "2:31", "2:5", "2:6"]
    assert_same_units(store, NeuronStore(whole.store))
    (finished,) = (e for e in listener.heard(StageFinished) if e.stage == "collect")
    assert finished.summary.startswith("4 neurons of 2 layers at ")


def test_units_in_another_order_or_in_a_file_are_the_same_run(
    spec: RunSpec, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    run_collect(replace(spec, units=CHOSEN), folder, FakeListener())
    before = files_digest(folder.store)
    (tmp_path / "units.csv").write_text("layer,neuron\n2,6\n2,31\n0,3\n2,5\n2,5\n")
    for units, layers in ((str(tmp_path / "units.csv"), None), (CHOSEN, "0-2")):
        run_collect(replace(spec, units=units, layers=layers), folder, FakeListener())
    assert files_digest(folder.store) == before


def test_other_units_are_refused_with_the_difference_and_no_long_list(
    spec: RunSpec, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    listed = [f"{layer}:{unit}" for layer in range(3) for unit in range(10)]
    run_collect(replace(spec, units=",".join(listed)), folder, FakeListener())
    changed = ",".join([*listed[:20], *listed[21:], "2:31"])
    with pytest.raises(SpecMismatch, match=r"\(units: new \['2:31'\], gone \['2:0'\]\); use"):
        run_collect(replace(spec, units=changed), folder, FakeListener())
    with pytest.raises(SpecMismatch, match=r"units was 30: 0:0, 0:1, 0:2, 0:3, 0:4, …, now None"):
        run_collect(spec, folder, FakeListener())


def test_shards_of_chosen_units_merge_to_the_units_of_the_whole(
    spec: RunSpec, whole: RunFolder, tmp_path: Path
) -> None:
    folder, few = RunFolder(tmp_path / "run"), replace(spec, units=CHOSEN)
    collect_shards(few, folder, 3)
    run_merge(folder, FakeListener())
    merged, everyone = NeuronStore(folder.store), NeuronStore(whole.store)
    assert len(merged.units) == 4
    for neuron_id in merged.neuron_ids():
        one, two = merged.read_neuron(neuron_id), everyone.read_neuron(neuron_id)
        assert (one.top, one.strata, one.random) == (two.top, two.strata, two.random)
    before = files_digest(folder.store)
    run_collect(few, folder, FakeListener())
    assert files_digest(folder.store) == before


def stop_at(n_done: int) -> Listener:
    """Ctrl-C when so much is collected, what need not be read again included."""

    def listen(event: Event) -> None:
        is_collected = isinstance(event, StageAdvanced) and event.stage == "collect"
        if is_collected and event.n_done >= n_done:
            raise KeyboardInterrupt

    return listen


def test_a_collection_of_chosen_units_that_was_stopped_goes_on(
    spec: RunSpec, tmp_path: Path
) -> None:
    few = replace(spec, units=CHOSEN, checkpoint_s=0.0)
    undisturbed, folder = RunFolder(tmp_path / "undisturbed"), RunFolder(tmp_path / "run")
    listener = FakeListener()
    run_collect(few, undisturbed, listener)
    done = [event.n_done for event in listener.heard(StageAdvanced) if event.stage == "collect"]
    assert done == sorted({*done})
    # What goes on counts from the record documents on, which are more than half of the text.
    for n_done in (done[-9], done[-1] * 9 // 20):
        with pytest.raises(KeyboardInterrupt):
            run_collect(few, folder, stop_at(n_done))
        assert (folder.store / "checkpoint/cursor.json").exists()
    run_collect(few, folder, FakeListener())
    assert files_digest(folder.store) == files_digest(undisturbed.store)
