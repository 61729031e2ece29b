"""A run as a bundle that others can use without this program, both ways.

    manifest.json         BundleManifest: what it is of, and the size and hash of every file
    README.md             what each field means
    explanations.jsonl    BundledExplanation: a line for each unit and method
    explanations.parquet  the same as a table (formats/bundle_table.py)
    simulations.jsonl     BundledSimulation: windows that were scored, real and simulated
    patterns.jsonl        BundledPatterns: a line for each unit and method that has some; there
                          is none where no method has
    windows.jsonl         NeuronRecord: a line for each unit; may be left out

A line has the record's own fields (formats/plain.py), the unit's two numbers among them. What is
written reads back equal. Rows stream both ways; the manifest is written last.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.formats.bundle_files import BundleSource, BundleTarget
from neuron_explainer.formats.bundle_table import write_bundle_table
from neuron_explainer.formats.plain import from_plain, parse_object, to_plain, write_line
from neuron_explainer.records.bundle import (
    BundleContent,
    BundledExplanation,
    BundledFile,
    BundledPatterns,
    BundledSimulation,
    BundleManifest,
    ScoredText,
)
from neuron_explainer.records.neuron import ActivationRecord, NeuronId, NeuronRecord
from neuron_explainer.records.patterns import FoundPatterns
from neuron_explainer.records.unit_result import UnitResult

FORMAT = "neuron-explainer bundle"
VERSION = 2
"""1: the same without patterns.jsonl."""
MANIFEST = "manifest.json"
README = "README.md"
EXPLANATIONS = "explanations.jsonl"
TABLE = "explanations.parquet"
SIMULATIONS = "simulations.jsonl"
PATTERNS = "patterns.jsonl"
WINDOWS = "windows.jsonl"
REQUIRED = (README, EXPLANATIONS, TABLE, SIMULATIONS)
OPTIONAL = (PATTERNS, WINDOWS)
README_TEXT = Path(__file__).with_name("bundle_readme.md")
Row = TypeVar("Row")


def is_bundle(path: Path) -> bool:
    """Whether a folder or a file is meant as one, whole or damaged."""
    if path.is_dir():
        return any((path / name).is_file() for name in (MANIFEST, EXPLANATIONS))
    return path.suffix.lower() == ".zip"


class BundleWriter:
    """Writes the files one after the other; `finish` makes a bundle of them."""

    def __init__(self, target: BundleTarget) -> None:
        self._target = target
        self._files: dict[str, BundledFile] = {}

    def write_explanations(self, explanations: Iterable[BundledExplanation]) -> None:
        self._write_lines(EXPLANATIONS, map(_plain_explanation, explanations))

    def write_table(
        self, explanations: Iterable[BundledExplanation], score_names: Sequence[str]
    ) -> None:
        """The same explanations again; score_names: all that any of them has."""
        with self._target.file(TABLE) as file:
            n_rows = write_bundle_table(file, explanations, score_names)
            self._files[TABLE] = file.described(n_rows)

    def write_simulations(self, simulations: Iterable[BundledSimulation]) -> None:
        self._write_lines(SIMULATIONS, map(_plain_unit, simulations))

    def write_patterns(self, patterns: Iterable[BundledPatterns]) -> None:
        self._write_lines(PATTERNS, map(_plain_patterns, patterns))

    def write_windows(self, records: Iterable[NeuronRecord]) -> None:
        self._write_lines(WINDOWS, map(_plain_unit, records))

    def finish(self, content: BundleContent) -> BundleManifest:
        with self._target.file(README) as file:
            file.write(README_TEXT.read_bytes())
            self._files[README] = file.described(None)
        tool = f"neuron-explainer {version('neuron-explainer')}"
        manifest = BundleManifest(FORMAT, VERSION, tool, content, self._files)
        with self._target.file(MANIFEST) as file:
            text = json.dumps(to_plain(manifest), indent=1, allow_nan=False)
            file.write(f"{text}\n".encode())
        return manifest

    def _write_lines(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        n_rows = 0
        with self._target.file(name) as file:
            for row in rows:
                file.write(write_line(row))
                n_rows += 1
            self._files[name] = file.described(n_rows)


class Bundle:
    """A bundle whose files are all whole; its rows are read as they are asked for."""

    def __init__(self, source: BundleSource) -> None:
        """RecordFormatError for a file that is missing or changed, and for a newer version."""
        self._source = source
        self.manifest = _read_manifest(source)
        for name, expected in self.manifest.files.items():
            source.verify(name, expected)

    @property
    def has_windows(self) -> bool:
        return WINDOWS in self.manifest.files

    def explanations(self) -> Iterator[BundledExplanation]:
        """By method, layer and unit."""
        return self._rows(EXPLANATIONS, _parse_explanation)

    def simulations(self) -> Iterator[BundledSimulation]:
        """In the order of the explanations."""
        return self._rows(SIMULATIONS, _parse_simulation)

    def patterns(self) -> Iterator[BundledPatterns]:
        """In the order of the explanations; none in a bundle that was written without them."""
        is_there = PATTERNS in self.manifest.files
        return self._rows(PATTERNS, _parse_patterns) if is_there else iter(())

    def windows(self) -> Iterator[NeuronRecord]:
        """By layer and unit; none in a bundle that was written without them."""
        return self._rows(WINDOWS, _parse_record) if self.has_windows else iter(())

    def _rows(self, name: str, parse: Callable[[dict[str, Any]], Row]) -> Iterator[Row]:
        """RecordFormatError names the line."""
        n_rows = 0
        for line in self._source.lines(name):
            n_rows += 1
            try:
                row = parse(parse_object(line))
            except ValueError as error:
                where = self._source.where(name)
                raise RecordFormatError(where, f"line {n_rows:,}: {error}") from error
            yield row
        expected = self.manifest.files[name].n_rows
        if n_rows != expected:
            reason = f"{n_rows:,} lines where {MANIFEST} says {expected}"
            raise RecordFormatError(self._source.where(name), reason)


@contextmanager
def open_bundle(path: Path) -> Iterator[Bundle]:
    """A folder or a zip, verified; RecordFormatError names the file that is not whole."""
    source = BundleSource(path)
    try:
        yield Bundle(source)
    finally:
        source.close()


def _read_manifest(source: BundleSource) -> BundleManifest:
    where = source.where(MANIFEST)
    try:
        raw = parse_object(source.read(MANIFEST))
        if raw.get("format") != FORMAT:
            raise ValueError(f"its format is {raw.get('format')!r:.40}, not {FORMAT!r}")
        number = from_plain(int, raw.get("version"), "version")
        if number > VERSION:
            raise ValueError(
                f"version {number} is newer than this program reads ({VERSION}); "
                "install a newer neuron-explainer"
            )
        manifest = from_plain(BundleManifest, raw, "the manifest")
        if number < 1:
            raise ValueError(f"version {number} is none")
        _require_known_files(manifest)
    except ValueError as error:
        raise RecordFormatError(where, str(error)) from error
    return manifest


def _require_known_files(manifest: BundleManifest) -> None:
    for name in REQUIRED:
        if name not in manifest.files:
            raise ValueError(f"it does not list {name}")
    for name in manifest.files:
        if name not in (*REQUIRED, *OPTIONAL):  # and so none outside the folder
            raise ValueError(f"it lists {name!r:.40}, which is no file of a bundle")


# Lines


def _plain_explanation(explanation: BundledExplanation) -> dict[str, Any]:
    return {
        "method": explanation.method,
        **_plain_unit(explanation.result),
        "candidates": to_plain(explanation.candidates),
    }


def _plain_unit(record: UnitResult | BundledSimulation | NeuronRecord) -> dict[str, Any]:
    """Its fields, the unit's two numbers in place of `neuron_id`."""
    plain: dict[str, Any] = to_plain(record)
    place: dict[str, Any] = plain.pop("neuron_id")
    return place | plain


def _parse_explanation(raw: dict[str, Any]) -> BundledExplanation:
    method = from_plain(str, raw.pop("method", None), "method")
    candidates = from_plain(tuple[ScoredText, ...], raw.pop("candidates", None), "candidates")
    result = _parse_unit(UnitResult, raw)
    if (result.text is None) == (result.reason is None):
        raise ValueError("there is a text or a reason, and not both")
    if result.headline is not None and result.headline not in result.scores:
        raise ValueError(f"the headline {result.headline!r:.40} is none of the scores")
    return BundledExplanation(method, result, candidates)


def _plain_patterns(patterns: BundledPatterns) -> dict[str, Any]:
    """The unit's two numbers, the method, and what was found."""
    return {
        **to_plain(patterns.neuron_id),
        "method": patterns.method,
        **to_plain(patterns.found),
    }


def _parse_patterns(raw: dict[str, Any]) -> BundledPatterns:
    method = from_plain(str, raw.pop("method", None), "method")
    neuron_id = _pop_unit(raw)
    return BundledPatterns(method, neuron_id, from_plain(FoundPatterns, raw, "the line"))


def _parse_simulation(raw: dict[str, Any]) -> BundledSimulation:
    simulation = _parse_unit(BundledSimulation, raw)
    for window in simulation.windows:
        n_tokens = len(window.simulation.tokens)
        if len(window.true_activations) != n_tokens:
            raise ValueError(f"{len(window.true_activations)} activations for {n_tokens} tokens")
    return simulation


def _parse_record(raw: dict[str, Any]) -> NeuronRecord:
    record = _parse_unit(NeuronRecord, raw)
    in_strata = (window for stratum in record.strata for window in stratum.records)
    for window in (*record.top, *in_strata, *record.random):
        _require_an_activation(window)
    return record


def _require_an_activation(window: ActivationRecord) -> None:
    if all(activation is None for activation in window.activations):
        raise ValueError("a window has no activation")


def _parse_unit(kind: type[Row], raw: dict[str, Any]) -> Row:
    neuron_id = _pop_unit(raw)
    return from_plain(kind, raw | {"neuron_id": to_plain(neuron_id)}, "the line")


def _pop_unit(raw: dict[str, Any]) -> NeuronId:
    place = {name: raw.pop(name) for name in ("layer_index", "neuron_index") if name in raw}
    neuron_id = from_plain(NeuronId, place, "the unit")
    if min(neuron_id.layer_index, neuron_id.neuron_index) < 0:
        raise ValueError(f"{neuron_id} is no unit")
    return neuron_id
