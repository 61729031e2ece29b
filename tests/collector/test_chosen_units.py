"""Units that are collected alone are those of the whole collection, to the bit."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from neuron_explainer.collector.moments import PowerSums
from neuron_explainer.collector.plans import Shard
from neuron_explainer.collector.shards import merge_shards
from neuron_explainer.collector.sums import sum_rows
from neuron_explainer.errors import UnitNotFound
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.units import Units
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.subject.source import ActivationSource, SubjectSource
from neuron_explainer.subject.tokens import SubjectTokenizer
from tests.collector.test_resume import Killed
from tests.fakes import ScriptedSource
from tests.tiny_models import byte_tokenizer, tiny_subject
from tests.tiny_stores import PLAN, collect_into, files_digest

N_LAYERS, N_UNITS = 3, 64


def units(*names: str) -> Units:
    return Units.choose(map(NeuronId.parse, names), N_UNITS)


RAGGED = units("2:63", "0:3", "2:0", "2:17", "2:18", "0:3")
"""Four units of layer 2, none of layer 1, one of layer 0."""


@pytest.fixture(scope="module")
def tokenizer() -> SubjectTokenizer:
    return SubjectTokenizer(byte_tokenizer())


@pytest.fixture(scope="module", params=["plain", "left out"])
def source(request: pytest.FixtureRequest) -> SubjectSource:
    subject = tiny_subject(n_layer=N_LAYERS)
    assert subject.d_mlp == N_UNITS
    if request.param == "plain":
        return SubjectSource(subject)
    return SubjectSource(subject, skip_first=1, max_norm_ratio=1.3)


def collect(folder: Path, source: ActivationSource, tokenizer, **how) -> NeuronStore:
    found = collect_into(folder, source, tokenizer, min_tokens=2, **how)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def whole(source, tokenizer, tmp_path_factory) -> NeuronStore:
    return collect(tmp_path_factory.mktemp("whole"), source, tokenizer)


def assert_same(few: NeuronStore, whole: NeuronStore) -> None:
    for neuron_id in few.neuron_ids():
        assert few.read_neuron(neuron_id) == whole.read_neuron(neuron_id)
        one, two = (store.read_token_lookup(neuron_id) for store in (few, whole))
        assert dict(one.mean_by_token) == dict(two.mean_by_token)
        assert dict(one.count_by_token) == dict(two.count_by_token)
        assert one.default == two.default


@pytest.mark.parametrize("seed", range(4))
def test_any_units_have_the_record_and_the_means_of_the_whole(
    tmp_path: Path, source, tokenizer, whole: NeuronStore, seed: int
) -> None:
    everyone = list(whole.neuron_ids())
    drawn = random.Random(seed).sample(everyone, [1, 2, 17, 150][seed])
    few = collect(tmp_path, source, tokenizer, units=Units.choose(drawn, N_UNITS))
    assert list(few.neuron_ids()) == sorted(drawn)
    assert few.manifest.coverage == whole.manifest.coverage
    assert_same(few, whole)


@pytest.mark.parametrize("n_layers_a_group", [1, 2])
def test_ragged_layers_in_any_groups_give_the_same_files(
    tmp_path: Path, source, tokenizer, whole: NeuronStore, n_layers_a_group: int
) -> None:
    few = collect(
        tmp_path / "few", source, tokenizer, units=RAGGED, n_layers_a_group=n_layers_a_group
    )
    collect(tmp_path / "again", source, tokenizer, units=RAGGED)
    assert files_digest(tmp_path / "few") == files_digest(tmp_path / "again")
    assert_same(few, whole)
    assert not (tmp_path / "few/layer_001").exists()


def test_the_files_grow_with_the_units(tmp_path: Path, source, tokenizer, whole) -> None:
    few = collect(tmp_path, source, tokenizer, units=units("1:5", "1:6"))
    for name in ("means", "records"):
        sizes = [
            (store.folder / f"layer_001/{name}.safetensors").stat().st_size
            for store in (few, whole)
        ]
        assert sizes[0] < sizes[1] / 8  # of 64 units; each file has a header


class Counting(ScriptedSource):
    """Remembers which layers were read; dies at the n-th block."""

    def __init__(self, dies_at: int = 0) -> None:
        super().__init__(n_layers=N_LAYERS, n_units=N_UNITS)
        self.layers_read: set[int] = set()
        self._left = dies_at

    def read(self, tokens, layers, receive) -> None:
        self.layers_read.update(layers)
        self._left -= 1
        super().read(tokens, layers, receive)
        if self._left == 0:
            raise Killed


def test_layers_without_a_unit_are_not_read(tmp_path: Path, tokenizer) -> None:
    source = Counting()
    collect(tmp_path, source, tokenizer, units=RAGGED)
    assert source.layers_read == {0, 2}


def test_a_stopped_collection_goes_on_to_the_same_files(tmp_path: Path, tokenizer) -> None:
    collect(tmp_path / "whole", Counting(), tokenizer, units=RAGGED)
    for dies_at in (3, 20, 7):
        with pytest.raises(Killed):
            collect(
                tmp_path / "killed", Counting(dies_at), tokenizer, units=RAGGED,
                checkpoint_every_s=0,
            )  # fmt: skip
    collect(tmp_path / "killed", Counting(), tokenizer, units=RAGGED)
    assert files_digest(tmp_path / "killed") == files_digest(tmp_path / "whole")


def test_shards_of_chosen_units_make_the_whole(
    tmp_path: Path, source, tokenizer, whole: NeuronStore
) -> None:
    folders = [tmp_path / f"{number}" for number in (1, 2, 3)]
    for number, folder in enumerate(folders, start=1):
        collect_into(folder, source, tokenizer, min_tokens=2, units=RAGGED, shard=Shard(number, 3))
    merge_shards(folders, PLAN, tmp_path / "merged", lambda: None)
    merged = NeuronStore(tmp_path / "merged")
    assert list(merged.neuron_ids()) == list(RAGGED)
    for neuron_id in RAGGED:
        one, two = merged.read_neuron(neuron_id), whole.read_neuron(neuron_id)
        assert (one.top, one.strata, one.random) == (two.top, two.strata, two.random)
        assert one.moments.mean == pytest.approx(two.moments.mean, rel=1e-12)


def test_a_unit_that_was_not_collected_is_refused_with_what_there_is(
    tmp_path: Path, tokenizer
) -> None:
    store = collect(tmp_path, Counting(), tokenizer, units=RAGGED)
    for missing in (NeuronId(2, 1), NeuronId(1, 0), NeuronId(9, 3)):
        for read in (store.read_neuron, store.read_token_lookup):
            with pytest.raises(
                UnitNotFound,
                match=f"neuron {missing} was not collected; the collection holds "
                "5 chosen neurons of 2 layers",
            ):
                read(missing)
    with pytest.raises(UnitNotFound, match=r"no neuron 0:64: a layer has neurons 0\.\.63"):
        store.read_neuron(NeuronId(0, 64))


@pytest.mark.parametrize("n_rows", [0, 1, 63, 64, 65, 1000])
def test_a_sum_does_not_depend_on_the_columns_beside_it(n_rows: int) -> None:
    generator = torch.Generator().manual_seed(n_rows)
    rows = torch.randn(n_rows, 133, generator=generator).exp()
    everyone = sum_rows(rows)
    torch.testing.assert_close(everyone, rows.double().sum(0), rtol=1e-5, atol=0)
    for columns in ([0], [132], [5, 77], list(range(1, 130))):
        assert torch.equal(sum_rows(rows[:, columns].contiguous()), everyone[columns])


def test_moments_do_not_depend_on_the_tile_a_layer_is_read_in() -> None:
    """A layer's width decides how many rows a tile has."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(700, 9000, generator=generator)
    whole = PowerSums(wide.mean(0))
    whole.add(wide)
    few = PowerSums(wide.mean(0)[:3].clone())
    few.add(wide[:, :3].contiguous())
    for one, two in zip(few.moments(), whole.moments(), strict=True):
        assert torch.equal(one, two[:3])
