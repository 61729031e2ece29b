"""Parts of one collection made by several processes, and how they become a store.

Every shard has a folder of its own, with the whole table of windows and the boundaries of the
bands, and the states of the layers after its own blocks:

    windows/, vocabulary.json, token_means.safetensors    as in a store
    layer_007/fit.safetensors, record.safetensors         the tensors of FitLayer and RecordLayer
    shard.json                                            ShardManifest; written last

Window ids and activations of the merged store are those of an unsharded run to the bit. Sums are
float64 and added pairwise in the order of the shards, whichever was finished first.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from neuron_explainer.collector.blocks import BlockPlan
from neuron_explainer.collector.checkpoints import Tensors, load_tensors, save_tensors
from neuron_explainer.collector.collect import StoreOutput
from neuron_explainer.collector.layers import FitLayer, RecordLayer
from neuron_explainer.collector.plans import CollectPlan, Shard
from neuron_explainer.collector.token_means import Coverage, TokenRows
from neuron_explainer.errors import StoreError
from neuron_explainer.stores import atomic
from neuron_explainer.stores.neuron_store import StoreWriter, read_coverage
from neuron_explainer.stores.store_manifest import StoreManifest, manifest_from
from neuron_explainer.stores.windows import WindowTable

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class ShardManifest:
    """What a finished shard is a part of."""

    shard: Shard
    table_hash: str
    """Of the table of windows: shards of one collection have the same."""
    store: StoreManifest
    """That the merged store will have."""


@dataclass(frozen=True, slots=True)
class ShardOutput:
    """A part of a collection: the states as they are, for `merge`."""

    folder: Path

    def write_fit(self, layer: int, fit: FitLayer) -> None:
        save_tensors(_state(self.folder, layer, "fit"), fit.tensors())

    def write_record(self, layer: int, record: RecordLayer) -> None:
        save_tensors(_state(self.folder, layer, "record"), record.tensors())


def finish_shard(folder: Path, shard: Shard, manifest: StoreManifest) -> ShardManifest:
    """Makes the folder a finished shard."""
    whole = ShardManifest(shard, _hash_table(folder / "windows"), manifest)
    atomic.write_text(folder / "shard.json", json.dumps(asdict(whole), indent=1) + "\n")
    return whole


def read_shard(folder: Path) -> ShardManifest | None:
    """None when the shard is not finished."""
    path = folder / "shard.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return ShardManifest(
            shard=Shard(**raw["shard"]),
            table_hash=raw["table_hash"],
            store=manifest_from(raw["store"]),
        )
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{path} is damaged; collect this shard again") from error


def merge_shards(
    folders: Sequence[Path], plan: CollectPlan, target: Path, on_layer: Callable[[], None]
) -> StoreManifest:
    """Writes the store at `target` from finished shards, in the order of their numbers.

    StoreError when they are not all the shards of one collection.
    """
    manifest = _require_whole(folders)
    writer = StoreWriter(target)
    _copy_shared(folders[0], target)
    table = WindowTable(writer.windows_folder)
    blocks = BlockPlan(table, plan, Shard())
    output = StoreOutput(writer, blocks)
    token_ids = read_coverage(target)
    n_vocabulary = int(max(token_ids, default=0)) + 1
    rows = TokenRows(Coverage(token_ids, manifest.coverage), n_vocabulary, CPU)

    def n_units(layer: int) -> int:
        return len(manifest.units.of_layer(layer))

    def read_fit(number: int, layer: int) -> FitLayer:
        state = FitLayer(rows, n_units(layer), len(blocks.fit_drawn), CPU)
        load_tensors(_state(folders[number], layer, "fit"), state.tensors())
        return state

    def read_record(number: int, layer: int) -> RecordLayer:
        state = RecordLayer.empty(n_units(layer), plan, len(blocks.random), CPU)
        load_tensors(_state(folders[number], layer, "record"), state.tensors())
        return state

    with torch.inference_mode():
        for layer in manifest.layers:
            output.write_fit(layer, _absorb_all(read_fit, layer, 0, len(folders)))
            output.write_record(layer, _absorb_all(read_record, layer, 0, len(folders)))
            on_layer()
    writer.finish(manifest)
    return manifest


class _State(Protocol):
    def tensors(self) -> Tensors: ...

    def absorb(self, other: Any) -> None: ...


AnyState = TypeVar("AnyState", bound=_State)


def _absorb_all(read: Callable[[int, int], AnyState], layer: int, first: int, end: int) -> AnyState:
    """The states of shards first..end-1 as one: a tree over their numbers, few in memory."""
    if end - first == 1:
        return read(first, layer)
    middle = (first + end + 1) // 2
    left = _absorb_all(read, layer, first, middle)
    left.absorb(_absorb_all(read, layer, middle, end))
    return left


def _require_whole(folders: Sequence[Path]) -> StoreManifest:
    found = [read_shard(folder) for folder in folders]
    shards = [manifest for manifest in found if manifest is not None]
    if not shards:
        raise StoreError("no finished shard; run `collect --shard 1/N` and the others first")
    count = shards[0].shard.n_shards
    missing = sorted(set(range(1, count + 1)) - {m.shard.number for m in shards})
    if missing:
        names = ", ".join(f"{number}/{count}" for number in missing)
        raise StoreError(f"shard(s) {names} not finished; run `collect --shard` for each")
    for manifest in shards[1:]:
        if (manifest.shard.n_shards, manifest.table_hash, manifest.store) != (
            count,
            shards[0].table_hash,
            shards[0].store,
        ):
            raise StoreError(
                f"shard {manifest.shard} is not of the same collection as {shards[0].shard}; "
                "collect it again with the same choices"
            )
    return shards[0].store


def _copy_shared(source: Path, target: Path) -> None:
    """What all shards have alike."""
    whole = Path("windows/counts.json")  # last of the table: with it, the table is taken as whole
    (target / whole).unlink(missing_ok=True)
    but_whole = shutil.ignore_patterns(whole.name)
    shutil.copytree(source / "windows", target / "windows", ignore=but_whole, dirs_exist_ok=True)
    for name in (whole, "vocabulary.json", "token_means.safetensors"):
        with atomic.replacing(target / name) as temporary:
            shutil.copyfile(source / name, temporary)


def _hash_table(folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in ("windows.bin", "tokens.bin"):
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()


def _state(folder: Path, layer: int, name: str) -> Path:
    return folder / f"layer_{layer:03d}" / f"{name}.safetensors"
