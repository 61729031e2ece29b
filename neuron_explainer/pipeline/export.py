"""A run's explanations and records for others: tables, layouts of datasets, a bundle.

Each is written beside and renamed: it is there whole, or not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
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
from neuron_explainer.pipeline.export_bundle import export_bundle
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.own_explanations import list_unit
from neuron_explainer.pipeline.records import open_records, read_subject_choices
from neuron_explainer.published.locations import DocumentId, Kind
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.listed import ListedExplanation
from neuron_explainer.records.published import PublishedResults
from neuron_explainer.records.score import ScoredSimulation
from neuron_explainer.records.subject_names import is_same_subject
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores import atomic
from neuron_explainer.stores.library import Library
from neuron_explainer.stores.results import Results


class ExportFormat(StrEnum):
    TABLE = "table"
    """csv, jsonl or parquet, by the file's name: a row an explanation."""
    NEURONPEDIA = "neuronpedia"
    """explanations/batch-N.jsonl.gz below a folder a layer."""
    OPENAI = "openai"
    """The layout of the published dataset: records and scored simulations, two files a unit."""
    BUNDLE = "bundle"
    """Everything that every method says, with its choices and the windows; a folder or a zip."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and what the format has no place for."""

    n_explanations: int
    n_files: int
    left_out: Counter[str]


def export_run(
    folder: RunFolder, target: Path, kind: ExportFormat, *, with_windows: bool = True
) -> Exported:
    """What the current method says of each unit, in a bundle also what the others do.

    with_windows: whether a bundle holds the windows of each unit. Of a folder without results, a
    list is what was imported into it. StoreError when there is no explanation; UsageError for a
    folder that holds something already, unless it is an older bundle that a new one replaces.
    """
    left_out: Counter[str] = Counter()
    match kind:
        case ExportFormat.TABLE:
            return _export_table(folder, target, left_out)
        case ExportFormat.NEURONPEDIA:
            with _new_folder(target) as path:
                listed = list(_listed(folder, left_out))
                return Exported(len(listed), len(write_neuronpedia(path, listed)), left_out)
    if _has_imported_alone(folder):
        raise UsageError(
            f"{folder.path} holds imported explanations alone; --format {kind} is of a run's own, "
            "and theirs is table or neuronpedia"
        )
    with Results(folder.results, read_only=True) as results:
        if kind is ExportFormat.BUNDLE:
            return Exported(*export_bundle(folder, results, target, with_windows=with_windows))
        with _new_folder(target) as path:
            return _export_published(folder, results, path, left_out)


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """Where the content of a folder that is not there yet goes."""
    target = target.resolve()
    if target.exists() and (target.is_file() or any(target.iterdir())):
        raise UsageError(f"{target} holds something already; name another folder")
    with atomic.replacing_folder(target) as path:
        yield path


def _export_table(folder: RunFolder, target: Path, left_out: Counter[str]) -> Exported:
    ending = target.suffix.lower()
    if ending not in (".csv", ".jsonl", ".parquet"):
        raise UsageError(f"{target}: name a .csv, .jsonl or .parquet file, or give --format")
    with atomic.replacing(target) as path:
        n_explanations = write_table(path, _listed(folder, left_out), ending=ending)
    return Exported(n_explanations, 1, left_out)


def _export_published(
    folder: RunFolder, results: Results, target: Path, left_out: Counter[str]
) -> Exported:
    """Of GPT-2 small in its own folder of the layout; of every other subject in the first one."""
    source = open_records(folder)
    is_small = is_same_subject(source.manifest.subject, "gpt2-small")
    dataset = "gpt2-small" if is_small else "gpt2-xl"
    method = results.current_method()
    n_files = 0
    for unit in _explained(results, left_out):
        record_id, explanation_id = (
            DocumentId(dataset, kind, unit.neuron_id)
            for kind in (Kind.ACTIVATIONS, Kind.EXPLANATIONS)
        )
        record = to_published_record(source.read_neuron(unit.neuron_id))
        left_out.update(record.left_out)
        _write(target / record_id.path, write_record(record.value), left_out)
        published = to_published_explanation(*_scored(unit, results, method))
        left_out.update(published.left_out)
        left_out.update(["name of the model", "name of the run"])
        left_out["cost of a neuron"] += unit.cost is not None
        of_unit = PublishedResults(unit.neuron_id, (published.value,))
        _write(target / explanation_id.path, write_results(of_unit), left_out)
        n_files += 2
    return Exported(n_files // 2, n_files, +left_out)


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
        unit.scorer or "", unit.simulator or "", unit.scores, windows, unit.headline or ""
    )
    return unit.explanation, scored


def _has_imported_alone(folder: RunFolder) -> bool:
    return folder.library.exists() and not folder.results.exists()


def _listed(folder: RunFolder, left_out: Counter[str]) -> Iterator[ListedExplanation]:
    if _has_imported_alone(folder):
        with Library(folder.library, read_only=True) as library:
            if not len(library):
                raise StoreError(f"no explanation in {folder.library}; `import` some first")
            yield from library.all()
        return
    model = read_subject_choices(folder).get("model")
    with Results(folder.results, read_only=True) as results:
        for unit in _explained(results, left_out):
            left_out.update(_unlisted(unit))
            yield list_unit(unit, source=folder.path.resolve().name, model=model)


def _unlisted(unit: UnitResult) -> Iterator[str]:
    """What a list has no place for, once for each time that a unit has it."""
    for score in unit.scores.values():
        if score.low is not None or score.high is not None:
            yield "interval of a score"
        if score.reason is not None:
            yield "reason of a missing score"
    if unit.prompt_version is not None:
        yield "version of a prompt"
    if unit.cost is not None:
        yield "cost of a neuron"


def _explained(results: Results, left_out: Counter[str]) -> Iterator[UnitResult]:
    """The units that have an explanation; the others are counted."""
    n_explained = 0
    with closing(results.units(results.current_method())) as units:
        for unit in units:
            if unit.text is None:
                left_out["neuron without an explanation"] += 1
            else:
                n_explained += 1
                yield unit
    if not n_explained:
        raise StoreError("the run has no explanation to export; run `explain` first")
