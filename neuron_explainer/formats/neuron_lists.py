"""Lists of neurons in a file: LAYER:NEURON in plain text, or a table with a row a neuron."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from neuron_explainer.errors import RecordFormatError, UsageError
from neuron_explainer.formats.rows import Row, known_ending, read_rows, readable
from neuron_explainer.formats.spellings import SPELLINGS, Role, parse_index, spell
from neuron_explainer.records.neuron import NeuronId

ROLES = (Role.LAYER, Role.UNIT)


def read_neuron_list(path: Path) -> list[NeuronId]:
    """In the file's order, as often as they are there.

    Of csv, tsv, JSON lines, JSON and parquet: the columns of layer and neuron in any common
    spelling; of any other file: LAYER:NEURON, with white space between, and `#` before a remark.
    RecordFormatError for a file or a line that is none of it.
    """
    if known_ending(path) is None:
        return _read_text(path)
    return [_read_row(path, row) for row in read_rows(path)]


def _read_text(path: Path) -> list[NeuronId]:
    with readable(path):
        content = path.read_bytes()
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise RecordFormatError(path, "not UTF-8 text; write LAYER:NEURON, one a line") from error
    neuron_ids = []
    for number, line in enumerate(lines, 1):
        try:
            neuron_ids += [NeuronId.parse(word) for word in line.partition("#")[0].split()]
        except UsageError as error:
            raise RecordFormatError(path, f"line {number}: {error}") from error
    return neuron_ids


def read_columns(columns: Mapping[str, Sequence[object]]) -> list[NeuronId]:
    """Of a table by its columns, a neuron each row; ValueError, which says the row, from 1."""
    layer, unit = _find_columns(tuple(columns))
    neuron_ids = []
    for number, values in enumerate(zip(columns[layer], columns[unit], strict=True), 1):
        try:
            neuron_ids.append(_parse({layer: values[0], unit: values[1]}, (layer, unit)))
        except ValueError as error:
            raise ValueError(f"row {number}: {error}") from error
    return neuron_ids


def _read_row(path: Path, row: Row) -> NeuronId:
    try:
        columns = _find_columns(tuple(row.fields))
    except ValueError as error:
        raise RecordFormatError(path, str(error)) from error
    try:
        return _parse(row.fields, columns)
    except ValueError as error:
        raise RecordFormatError(path, f"{row.where}: {error}") from error


def _parse(fields: Mapping[str, object], columns: tuple[str, str]) -> NeuronId:
    """ValueError for what is no number, or none from 0."""
    numbers: list[int] = []
    for role, name in zip(ROLES, columns, strict=True):
        number = parse_index(fields[name], role)
        if number is None or number < 0:
            raise ValueError(f"{fields[name]!r:.40} in column {name!r}")
        numbers.append(number)
    return NeuronId(*numbers)


@cache
def _find_columns(names: tuple[str, ...]) -> tuple[str, str]:
    """Of layer and neuron; the first spelling that is there wins. ValueError when one is not."""
    spelled = {spell(name): name for name in reversed(names)}
    layer, unit = (
        next((spelled[known] for known in SPELLINGS[role] if known in spelled), None)
        for role in ROLES
    )
    if layer is None or unit is None:
        has = ", ".join(names) or "none"
        raise ValueError(
            f"a table of neurons has the columns layer and neuron (this one has {has})"
        )
    return layer, unit
