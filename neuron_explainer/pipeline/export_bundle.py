"""A whole run as a bundle (formats/bundle.py): every method's explanations, and the windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from neuron_explainer.errors import CannotExplain, StoreError, UsageError
from neuron_explainer.formats.bundle import BundleWriter, is_bundle
from neuron_explainer.formats.bundle_files import BundleTarget
from neuron_explainer.formats.plain import to_plain
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.kept_patterns import find_choices, open_kept_patterns
from neuron_explainer.pipeline.records import open_records, read_subject_choices
from neuron_explainer.records.bundle import (
    BundleContent,
    BundledExplanation,
    BundledMethod,
    BundledPatterns,
    BundledSimulation,
    ScoredText,
)
from neuron_explainer.records.neuron import NeuronRecord
from neuron_explainer.records.score import reason_kind
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores import atomic
from neuron_explainer.stores.record_source import Manifest, RecordSource
from neuron_explainer.stores.results import Results

ZIP = ".zip"
SUBJECT_NOTES: Mapping[str, str] = {
    "bundled": "the small GPT-2 that comes with neuron-explainer; weights under the MIT licence",
}
CORPUS_NOTES: Mapping[str, str] = {
    "pydocs": (
        "documentation of Python and the packages on the machine, under their licences: PSF-2.0 "
        "(Python), Apache-2.0 (transformers), BSD-3-Clause (numpy, scipy, pandas, torch, sympy, "
        "networkx)"
    ),
}


class BundleWritten(NamedTuple):
    """What was put into a bundle."""

    n_explanations: int
    n_files: int
    left_out: Counter[str]
    """Why there is no record of a unit -> units."""


def export_bundle(
    folder: RunFolder, results: Results, target: Path, *, with_windows: bool
) -> BundleWritten:
    """A folder, or a zip by its name; whole or not at all. An older bundle there is replaced.

    UsageError when there is something else at `target`, StoreError when no unit is explained.
    """
    target = target.resolve()
    is_zip = target.suffix.lower() == ZIP
    if target.is_dir() and (is_zip or (any(target.iterdir()) and not is_bundle(target))):
        raise UsageError(f"{target} is a folder that holds something else; name another one")
    if target.is_file() and not is_zip:
        raise UsageError(f"{target} is a file; name a folder, or a file that ends in {ZIP}")
    replacing = atomic.replacing if is_zip else atomic.replacing_folder
    records = open_records(folder)
    with replacing(target) as path, results.snapshot():
        files = BundleTarget(path, is_zip=is_zip)
        try:
            return _write(files, folder, records, results, with_windows=with_windows)
        finally:
            files.close()


def _write(
    files: BundleTarget,
    folder: RunFolder,
    records: RecordSource,
    results: Results,
    *,
    with_windows: bool,
) -> BundleWritten:
    writer = BundleWriter(files)
    methods = [use.fingerprint for use in results.method_uses()]
    left_out: Counter[str] = Counter()
    explained: Counter[str] = Counter()
    unexplained: Counter[str] = Counter()

    def counted() -> Iterator[BundledExplanation]:
        for explanation in _explanations(results, methods):
            which = unexplained if explanation.result.text is None else explained
            which[explanation.method] += 1
            yield explanation

    writer.write_explanations(counted())
    if not explained:
        raise StoreError("the run has no explanation to export; run `explain` first")
    writer.write_table(_explanations(results, methods), results.score_names())
    writer.write_simulations(_simulations(results, methods))
    if any(find_choices(use.choices or {}) for use in results.method_uses()):
        writer.write_patterns(_patterns(folder, results, left_out))
    if with_windows:
        writer.write_windows(_windows(records, results, left_out))
    current = results.current_method()
    of_methods = tuple(
        BundledMethod(
            fingerprint, choices, used_at, fingerprint == current,
            explained[fingerprint], unexplained[fingerprint],
        )
        for fingerprint, choices, used_at in results.method_uses()
    )  # fmt: skip
    manifest = writer.finish(_content(folder, records.manifest, of_methods))
    return BundleWritten(explained.total(), len(manifest.files) + 1, left_out)


def _explanations(results: Results, methods: list[str]) -> Iterator[BundledExplanation]:
    for method, unit in _units(results, methods):
        candidates = results.candidates(method, unit.neuron_id)
        yield BundledExplanation(method, unit, tuple(ScoredText(*one) for one in candidates))


def _simulations(results: Results, methods: list[str]) -> Iterator[BundledSimulation]:
    for method, unit in _units(results, methods):
        if windows := results.windows(method, unit.neuron_id):
            yield BundledSimulation(method, unit.neuron_id, windows)


def _patterns(
    folder: RunFolder, results: Results, left_out: Counter[str]
) -> Iterator[BundledPatterns]:
    """Of the methods that have some."""
    for use in results.method_uses():
        choices = use.choices or {}
        if find_choices(choices) is None:
            continue
        with open_kept_patterns(folder, choices) as kept:
            for method, unit in _units(results, [use.fingerprint]):
                if kept is None:
                    left_out["patterns of a unit: patterns.sqlite is gone"] += 1
                else:
                    yield BundledPatterns(
                        method, unit.neuron_id, kept.read_patterns(unit.neuron_id)
                    )


def _windows(
    records: RecordSource, results: Results, left_out: Counter[str]
) -> Iterator[NeuronRecord]:
    for neuron_id in results.neuron_ids():
        try:
            record = records.read_neuron(neuron_id)
        except CannotExplain as error:  # a unit of which nothing was published
            left_out[f"windows of a unit: {reason_kind(error.reason)}"] += 1
        else:
            yield record


def _units(results: Results, methods: list[str]) -> Iterator[tuple[str, UnitResult]]:
    for method in methods:
        with closing(results.units(method)) as units:
            yield from ((method, unit) for unit in units)


def _content(
    folder: RunFolder, manifest: Manifest, methods: tuple[BundledMethod, ...]
) -> BundleContent:
    collection: dict[str, Any] = to_plain(manifest)
    return BundleContent(
        run=folder.path.resolve().name,
        subject=manifest.subject,
        site=manifest.site,
        layers=tuple(manifest.layers),
        choices=read_subject_choices(folder),
        collection=collection,
        sources=tuple(_sources(manifest.subject, collection.get("corpus"))),
        methods=methods,
    )


def _sources(subject: str, corpus: str | None) -> Iterator[str]:
    """What is known of where the model and the text come from."""
    unknown = "its licence is not known to the program; see where it was published"
    yield f"model {subject}: {SUBJECT_NOTES.get(subject, unknown)}"
    if corpus is None:
        yield f"text: not named; {unknown}"
        return
    for part in corpus.split(","):  # a mix is `pydocs=3,books.jsonl=1`
        name = part.rpartition("=")[0] or part
        yield f"text {name}: {CORPUS_NOTES.get(name, unknown)}"
