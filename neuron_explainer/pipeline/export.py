"""A run's explanations and records in the formats of others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from neuron_explainer.errors import StoreError, UsageError
from neuron_explainer.formats.neuronpedia import write_neuronpedia
from neuron_explainer.formats.openai import write_record
from neuron_explainer.formats.openai_json import Written
from neuron_explainer.formats.openai_mapping import to_published_explanation, to_published_record
from neuron_explainer.formats.openai_results import write_results
from neuron_explainer.formats.tables import write_table
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.import_files import list_unit
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.listed import ListedExplanation
from neuron_explainer.records.published import PublishedResults
from neuron_explainer.records.score import ScoredSimulation
from neuron_explainer.stores import atomic
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.stores.results import Results, UnitResult

SCORER = "simulation"


class ExportFormat(StrEnum):
    TABLE = "table"
    """csv, jsonl or parquet, by the file's name: a row an explanation."""
    NEURONPEDIA = "neuronpedia"
    """explanations/batch-N.jsonl.gz below a folder a layer."""
    OPENAI = "openai"
    """The layout of the published dataset: records and scored simulations, two files a unit."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and what the format has no place for."""

    n_explanations: int
    n_files: int
    left_out: Counter[str]


def export_run(folder: RunFolder, target: Path, kind: ExportFormat) -> Exported:
    """What the current method says of each unit; StoreError when it says nothing of any.

    A table is written whole or not at all; a folder that holds such an export already is refused.
    """
    left_out: Counter[str] = Counter()
    with Results(folder.results, read_only=True) as results:
        match kind:
            case ExportFormat.TABLE:
                return _export_table(folder, results, target, left_out)
            case ExportFormat.NEURONPEDIA:
                listed = list(_listed(folder, results, left_out))
                return Exported(len(listed), len(write_neuronpedia(target, listed)), left_out)
            case ExportFormat.OPENAI:
                return _export_published(folder, results, target, left_out)


def _export_table(
    folder: RunFolder, results: Results, target: Path, left_out: Counter[str]
) -> Exported:
    ending = target.suffix.lower()
    if ending not in (".csv", ".jsonl", ".parquet"):
        raise UsageError(f"{target}: name a .csv, .jsonl or .parquet file, or give --format")
    with atomic.replacing(target) as path:
        n_explanations = write_table(path, _listed(folder, results, left_out), ending=ending)
    return Exported(n_explanations, 1, left_out)


def _export_published(
    folder: RunFolder, results: Results, target: Path, left_out: Counter[str]
) -> Exported:
    records, explanations = target / "data/collated-activations", target / "data/explanations"
    if records.exists() or explanations.exists():
        raise UsageError(f"{target} holds an export already; name another folder")
    store = NeuronStore(folder.store)
    method = results.current_method()
    n_files = 0
    for unit in _explained(results, left_out):
        layer, neuron = unit.neuron_id.layer_index, unit.neuron_id.neuron_index
        record = to_published_record(store.read_neuron(unit.neuron_id))
        left_out.update(record.left_out)
        _write(records / f"{layer}/{neuron}.json", write_record(record.value), left_out)
        published = to_published_explanation(*_scored(unit, results, method))
        left_out.update(published.left_out)
        of_unit = PublishedResults(unit.neuron_id, (published.value,))
        _write(explanations / f"{layer}/{neuron}.jsonl", write_results(of_unit), left_out)
        n_files += 2
    return Exported(n_files // 2, n_files, left_out)


def _write(path: Path, written: Written, left_out: Counter[str]) -> None:
    left_out.update(written.left_out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(written.document)


def _scored(
    unit: UnitResult, results: Results, method: str
) -> tuple[Explanation, ScoredSimulation]:
    assert unit.explanation is not None
    windows = results.windows(method, unit.neuron_id)
    scored = ScoredSimulation(
        SCORER, unit.simulator or "", unit.scores, windows, unit.headline or ""
    )
    return unit.explanation, scored


def _listed(
    folder: RunFolder, results: Results, left_out: Counter[str]
) -> Iterator[ListedExplanation]:
    model = (folder.read_choices() or {}).get("model")
    for unit in _explained(results, left_out):
        yield list_unit(unit, source=folder.path.resolve().name, model=model)


def _explained(results: Results, left_out: Counter[str]) -> Iterator[UnitResult]:
    """The units that have an explanation; the others are counted."""
    n_explained = 0
    for unit in results.units(results.current_method()):
        if unit.text is None:
            left_out["neuron without an explanation"] += 1
        else:
            n_explained += 1
            yield unit
    if not n_explained:
        raise StoreError("the run has no explanation to export; run `explain` first")
