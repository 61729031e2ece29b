"""A store gives back what was recorded, one unit without the rest, and names what is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from neuron_explainer.errors import StoreError, UnitNotFound
from neuron_explainer.records.neuron import ActivationRecord, Moments, NeuronId, Stratum
from neuron_explainer.stores import neuron_store
from neuron_explainer.stores.neuron_store import LayerRecords, NeuronStore, StoreWriter
from neuron_explainer.stores.store_manifest import StoreManifest, holds_store, read_manifest
from neuron_explainer.stores.windows import WindowCounts, WindowWriter
from neuron_explainer.subject.tokens import SubjectTokenizer
from tests.fakes import ScriptedSource
from tests.tiny_models import byte_tokenizer
from tests.tiny_stores import collect_into

VOCABULARY = ("a", "b", " c", "\n", "“")
MANIFEST = StoreManifest(
    fingerprint="f", subject="none", site="mlp_post_act", layers=(3,), n_units=2, n_ctx=3,
    corpus="Größe", corpus_hash="c", n_documents=2, n_duplicates=0, n_near_duplicates=2,
    n_windows=4, n_tokens=10, n_record_tokens=10, coverage=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "store"
    collect_into(folder, ScriptedSource(2, 5), SubjectTokenizer(byte_tokenizer()), n_documents=40)
    return folder


@pytest.fixture
def store(collected: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return shutil.copytree(collected, tmp_path / "run" / "store")


def write_by_hand(folder: Path) -> None:
    """Layer 3, two units, windows 0..3 of lengths 3, 3, 3 and 1."""
    writer = StoreWriter(folder)
    windows = WindowWriter(writer.windows_folder)
    windows.add_document("d0", [0, 1, 2, 3, 4, 0], [(0, 3), (3, 3)], is_fit=False)
    windows.add_document("d1", [1, 1, 1, 2], [(0, 3), (3, 1)], is_fit=False)
    windows.finish(WindowCounts(n_documents=2, n_windows=4, n_tokens=10))
    rows = np.arange(1, 25, dtype=np.float16).reshape(2, 4, 3)  # (unit, window, seq)
    records = LayerRecords(
        top_ids=np.array([[1, 3], [0, -1]]),
        top_rows=np.stack([rows[0, [1, 3]], rows[1, [0, 3]] * [[1], [0]]]),
        band_boundaries=np.array([[0.5], [0.25]], np.float32),
        band_population=np.array([[7, 1], [0, 9]]),
        band_ids=np.array([[[-1, -1], [2, -1]], [[-1, -1], [1, 3]]]),
        band_rows=np.stack([rows[0, [[0, 0], [2, 2]]], rows[1, [[0, 0], [1, 3]]]]),
        random_ids=np.array([0, 2, 3]),
        random_rows=rows[:, [0, 2, 3]],
        moments=np.array([[0.5, 4.0, -8.0, 48.0], [0.25, 0.0, 0.0, 0.0]]),
        n_counted=np.array([10]),
        n_positive=np.array([4, 0]),
    )  # fmt: skip
    writer.write_records(3, records)
    writer.write_coverage(np.array([4, 1]))
    means = np.array([[1.5, -0.5, 0.1], [0.0, 2.0, 0.25]], np.float32)
    writer.write_token_means(3, means, np.array([20, 6, 8]))
    writer.write_vocabulary(VOCABULARY)
    writer.finish(MANIFEST)


def test_a_unit_reads_back_as_it_was_written(tmp_path: Path) -> None:
    write_by_hand(tmp_path / "store")
    store = NeuronStore(tmp_path / "store")
    first, second = (store.read_neuron(NeuronId(3, unit)) for unit in (0, 1))
    assert first.neuron_id == NeuronId(3, 0)
    assert first.top == (
        ActivationRecord(("\n", "“", "a"), (4.0, 5.0, 6.0)),
        ActivationRecord((" c",), (10.0,)),
    )
    assert first.strata == (
        Stratum(None, 0.5, 7, ()),
        Stratum(0.5, None, 1, (ActivationRecord(("b", "b", "b"), (7.0, 8.0, 9.0)),)),
    )
    assert first.random == (ActivationRecord(("a", "b", " c"), (1.0, 2.0, 3.0)),)
    assert first.moments == Moments(10, 0.5, 4.0, -1.0, 3.0)
    assert [record.activations for record in second.top] == [(13.0, 14.0, 15.0)]
    assert [record.activations for record in second.random] == [(19.0, 20.0, 21.0)]
    assert second.moments == Moments(10, 0.25, 0.0, None, None)
    assert (first.density, second.density) == (0.4, 0.0)
    assert [store.read_density(unit) for unit in store.neuron_ids()] == [0.4, 0.0]


def test_a_store_of_before_density_was_counted_reads_without_it(tmp_path: Path) -> None:
    write_by_hand(tmp_path / "store")
    path = tmp_path / "store/layer_003/records.safetensors"
    tensors = load_file(path)
    del tensors["n_positive"]
    save_file(tensors, path)
    store = NeuronStore(tmp_path / "store")
    assert store.read_neuron(NeuronId(3, 0)).density is None
    assert store.read_density(NeuronId(3, 1)) is None


def test_a_table_has_rows_for_the_frequent_tokens_and_one_for_the_rest(tmp_path: Path) -> None:
    write_by_hand(tmp_path / "store")
    table = NeuronStore(tmp_path / "store").read_token_lookup(NeuronId(3, 1))
    assert dict(table.mean_by_token) == {"“": 0.0, "b": 2.0}
    assert dict(table.count_by_token) == {"“": 20, "b": 6}
    assert [table.expected_activation(token) for token in VOCABULARY] == [0.25, 2.0, 0.25, 0.25, 0]


def test_the_means_of_many_units_are_those_of_their_tables(collected: Path) -> None:
    store = NeuronStore(collected)
    units = [4, 0, 4]
    means = store.read_token_means(1, units)
    tables = [store.read_token_lookup(NeuronId(1, unit)) for unit in units]
    assert means.tolist() == [
        [table.expected_activation(token) for token in store.vocabulary] for table in tables
    ]
    assert store.read_token_means(1, []).shape == (0, len(store.vocabulary))
    with pytest.raises(UnitNotFound, match="no neuron 1:5"):
        store.read_token_means(1, [0, 5])


@pytest.mark.parametrize("n_at_once", [1, 2, 5, 99])
def test_maxima_are_the_same_however_many_units_are_read_at_once(
    collected: Path, monkeypatch: pytest.MonkeyPatch, n_at_once: int
) -> None:
    monkeypatch.setattr(neuron_store, "UNITS_AT_ONCE", n_at_once)
    store = NeuronStore(collected)
    expected = [store.read_neuron(NeuronId(1, unit)).max_activation for unit in range(5)]
    assert store.read_maxima(1).tolist() == [max(0.0, value) for value in expected]


def test_means_that_do_not_fit_the_tokens_are_damage(store: Path) -> None:
    path = store / "token_means.safetensors"
    save_file({"ids": load_file(path)["ids"][:-1].copy()}, path)
    with pytest.raises(StoreError, match="what it holds of neuron 0:0 is damaged"):
        NeuronStore(store).read_token_means(0, [0])


def test_the_manifest_reads_back_as_it_was_written(tmp_path: Path) -> None:
    write_by_hand(tmp_path / "store")
    assert read_manifest(tmp_path / "store") == MANIFEST


def test_every_unit_is_listed_once_layer_by_layer(collected: Path) -> None:
    ids = list(NeuronStore(collected).neuron_ids())
    assert ids == [NeuronId(layer, unit) for layer in (0, 1) for unit in range(5)]


def test_a_layer_that_was_not_collected_is_named_with_those_that_were(collected: Path) -> None:
    store = NeuronStore(collected)
    for read in (store.read_neuron, store.read_token_lookup):
        with pytest.raises(UnitNotFound, match=r"layer 2 was not collected; .* has layers 0, 1 "):
            read(NeuronId(2, 0))


def test_a_unit_beyond_the_layer_is_named_with_the_last_one(collected: Path) -> None:
    with pytest.raises(UnitNotFound, match=r"no neuron 1:5: a layer has neurons 0\.\.4"):
        NeuronStore(collected).read_neuron(NeuronId(1, 5))


def test_a_unit_is_read_without_the_other_layers(store: Path, collected: Path) -> None:
    expected = NeuronStore(collected)
    shutil.rmtree(store / "layer_000")
    neuron_id = NeuronId(1, 4)
    assert NeuronStore(store).read_neuron(neuron_id) == expected.read_neuron(neuron_id)
    assert dict(NeuronStore(store).read_token_lookup(neuron_id).mean_by_token) == dict(
        expected.read_token_lookup(neuron_id).mean_by_token
    )


def test_a_folder_without_a_manifest_is_no_store(store: Path) -> None:
    assert holds_store(store)
    (store / "store.json").unlink()
    assert not holds_store(store)
    with pytest.raises(StoreError, match=f"no collection in {store.parent}; run `collect` first"):
        NeuronStore(store)


def test_a_store_that_is_being_rewritten_is_none_until_it_is_whole(store: Path) -> None:
    writer = StoreWriter(store)
    assert not holds_store(store)
    writer.finish(MANIFEST)
    assert holds_store(store)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"layers": [0]}'])
def test_a_damaged_manifest_is_named(store: Path, text: str) -> None:
    (store / "store.json").write_text(text)
    with pytest.raises(StoreError, match=r"store\.json is missing or damaged"):
        NeuronStore(store)


def test_a_store_of_another_format_is_refused_with_both_versions(store: Path) -> None:
    path = store / "store.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))
    with pytest.raises(
        StoreError, match=r"has format 99, this program reads 2; run `collect --fresh`"
    ):
        NeuronStore(store)


@pytest.mark.parametrize("damage", ["missing", "cut", "garbage"])
@pytest.mark.parametrize(
    "name",
    [
        "vocabulary.json",
        "token_means.safetensors",
        "layer_001/means.safetensors",
        "layer_001/records.safetensors",
        "windows/tokens.bin",
    ],
)
def test_a_damaged_file_is_named_when_it_is_needed(store: Path, name: str, damage: str) -> None:
    path = store / name
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.write_bytes(b"\xff\x00 garbage")
    with pytest.raises(StoreError, match=f"{path} is missing or damaged; run `collect --fresh`"):
        read_everything(NeuronStore(store))


@pytest.mark.parametrize(
    ("field", "value"),
    [("layers", 3), ("layers", "x"), ("layers", [None]), ("n_units", "x"), ("coverage", None)],
)
def test_a_manifest_of_other_types_is_damaged(store: Path, field: str, value: object) -> None:
    path = store / "store.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(StoreError, match=r"store\.json is missing or damaged"):
        NeuronStore(store)


@pytest.mark.parametrize("token", [-1, 10_000])
def test_a_token_that_there_is_none_of_is_damage(store: Path, token: int) -> None:
    path = store / "windows/tokens.bin"
    n_tokens = path.stat().st_size // 4
    path.write_bytes(np.full(n_tokens, token, "<i4").tobytes())
    with pytest.raises(StoreError, match="what it holds of neuron 0:0 is damaged"):
        read_everything(NeuronStore(store))


def read_everything(store: NeuronStore) -> None:
    for neuron_id in store.neuron_ids():
        store.read_neuron(neuron_id)
        dict(store.read_token_lookup(neuron_id).count_by_token)
