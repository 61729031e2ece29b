"""Lists of neurons in a file: LAYER:NEURON in plain text, or a table with a row a neuron."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from neuron_explainer.errors import RecordFormatError, UsageError
from neuron_explainer.formats.rows import Row, known_ending, read_rows, readable
from neuron_explainer.formats.spellings import SPELLINGS, Role, parse_index, spell
from neuron_explainer.records.neuron import NeuronId


def read_neuron_list(path: Path) -> list[NeuronId]:
    """In the file's order, as often as they are there.

    Of csv, tsv, JSON lines, JSON and parquet: the columns of layer and neuron in any common
    spelling; of any other file: LAYER:NEURON, with white space between. RecordFormatError for a
    file or a line that is none of it.
    """
    if known_ending(path) is None:
        return _read_text(path)
    return [_read_row(path, row) for row in read_rows(path)]


def _read_text(path: Path) -> list[NeuronId]:
    with readable(path):
        content = path.read_bytes()
    try:
        return [NeuronId.parse(word) for word in content.decode("utf-8-sig").split()]
    except UnicodeDecodeError as error:
        raise RecordFormatError(path, "not UTF-8 text; write LAYER:NEURON, one a line") from error
    except UsageError as error:
        raise RecordFormatError(path, str(error)) from error


def _read_row(path: Path, row: Row) -> NeuronId:
    numbers: list[int] = []
    for role in (Role.LAYER, Role.UNIT):
        name = _find_column(role, tuple(row.fields))
        if name is None:
            has = ", ".join(row.fields) or "none"
            reason = f"a table of neurons has the columns layer and neuron (this one has {has})"
            raise RecordFormatError(path, reason)
        try:
            number = parse_index(row.fields[name], role)
        except ValueError as error:
            raise RecordFormatError(path, f"{row.where}: {error}") from error
        if number is None or number < 0:
            raise RecordFormatError(path, f"{row.where}: {row.fields[name]!r} in column {name!r}")
        numbers.append(number)
    return NeuronId(*numbers)


@cache
def _find_column(role: Role, names: tuple[str, ...]) -> str | None:
    """The first spelling that is there wins."""
    spelled = {spell(name): name for name in reversed(names)}
    return next((spelled[known] for known in SPELLINGS[role] if known in spelled), None)
