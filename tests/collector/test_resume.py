"""A collection that was stopped, split among shards or read in groups of layers is the same one."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from neuron_explainer.collector.blocks import BlockPlan
from neuron_explainer.collector.plans import Shard
from neuron_explainer.collector.shards import merge_shards
from neuron_explainer.errors import StoreError
from neuron_explainer.stores import atomic
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.stores.windows import WindowTable
from neuron_explainer.subject.source import SubjectSource
from neuron_explainer.subject.tokens import SubjectTokenizer
from tests.fakes import ScriptedSource
from tests.tiny_models import byte_tokenizer, tiny_subject
from tests.tiny_stores import PLAN, collect_into, files_digest


class Killed(BaseException):
    """What no handler of the program may swallow."""


class DyingSource(ScriptedSource):
    """Dies at the n-th block; the layers of that block that came first are reduced already."""

    def __init__(self, dies_at: int) -> None:
        super().__init__(n_layers=3, n_units=5)
        self._left = dies_at

    def read(self, tokens, layers, receive) -> None:
        self._left -= 1
        super().read(tokens, layers if self._left else layers[:-1], receive)
        if not self._left:
            raise Killed


@pytest.fixture(scope="module")
def tokenizer() -> SubjectTokenizer:
    return SubjectTokenizer(byte_tokenizer())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tokenizer) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("undisturbed")
    collect_into(folder, ScriptedSource(n_layers=3, n_units=5), tokenizer)
    return files_digest(folder)


@pytest.mark.parametrize("n_layers_a_group", [1, 2, 3])
def test_stopping_at_any_block_gives_the_same_files(
    tmp_path: Path, tokenizer, undisturbed, n_layers_a_group: int
) -> None:
    rng = random.Random(n_layers_a_group)
    for _ in range(40):
        try:
            collect_into(
                tmp_path, DyingSource(rng.randint(1, 30)), tokenizer,
                n_layers_a_group=n_layers_a_group, checkpoint_every_s=0,
            )  # fmt: skip
            break
        except Killed:
            assert not (tmp_path / "store.json").exists()
    assert files_digest(tmp_path) == undisturbed


@pytest.mark.parametrize("n_replaced", range(0, 40, 3))
def test_stopping_while_a_file_is_put_in_place_gives_the_same_files(
    tmp_path: Path, tokenizer, undisturbed, monkeypatch, n_replaced: int
) -> None:
    left = n_replaced
    sync = atomic._sync

    def dies(path: Path) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        sync(path)

    monkeypatch.setattr(atomic, "_sync", dies)
    source = ScriptedSource(n_layers=3, n_units=5)
    with pytest.raises(Killed):
        collect_into(tmp_path, source, tokenizer, checkpoint_every_s=0)
    monkeypatch.undo()
    collect_into(tmp_path, source, tokenizer, checkpoint_every_s=0)
    assert files_digest(tmp_path) == undisturbed


def test_what_was_read_is_not_read_again(tmp_path: Path, tokenizer) -> None:
    source = ScriptedSource(n_layers=3, n_units=5)
    for stopped_at in (10, 45):
        heard: list[bool] = []
        folder = tmp_path / str(stopped_at)
        with pytest.raises(Killed):
            collect_into(folder, DyingSource(stopped_at), tokenizer, checkpoint_every_s=0)
        collect_into(
            folder, source, tokenizer,
            on_tokens=lambda _n_tokens, again=False, heard=heard: heard.append(again),
        )  # fmt: skip
        n_fit = len(list(BlockPlan(WindowTable(folder / "windows"), PLAN, Shard()).fit()))
        in_phase = stopped_at - 1 if stopped_at <= n_fit else stopped_at - 1 - n_fit
        assert heard.count(True) == in_phase > 0
        assert all(heard[:in_phase])


def test_less_memory_after_a_stop_reads_the_group_again_in_smaller_ones(
    tmp_path: Path, tokenizer, undisturbed
) -> None:
    with pytest.raises(Killed):
        collect_into(tmp_path, DyingSource(30), tokenizer, checkpoint_every_s=0)
    source = ScriptedSource(n_layers=3, n_units=5)
    collect_into(tmp_path, source, tokenizer, n_layers_a_group=1)
    assert files_digest(tmp_path) == undisturbed


def test_groups_of_layers_give_the_bits_of_one_pass_through_a_model(tmp_path, tokenizer) -> None:
    source = SubjectSource(tiny_subject())
    for n_layers in (1, 2):
        collect_into(tmp_path / str(n_layers), source, tokenizer, n_layers_a_group=n_layers)
    assert files_digest(tmp_path / "1") == files_digest(tmp_path / "2")


def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path: Path, tokenizer) -> None:
    with pytest.raises(Killed):
        collect_into(tmp_path, DyingSource(20), tokenizer, checkpoint_every_s=0)
    cursor = tmp_path / "checkpoint" / "cursor.json"
    for text in ("{", "[]", '{"group": 3}', json.dumps({"finished": [], "group": [], "x": 1})):
        cursor.write_text(text)
        with pytest.raises(StoreError, match=r"cursor.json is damaged; run `collect --fresh`"):
            collect_into(tmp_path, DyingSource(20), tokenizer)


# Shards


def collect_shards(folder: Path, source, tokenizer, n_shards: int) -> list[Path]:
    folders = [folder / f"{number}" for number in range(1, n_shards + 1)]
    for number in random.Random(0).sample(range(1, n_shards + 1), n_shards):
        shard = Shard(number, n_shards)
        collect_into(folders[number - 1], source, tokenizer, shard=shard)
    return folders


def merge(folders: list[Path], target: Path) -> NeuronStore:
    merge_shards(folders, PLAN, target, lambda: None)
    return NeuronStore(target)


@pytest.mark.parametrize("n_shards", [1, 2, 3, 7])
def test_shards_have_the_windows_and_activations_of_the_whole_to_the_bit(
    tmp_path: Path, tokenizer, n_shards: int
) -> None:
    source = SubjectSource(tiny_subject())
    whole = collect_into(tmp_path / "whole", source, tokenizer)
    assert whole is not None
    merged = merge(
        collect_shards(tmp_path / "shards", source, tokenizer, n_shards), tmp_path / "merged"
    )
    assert merged.manifest == whole.manifest
    for neuron_id in whole.neuron_ids():
        one, two = whole.read_neuron(neuron_id), merged.read_neuron(neuron_id)
        assert replace(one, moments=two.moments) == two
        assert one.moments.mean == pytest.approx(two.moments.mean, rel=1e-12)
        assert one.moments.variance == pytest.approx(two.moments.variance, rel=1e-9)
        tables = [store.read_token_lookup(neuron_id) for store in (whole, merged)]
        assert dict(tables[0].count_by_token) == dict(tables[1].count_by_token)
        for token, mean in tables[0].mean_by_token.items():
            assert tables[1].mean_by_token[token] == pytest.approx(mean, rel=1e-6, abs=1e-9)


def test_merging_twice_gives_the_same_bytes(tmp_path: Path, tokenizer) -> None:
    source = ScriptedSource(n_layers=2, n_units=5)
    folders = collect_shards(tmp_path / "shards", source, tokenizer, 5)
    for name in ("one", "two"):
        merge(folders, tmp_path / name)
    assert files_digest(tmp_path / "one") == files_digest(tmp_path / "two")


def test_a_missing_shard_is_named(tmp_path: Path, tokenizer) -> None:
    source = ScriptedSource(n_layers=1, n_units=3)
    folders = collect_shards(tmp_path / "shards", source, tokenizer, 4)
    (folders[1] / "shard.json").unlink()
    with pytest.raises(StoreError, match=r"shard\(s\) 2/4, 4/4 not finished; run `collect --sh"):
        merge(folders[:3], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_shards_of_other_text_are_refused(tmp_path: Path, tokenizer) -> None:
    source = ScriptedSource(n_layers=1, n_units=3)
    folders = [tmp_path / "1", tmp_path / "2"]
    for number, n_documents in ((1, 80), (2, 70)):
        shard = Shard(number, 2)
        collect_into(folders[number - 1], source, tokenizer, n_documents=n_documents, shard=shard)
    with pytest.raises(StoreError, match="shard 2/2 is not of the same collection as 1/2"):
        merge(folders, tmp_path / "merged")


def test_shards_with_other_bits_are_refused(tmp_path: Path, tokenizer) -> None:
    folders = [tmp_path / "1", tmp_path / "2"]
    for number, scale in ((1, 1.0), (2, 1.01)):
        source = ScriptedSource(n_layers=1, n_units=3, scale=scale)
        collect_into(folders[number - 1], source, tokenizer, shard=Shard(number, 2))
    with pytest.raises(StoreError, match="the shards' activations differ on the same windows"):
        merge(folders, tmp_path / "merged")
