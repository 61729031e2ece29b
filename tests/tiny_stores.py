"""Small collections on disk, made by the collector itself."""

from __future__ import annotations

import hashlib
from pathlib import Path

from neuron_explainer.collector.collect import collect_units
from neuron_explainer.collector.plans import CollectPlan, WindowPlan
from neuron_explainer.collector.windows import write_windows
from neuron_explainer.stores.neuron_store import NeuronStore, StoreManifest, StoreWriter
from neuron_explainer.stores.windows import RECORD, WindowTable
from neuron_explainer.subject.source import ActivationSource
from neuron_explainer.subject.tokens import SubjectTokenizer
from tests.fakes import scripted_documents

PLAN = CollectPlan(n_ctx=16, block_size=8, top_k=6, n_a_band=3, n_random=7, n_boundary_windows=60)


def collect_into(
    folder: Path,
    source: ActivationSource,
    tokenizer: SubjectTokenizer,
    plan: CollectPlan = PLAN,
    n_documents: int = 80,
) -> NeuronStore:
    """A store of scripted documents, as the collect stage writes one."""
    writer = StoreWriter(folder)
    window_plan = WindowPlan(n_ctx=plan.n_ctx, n_tokens=10_000)
    documents = scripted_documents(n_documents)
    counts = write_windows(documents, tokenizer, window_plan, writer.windows_folder)
    table = WindowTable(writer.windows_folder)
    coverage = collect_units(source, table, counts.fit_token_counts, plan, writer)
    writer.write_vocabulary(tokenizer.display)
    manifest = StoreManifest(
        fingerprint="f", subject="scripted", site=source.site, layers=tuple(source.layers),
        n_units=source.n_units, n_ctx=plan.n_ctx, corpus="scripted", corpus_hash="c",
        n_documents=counts.n_documents, n_duplicates=counts.n_duplicates,
        n_windows=counts.n_windows, n_tokens=counts.n_tokens,
        n_record_tokens=table.count(RECORD)[1], coverage=coverage.share,
    )  # fmt: skip
    writer.finish(manifest)
    return NeuronStore(folder)


def files_digest(folder: Path) -> dict[str, str]:
    """Name below the folder -> digest of the bytes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
