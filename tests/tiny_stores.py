"""Small collections on disk, made by the collector itself."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

from neuron_explainer.collector.blocks import BlockPlan
from neuron_explainer.collector.checkpoints import Checkpoints
from neuron_explainer.collector.collect import Collection, OnTokens, Output, StoreOutput
from neuron_explainer.collector.plans import CollectPlan, Shard, WindowPlan
from neuron_explainer.collector.shards import ShardOutput, finish_shard
from neuron_explainer.collector.token_means import TokenRows, plan_coverage
from neuron_explainer.collector.windows import write_windows
from neuron_explainer.records.units import Units
from neuron_explainer.stores.neuron_store import NeuronStore, StoreWriter
from neuron_explainer.stores.store_manifest import StoreManifest
from neuron_explainer.stores.windows import FIT, RECORD, WindowTable, read_counts
from neuron_explainer.subject.source import ActivationSource, ChosenUnits
from neuron_explainer.subject.tokens import SubjectTokenizer
from tests.fakes import scripted_documents

PLAN = CollectPlan(n_ctx=16, block_size=8, top_k=6, n_a_band=3, n_random=7, n_boundary_windows=60)


def collect_into(
    folder: Path,
    source: ActivationSource,
    tokenizer: SubjectTokenizer,
    plan: CollectPlan = PLAN,
    n_documents: int = 80,
    *,
    shard: Shard | None = None,
    n_layers_a_group: int = 100,
    min_tokens: int = 1,
    checkpoint_every_s: float = 1000,
    on_tokens: OnTokens | None = None,
    units: Units | None = None,
) -> NeuronStore | None:
    """A store of scripted documents, as the collect stage writes one; None: a shard of it.

    Repeated words are kept: the documents are made of few. units: these of the source alone.
    """
    if units is None:
        units = Units(tuple(source.layers), source.n_units(source.layers[0]))
    elif units.chosen is not None:
        source = ChosenUnits(source, dict(zip(units.layers, units.chosen, strict=True)))
    writer = StoreWriter(folder)
    if read_counts(writer.windows_folder) is None:
        window_plan = WindowPlan(
            n_ctx=plan.n_ctx, n_tokens=10_000, max_overlap=1, min_tokens=min_tokens
        )
        documents = scripted_documents(n_documents)
        write_windows(documents, tokenizer, window_plan, writer.windows_folder)
    counts = read_counts(writer.windows_folder)
    assert counts is not None
    table = WindowTable(writer.windows_folder)
    coverage = plan_coverage(
        table.count_tokens(FIT, tokenizer.n_tokens),
        sum(map(source.n_units, source.layers)),
        plan.token_means_gb * 1e9,
    )
    writer.write_vocabulary(tokenizer.display)
    writer.write_coverage(coverage.token_ids)
    blocks = BlockPlan(table, plan, shard or Shard())
    output: Output = ShardOutput(folder) if shard else StoreOutput(writer, blocks)
    checkpoints = Checkpoints(folder / "checkpoint", checkpoint_every_s, max_share=math.inf)
    rows = TokenRows(coverage, tokenizer.n_tokens, source.device)
    collection = Collection(
        source, blocks, plan, rows, output, checkpoints, on_tokens or _say_nothing
    )
    collection.collect(n_layers_a_group)
    manifest = StoreManifest(
        fingerprint="f", subject="scripted", site=source.site, layers=units.layers,
        n_units=units.n_a_layer, chosen_units=units.chosen, n_ctx=plan.n_ctx,
        corpus="scripted", corpus_hash="c",
        n_documents=counts.n_documents, n_duplicates=counts.n_duplicates,
        n_near_duplicates=counts.n_near_duplicates, n_windows=counts.n_windows,
        n_tokens=counts.n_tokens, n_record_tokens=table.count(RECORD)[1], coverage=coverage.share,
    )  # fmt: skip
    checkpoints.clear()
    if shard is not None:
        finish_shard(folder, shard, manifest)
        return None
    writer.finish(manifest)
    return NeuronStore(folder)


def files_digest(folder: Path) -> dict[str, str]:
    """Name below the folder -> digest of the bytes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _say_nothing(_n_tokens: int, *, again: bool = False) -> None:
    pass
