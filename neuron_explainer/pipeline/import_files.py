"""Explanations from files of every kind that is known, into a library.

    a run folder                 the newest explanation of each unit, by the method used last
    a bundle, folder or zip      the explanations of all its methods (formats/bundle.py)
    delphi's folder              formats/delphi.py
    a Neuronpedia export         formats/neuronpedia.py, whole or any part of it
    a mirror of the published    LAYER/NEURON.jsonl below `explanations` (formats/openai.py)
    one file                     Neuronpedia's, Transluce's or OpenAI's by its first row, else a
                                 table (formats/tables.py)

A file, or a folder of small files, is in the library whole or not at all.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from neuron_explainer.errors import NeuronExplainerError, RecordFormatError, StoreError
from neuron_explainer.formats.bundle import is_bundle, open_bundle
from neuron_explainer.formats.delphi import is_delphi, read_delphi
from neuron_explainer.formats.neuronpedia import find_batches, is_neuronpedia, read_neuronpedia
from neuron_explainer.formats.neuronpedia_units import (
    is_neuronpedia_activation,
    is_neuronpedia_feature,
    read_neuronpedia_activations,
    read_neuronpedia_features,
)
from neuron_explainer.formats.openai_listed import OPENAI, list_results
from neuron_explainer.formats.openai_results import read_results
from neuron_explainer.formats.rows import read_rows, readable
from neuron_explainer.formats.tables import read_table
from neuron_explainer.formats.transluce import is_transluce, read_transluce
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.own_explanations import has_text, list_unit, read_own
from neuron_explainer.records.listed import ListedExplanation
from neuron_explainer.stores.library import Added, Library

WINDOW, FACTS = "window of activations", "facts of a unit"
"""Of Neuronpedia's exports; they are read for other uses."""
_UNIT_FILE = re.compile(r"\d+\.jsonl")


class Kind(StrEnum):
    """What a file or a folder is."""

    RUN = "run"
    BUNDLE = "bundle"
    DELPHI = "delphi"
    NEURONPEDIA = "neuronpedia"
    OPENAI = "openai"
    TRANSLUCE = "transluce"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one file, or of a folder that is taken as one."""

    path: Path
    kind: Kind | None
    """None: it was refused before that was known."""
    added: Added
    left_out: Counter[str]
    """What could not be taken over -> how often."""
    refused: str | None = None
    """Why nothing of it is in the library; None: all that could be taken is."""


def import_files(
    paths: Iterable[Path], library: Library, *, source: str | None = None, model: str | None = None
) -> Iterator[Imported]:
    """One result a file, as soon as it is in the library; what is damaged is refused, and the rest
    goes on. StoreError when the library itself fails.

    source, model: for explanations that do not say theirs.
    """
    for path in paths:
        try:
            parts = _find_parts(path)
        except RecordFormatError as error:
            yield Imported(path, None, Added(), Counter(), str(error))
            continue
        for part, kind in parts:
            yield _import_part(part, kind, library, source, model)


def _import_part(
    path: Path, kind: Kind, library: Library, source: str | None, model: str | None
) -> Imported:
    left_out: Counter[str] = Counter()
    listed = READERS[kind](path, left_out, source=source, model=model)
    try:
        return Imported(path, kind, library.add(listed), left_out)
    except NeuronExplainerError as error:
        if isinstance(error, StoreError) and kind != Kind.RUN:
            raise
        return Imported(path, kind, Added(), left_out, str(error))


def _find_parts(path: Path) -> Sequence[tuple[Path, Kind]]:
    """Each with its kind; RecordFormatError when it is none that is known."""
    if not path.is_dir():
        return [(path, Kind.BUNDLE if is_bundle(path) else _kind_of_file(path))]
    with readable(path):
        if RunFolder(path).results.exists():
            return [(path, Kind.RUN)]
        if is_bundle(path):
            return [(path, Kind.BUNDLE)]
        if is_delphi(path):
            return [(path, Kind.DELPHI)]
        if batches := find_batches(path):
            return [(batch, Kind.NEURONPEDIA) for batch in batches]
        if any(_unit_files(path)):
            return [(path, Kind.OPENAI)]
    raise RecordFormatError(
        path, "no run, no bundle, no folder of delphi, of Neuronpedia or of published explanations"
    )


def _kind_of_file(path: Path) -> Kind:
    """By its first row; a file without rows is a table."""
    first = next(read_rows(path), None)
    fields = {} if first is None else first.fields
    if "scored_explanations" in fields or "scored_explanation_or_baseline_list" in fields:
        return Kind.OPENAI
    if is_transluce(fields):
        return Kind.TRANSLUCE
    is_of_units = is_neuronpedia_activation(fields) or is_neuronpedia_feature(fields)
    return Kind.NEURONPEDIA if is_of_units or is_neuronpedia(fields) else Kind.TABLE


def _unit_files(folder: Path) -> Iterator[Path]:
    for inner in folder.rglob("explanations"):
        yield from (path for path in inner.glob("*/*.jsonl") if _UNIT_FILE.fullmatch(path.name))
    if folder.name == "explanations":
        yield from (path for path in folder.glob("*/*.jsonl") if _UNIT_FILE.fullmatch(path.name))


# Readers


class Reader(Protocol):
    """The explanations of a file or a folder; `left_out` is filled while they are read."""

    def __call__(
        self, path: Path, left_out: Counter[str], /, *, source: str | None, model: str | None
    ) -> Iterator[ListedExplanation]: ...


def _read_transluce(
    path: Path, left_out: Counter[str], *, source: str | None, model: str | None
) -> Iterator[ListedExplanation]:
    del model  # each of their neurons names its own
    return read_transluce(path, left_out, source=source)


def _read_neuronpedia(
    path: Path, left_out: Counter[str], *, source: str | None, model: str | None
) -> Iterator[ListedExplanation]:
    """Of a file without explanations, what it holds is counted: a library has no place for it."""
    first = next(read_rows(path), None)
    fields = {} if first is None else first.fields
    if is_neuronpedia_activation(fields):
        for unit in read_neuronpedia_activations(path, left_out):
            left_out[WINDOW] += len(unit.windows)
    elif is_neuronpedia_feature(fields):
        for _ in read_neuronpedia_features(path, left_out):
            left_out[FACTS] += 1
    else:
        yield from read_neuronpedia(path, left_out, source=source, model=model)


def _read_openai(
    path: Path, left_out: Counter[str], *, source: str | None, model: str | None
) -> Iterator[ListedExplanation]:
    paths = sorted(_unit_files(path), key=_place) if path.is_dir() else [path]
    for file in paths:
        with readable(file):
            document = file.read_bytes()
        results, not_read = read_results(document, file)
        left_out.update(not_read)
        yield from list_results(results, file, left_out, source=source or OPENAI, model=model)


def _place(path: Path) -> tuple[int, str, int]:
    """Layers and neurons by number, other folders last."""
    layer = path.parent.name
    number = int(layer) if layer.isdecimal() and len(layer) < 10 else 10**10
    return number, str(path.parent), int(path.stem[:18])


def _read_bundle(
    path: Path, left_out: Counter[str], *, source: str | None, model: str | None
) -> Iterator[ListedExplanation]:
    del model  # a bundle names its own
    with open_bundle(path) as bundle:
        content = bundle.manifest.content
        for explanation in bundle.explanations():
            if has_text(explanation.result, left_out):
                try:
                    yield list_unit(
                        explanation.result, source=source or content.run, model=content.subject
                    )
                except ValueError as error:
                    raise RecordFormatError(path, str(error)) from error


READERS: dict[Kind, Reader] = {
    Kind.RUN: read_own,
    Kind.BUNDLE: _read_bundle,
    Kind.DELPHI: read_delphi,
    Kind.NEURONPEDIA: _read_neuronpedia,
    Kind.OPENAI: _read_openai,
    Kind.TRANSLUCE: _read_transluce,
    Kind.TABLE: read_table,
}
