"""The collect stage: a subject and a corpus become a neuron store in the run folder."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from neuron_explainer.collector.collect import collect_units
from neuron_explainer.collector.corpus import Corpus, open_corpus
from neuron_explainer.collector.windows import write_windows
from neuron_explainer.errors import UsageError
from neuron_explainer.pipeline.events import (
    Listener,
    StageAdvanced,
    StageFinished,
    StageStarted,
)
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.spec import RunSpec, fingerprint, parse_layers
from neuron_explainer.stores.neuron_store import (
    NeuronStore,
    StoreManifest,
    StoreWriter,
    holds_store,
)
from neuron_explainer.stores.windows import RECORD, WindowTable
from neuron_explainer.subject.model import Subject, load_subject
from neuron_explainer.subject.source import SubjectSource


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
    )
    return Material(subject, corpus, subject.content_hash(), corpus.content_hash())


def collect(spec: RunSpec, material: Material, folder: RunFolder, listen: Listener) -> NeuronStore:
    """The store of these choices: made now, or the one that is already there.

    SpecMismatch when the folder was made with other choices.
    """
    choices = resolve_choices(spec, material)
    folder.claim(choices)
    if not holds_store(folder.store):
        _write_store(spec, material, folder, fingerprint(choices), listen)
    return NeuronStore(folder.store)


def resolve_choices(spec: RunSpec, material: Material) -> dict[str, Any]:
    """What the collection depends on: flags as they resolve, and the content behind the names."""
    subject = material.subject
    if spec.n_ctx > subject.n_ctx:
        raise UsageError(
            f"--n-ctx {spec.n_ctx}: {subject.name} reads at most {subject.n_ctx} tokens"
        )
    return {
        **spec.choices("collect"),
        "dtype": subject.dtype,
        "layers": parse_layers(spec.layers, subject.n_layers),
        "model_content": material.subject_hash,
        "corpus": material.corpus_hash,
    }


def _write_store(
    spec: RunSpec, material: Material, folder: RunFolder, name: str, listen: Listener
) -> None:
    subject, corpus = material.subject, material.corpus
    source = SubjectSource(subject, parse_layers(spec.layers, subject.n_layers))
    writer = StoreWriter(folder.store)
    listen(StageStarted("tokenise", spec.n_tokens, "tokens"))
    counts = write_windows(
        corpus.documents(),
        subject.tokenizer,
        spec.window_plan,
        writer.windows_folder,
        lambda n_tokens: listen(StageAdvanced("tokenise", n_tokens)),
    )
    listen(
        StageFinished(
            "tokenise",
            f"{counts.n_tokens:,} tokens in {counts.n_windows:,} windows of "
            f"{counts.n_documents:,} documents; {counts.n_duplicates:,} exact duplicates dropped"
            + ("" if counts.n_tokens >= spec.n_tokens else "; the corpus holds no more"),
        )
    )
    table = WindowTable(writer.windows_folder)
    progress = _Progress(listen, counts.n_tokens)
    coverage = collect_units(
        source, table, counts.fit_token_counts, spec.collect_plan, writer, progress.add
    )
    writer.write_vocabulary(subject.tokenizer.display)
    manifest = StoreManifest(
        fingerprint=name,
        subject=subject.name,
        site=source.site,
        layers=tuple(source.layers),
        n_units=source.n_units,
        n_ctx=spec.n_ctx,
        corpus=corpus.name,
        corpus_hash=material.corpus_hash,
        n_documents=counts.n_documents,
        n_duplicates=counts.n_duplicates,
        n_windows=counts.n_windows,
        n_tokens=counts.n_tokens,
        n_record_tokens=table.count(RECORD)[1],
        coverage=coverage.share,
    )
    writer.finish(manifest)
    listen(
        StageFinished(
            "collect",
            f"{len(source.layers) * source.n_units:,} neurons of {len(source.layers)} layers at "
            f"{progress.rate:,.0f} tokens/s; token means for {len(coverage.token_ids):,} tokens "
            f"cover {coverage.share:.1%} of the text",
        )
    )


class _Progress:
    """Adds up the tokens read and tells the listener."""

    def __init__(self, listen: Listener, total: int) -> None:
        self._listen = listen
        self._n_tokens = 0
        self._started = time.perf_counter()
        listen(StageStarted("collect", total, "tokens"))

    def add(self, n_tokens: int) -> None:
        self._n_tokens += n_tokens
        self._listen(StageAdvanced("collect", self._n_tokens))

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self._n_tokens / (time.perf_counter() - self._started)
