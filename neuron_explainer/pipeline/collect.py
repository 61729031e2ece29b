"""The collect stage: a subject and a corpus become a neuron store in the run folder."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from neuron_explainer.collector.blocks import BlockPlan
from neuron_explainer.collector.checkpoints import Checkpoints
from neuron_explainer.collector.collect import Collection, Output, StoreOutput
from neuron_explainer.collector.corpus import Corpus, open_corpus
from neuron_explainer.collector.memory import MemoryPlan, Shape, plan_memory
from neuron_explainer.collector.plans import CollectPlan
from neuron_explainer.collector.shards import (
    ShardManifest,
    ShardOutput,
    finish_shard,
    merge_shards,
    read_shard,
)
from neuron_explainer.collector.token_means import Coverage, TokenRows, plan_coverage
from neuron_explainer.collector.windows import write_windows
from neuron_explainer.errors import StoreError, UsageError
from neuron_explainer.pipeline.events import (
    Listener,
    MemoryPlanned,
    Noted,
    StageAdvanced,
    StageFinished,
    StageStarted,
)
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.process_memory import (
    memory_budget_bytes,
    peak_memory_bytes,
    used_memory_bytes,
)
from neuron_explainer.pipeline.spec import (
    RunSpec,
    fingerprint,
    parse_shard,
    plan_from,
)
from neuron_explainer.pipeline.unit_choice import resolve_units
from neuron_explainer.records.units import Units
from neuron_explainer.stores.neuron_store import NeuronStore, StoreWriter
from neuron_explainer.stores.store_manifest import StoreManifest, holds_store
from neuron_explainer.stores.windows import FIT, RECORD, WindowCounts, WindowTable, read_counts
from neuron_explainer.subject.model import Subject, load_subject
from neuron_explainer.subject.source import ActivationSource, ChosenUnits, SubjectSource

LITTLE_FIT = 0.25
"""Of the share of the text that is asked for to fit on: with less, it is told."""


@dataclass(frozen=True, slots=True)
class Material:
    """What a collection is made of, opened, and the content behind its names."""

    subject: Subject
    corpus: Corpus
    subject_hash: str
    corpus_hash: str


def open_material(spec: RunSpec) -> Material:
    """The corpus first: a wrong path is known before a model is loaded."""
    corpus = open_corpus(spec.corpus, text_field=spec.text_field)
    subject = load_subject(
        spec.model,
        dtype=spec.dtype,
        device=spec.device,
        site_module=spec.site_module,
        activation_function=spec.activation_function,
        most_bytes=memory_budget_bytes(spec.memory_gb, torch.device("cpu")),
        chat_template=spec.chat_template,
    )
    return Material(subject, corpus, subject.content_hash(), corpus.content_hash())


def collect(spec: RunSpec, material: Material, folder: RunFolder, listen: Listener) -> NeuronStore:
    """The store of these choices: made now, gone on with, or the one that is already there.

    SpecMismatch when the folder was made with other choices.
    """
    choices = resolve_choices(spec, material)
    folder.claim(choices)
    if not holds_store(folder.store):
        job = _prepare(spec, material, folder, listen)
        writer = StoreWriter(folder.store)
        _read(job, StoreOutput(writer, job.blocks), listen)
        writer.finish(_manifest(job, fingerprint(choices)))
        job.checkpoints.clear()
    return NeuronStore(folder.store)


def collect_shard(
    spec: RunSpec, material: Material, folder: RunFolder, listen: Listener
) -> ShardManifest:
    """One part of a collection, in the run folder that is the shard's own."""
    choices = resolve_choices(spec, material)
    folder.claim(choices)
    done = read_shard(folder.store)
    if done is not None:
        return done
    job = _prepare(spec, material, folder, listen)
    _read(job, ShardOutput(folder.store), listen)
    shard = parse_shard(spec.shard)
    manifest = finish_shard(folder.store, shard, _manifest(job, fingerprint(choices)))
    job.checkpoints.clear()
    return manifest


def merge(folder: RunFolder, listen: Listener) -> NeuronStore:
    """The store that the shards of a run folder make together."""
    shards = folder.shards()
    if not shards:
        raise StoreError(f"no shards in {folder.path}; run `collect --shard 1/N` and the others")
    choices = shards[0].read_choices()
    if choices is None:
        raise StoreError(f"{shards[0].path} has no run.json; collect this shard again")
    folder.claim(choices)
    if not holds_store(folder.store):
        listen(StageStarted("merge", len(choices["layers"]), "layers"))
        n_done = 0

        def on_layer() -> None:
            nonlocal n_done
            n_done += 1
            listen(StageAdvanced("merge", n_done))

        stores = [shard.store for shard in shards]
        merge_shards(stores, plan_from(CollectPlan, choices), folder.store, on_layer)
        listen(StageFinished("merge", f"{len(shards)} shards; {folder.path / 'shards'} can go now"))
    return NeuronStore(folder.store)


def resolve_choices(spec: RunSpec, material: Material) -> dict[str, Any]:
    """What the collection depends on: flags as they resolve, and the content behind the names."""
    subject = material.subject
    if spec.n_ctx > subject.n_ctx:
        raise UsageError(
            f"--n-ctx {spec.n_ctx}: {subject.name} reads at most {subject.n_ctx} tokens"
        )
    units = resolve_units(spec, subject)
    return {
        **spec.choices("collect"),
        "dtype": subject.dtype,
        "layers": list(units.layers),
        "units": None if units.chosen is None else [str(neuron_id) for neuron_id in units],
        "model_content": material.subject_hash,
        "corpus": material.corpus_hash,
    }


@dataclass(frozen=True, slots=True)
class _Job:
    """A collection that is ready to read, or to go on reading."""

    spec: RunSpec
    material: Material
    source: ActivationSource
    units: Units
    table: WindowTable
    counts: WindowCounts
    coverage: Coverage
    blocks: BlockPlan
    checkpoints: Checkpoints
    memory: MemoryPlan


def _prepare(spec: RunSpec, material: Material, folder: RunFolder, listen: Listener) -> _Job:
    """Cuts the text, unless that was done, and plans what is kept of it."""
    subject = material.subject
    units = resolve_units(spec, subject)
    source = _open_source(spec, subject, units)
    writer = StoreWriter(folder.store)
    counts = read_counts(writer.windows_folder)
    if counts is None:
        _plan_memory(spec, subject, units, n_rows=1, n_drawn=1)  # the least that it can take
        counts = _cut_text(spec, material, writer, listen)
    table = WindowTable(writer.windows_folder)
    _note_little_fit_text(spec, counts.n_tokens, table.count(RECORD)[1], listen)
    blocks = BlockPlan(table, spec.collect_plan, parse_shard(spec.shard))
    coverage = plan_coverage(
        table.count_tokens(FIT, subject.tokenizer.n_tokens),
        len(units),
        spec.token_means_gb * 1e9,
    )
    n_rows, n_drawn = len(coverage.token_ids) + 1, len(blocks.fit_drawn)
    memory = _plan_memory(spec, subject, units, n_rows, n_drawn)
    listen(MemoryPlanned(memory))
    writer.write_vocabulary(subject.tokenizer.display)
    writer.write_coverage(coverage.token_ids)
    checkpoints = Checkpoints(folder.store / "checkpoint", spec.checkpoint_s)
    return _Job(spec, material, source, units, table, counts, coverage, blocks, checkpoints, memory)


def _open_source(spec: RunSpec, subject: Subject, units: Units) -> ActivationSource:
    source = SubjectSource(
        subject, units.layers, skip_first=spec.skip_first, max_norm_ratio=spec.max_norm_ratio
    )
    if units.chosen is None:
        return source
    return ChosenUnits(source, dict(zip(units.layers, units.chosen, strict=True)))


def _plan_memory(
    spec: RunSpec, subject: Subject, units: Units, n_rows: int, n_drawn: int
) -> MemoryPlan:
    shape = Shape(
        n_units=tuple(len(units.of_layer(layer)) for layer in units.layers),
        n_a_layer=units.n_a_layer,
        n_rows=n_rows,
        n_drawn=n_drawn,
        activation_bytes=subject.model.dtype.itemsize,
    )
    return plan_memory(
        shape,
        spec.collect_plan,
        used_bytes=used_memory_bytes(subject.device),
        budget_bytes=memory_budget_bytes(spec.memory_gb, subject.device),
    )


def _cut_text(
    spec: RunSpec, material: Material, writer: StoreWriter, listen: Listener
) -> WindowCounts:
    listen(StageStarted("tokenise", spec.n_tokens, "tokens"))
    counts = write_windows(
        material.corpus.documents(),
        material.subject.tokenizer,
        spec.window_plan,
        writer.windows_folder,
        lambda n_tokens: listen(StageAdvanced("tokenise", n_tokens)),
    )
    left_out = f"{counts.n_duplicates:,} duplicate documents and {counts.n_near_duplicates:,} "
    left_out += "near-duplicate windows left out"
    if counts.n_short:
        left_out += f", and {counts.n_short:,} windows that are too short"
    listen(
        StageFinished(
            "tokenise",
            f"{counts.n_tokens:,} tokens in {counts.n_windows:,} windows of "
            f"{counts.n_documents:,} documents; {left_out}"
            + ("" if counts.n_tokens >= spec.n_tokens else "; the corpus holds no more"),
        )
    )
    return counts


def _read(job: _Job, output: Output, listen: Listener) -> None:
    """Both passes over every layer that is not finished."""
    source, coverage = job.source, job.coverage
    progress = _Progress(listen, job.blocks.expected_tokens() * job.memory.n_groups)
    rows = TokenRows(coverage, job.material.subject.tokenizer.n_tokens, source.device)
    collection = Collection(
        source, job.blocks, job.spec.collect_plan, rows, output, job.checkpoints, progress.add
    )
    collection.collect(job.memory.n_layers_a_group)
    listen(
        StageFinished(
            "collect",
            f"{len(job.units):,} neurons of {len(job.units.layers)} layers at "
            f"{progress.rate:,.0f} tokens/s; token means for {len(coverage.token_ids):,} tokens "
            f"cover {coverage.share:.1%} of the fit text; peak memory "
            f"{peak_memory_bytes(source.device) / 1e9:.2f} GB",
        )
    )


def _note_little_fit_text(spec: RunSpec, n: int, n_record: int, listen: Listener) -> None:
    """Documents fall to one part or the other as wholes, so that few of them may share unevenly."""
    share = 1 - n_record / n
    if share < LITTLE_FIT * spec.fit_share:
        listen(
            Noted(
                "fit",
                f"{n - n_record:,} of {n:,} tokens ({share:.1%}) are there to fit on, where "
                f"--fit-share {spec.fit_share:g} asks for more: the documents are few, and each is "
                "in one part as a whole. What is fitted says little; give more, or shorter, "
                "documents",
            )
        )


def _manifest(job: _Job, name: str) -> StoreManifest:
    counts, units = job.counts, job.units
    return StoreManifest(
        fingerprint=name,
        subject=job.material.subject.name,
        site=job.source.site,
        layers=units.layers,
        n_units=units.n_a_layer,
        chosen_units=units.chosen,
        n_ctx=job.spec.n_ctx,
        corpus=job.material.corpus.name,
        corpus_hash=job.material.corpus_hash,
        n_documents=counts.n_documents,
        n_duplicates=counts.n_duplicates,
        n_near_duplicates=counts.n_near_duplicates,
        n_windows=counts.n_windows,
        n_tokens=counts.n_tokens,
        n_record_tokens=job.table.count(RECORD)[1],
        coverage=job.coverage.share,
    )


class _Progress:
    """Adds up the tokens read and tells the listener."""

    def __init__(self, listen: Listener, total: int) -> None:
        self._listen = listen
        self._n_tokens = 0
        self._n_read = 0
        self._started = time.perf_counter()
        listen(StageStarted("collect", total, "tokens"))

    def add(self, n_tokens: int, *, again: bool = False) -> None:
        self._n_tokens += n_tokens
        self._n_read += 0 if again else n_tokens
        self._listen(StageAdvanced("collect", self._n_tokens))

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self._n_read / (time.perf_counter() - self._started)
