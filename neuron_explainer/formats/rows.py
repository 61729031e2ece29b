"""Rows of a file of any common kind: csv, tsv, JSON lines, JSON, parquet; text also gzipped.

Each reader streams rows (a JSON document is read whole) and raises RecordFormatError, which names
the file and the line, for whatever is wrong with it. Text must be UTF-8, with or without a byte
order mark; lines end in \\n or \\r\\n. No object of JSON has a field twice.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.formats.plain import why_no_json

RANKED = ("layer", "neuron", "explanation", "score")
"""What the lists of a JSON object by rank hold, in this order; the score may be missing."""
SEARCHED = frozenset(("words", "left_out"))
"""What a search prints beside its explanations."""
_BOM = b"\xef\xbb\xbf"
_ROWS_PER_BATCH = 4096
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}

# A cell may be as long as a line of JSON.
csv.field_size_limit(sys.maxsize)


class Row(NamedTuple):
    """One record of a file."""

    where: str
    """`line 7`, `entry 7`, `row 7`; from 1."""
    fields: Mapping[str, Any]
    """By name; plain values of JSON, text alone in csv."""


def read_rows(path: Path) -> Iterator[Row]:
    """The file's rows in its order; its name must have a known ending."""
    ending = known_ending(path)
    if ending is None:
        raise RecordFormatError(path, f"unknown file ending; known are {', '.join(KNOWN_ENDINGS)}")
    with readable(path):
        yield from _READERS[ending](path)


def known_ending(path: Path) -> str | None:
    """Which of KNOWN_ENDINGS the name has, `.gz` left aside; upper case is taken as lower."""
    name = path.name.lower()
    is_packed = name.endswith(".gz")
    name = name.removesuffix(".gz")
    ending = next((ending for ending in KNOWN_ENDINGS if name.endswith(ending)), None)
    return None if is_packed and ending == ".parquet" else ending


def has_columns(path: Path) -> bool:
    """Whether every row of such a file has the same fields."""
    return known_ending(path) in (".csv", ".tsv", ".parquet")


def has_header(path: Path) -> bool:
    """Whether the first line of such a file names its columns."""
    return known_ending(path) in (".csv", ".tsv")


def read_json(path: Path) -> Any:
    """A whole JSON document."""
    with readable(path):
        text = "".join(line for _, line in _text_lines(path))
        return _parse(text, path, "")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns what the system, or a damaged compressed file, raises into a RecordFormatError."""
    try:
        yield
    except FileNotFoundError as error:
        raise RecordFormatError(path, "there is no such file or folder") from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or f"{first_line(error)}; is the file whole?"
        raise RecordFormatError(path, f"cannot be read: {reason}") from error


def first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


# csv and tsv


def _read_csv(path: Path, delimiter: str = ",") -> Iterator[Row]:
    lines = (line for _, line in _text_lines(path))
    records = csv.reader(lines, delimiter=delimiter, strict=True)
    header = _next_record(records, path)
    if header is None:
        raise RecordFormatError(path, "it is empty; the first line should name the columns")
    header = [name.strip() for name in header]
    _require_separated(header, delimiter, path)
    repeated = [name for name, n in Counter(header).items() if n > 1 and name]
    if repeated:
        raise RecordFormatError(path, f"line 1: the column {repeated[0]!r} is there twice")
    while (record := _next_record(records, path)) is not None:
        if not record:  # a blank line
            continue
        if len(record) != len(header):
            raise RecordFormatError(
                path,
                f"line {records.line_num}: {len(record)} cells for {len(header)} columns",
            )
        yield Row(f"line {records.line_num}", dict(zip(header, record, strict=True)))


def _read_tsv(path: Path) -> Iterator[Row]:
    yield from _read_csv(path, "\t")


def _require_separated(header: list[str], delimiter: str, path: Path) -> None:
    """Whether the columns of a file with one are not separated by something else."""
    found = next((sign for sign in _SEPARATORS if sign in header[0]), None) if header else None
    if len(header) == 1 and found is not None:
        way_out = "call the file .tsv" if found == "\t" else "write commas, or tabs in a .tsv"
        raise RecordFormatError(
            path,
            f"line 1: {_SEPARATORS[found]} separate the columns, not {_SEPARATORS[delimiter]}; "
            f"{way_out}",
        )


def _next_record(records: Any, path: Path) -> list[str] | None:
    """None at the end."""
    try:
        record: list[str] | None = next(records, None)
    except csv.Error as error:
        reason = f"{error}; is a quote missing before it?"
        if "new-line character" in str(error):
            reason = "\\r alone ends no line; save the file with line ends of \\n or \\r\\n"
        raise RecordFormatError(path, f"line {records.line_num}: {reason}") from error
    return record


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with their ends, from 1."""
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            content = line.removeprefix(_BOM) if number == 1 else line
            try:
                text = content.decode()
            except UnicodeDecodeError as error:
                raise RecordFormatError(
                    path, f"line {number}: not UTF-8 (byte {error.start:,} of it); convert the file"
                ) from error
            if "\0" in text:
                raise RecordFormatError(path, f"line {number}: a NUL; is it UTF-8 text?")
            yield number, text


# JSON


def _read_json_lines(path: Path) -> Iterator[Row]:
    for number, line in _text_lines(path):
        if not line.isspace():
            where = f"line {number}"
            yield Row(where, _object(_parse(line, path, f"{where}: "), path, where))


def _read_json_document(path: Path) -> Iterator[Row]:
    """A list of objects, one object, or an object of objects or of lists (RANKED) by id; or what
    `search --json` prints, which has its list beside what was searched for."""
    match read_json(path):
        case {"explanations": list() as entries, **rest} if rest.keys() <= SEARCHED:
            yield from _listed(entries, path)
        case list() as entries:
            yield from _listed(entries, path)
        case dict() as entries if entries and all(isinstance(e, dict) for e in entries.values()):
            for key, entry in entries.items():
                yield Row(f"entry {key!r}", entry)
        case dict() as entries if entries and all(isinstance(e, list) for e in entries.values()):
            for key, entry in entries.items():
                yield Row(f"entry {key!r}", _ranked(entry, path, f"entry {key!r}"))
        case dict() as fields:
            if fields:
                yield Row("entry 1", fields)
        case other:
            raise RecordFormatError(path, f"{type(other).__name__}, not a list or an object")


def _listed(entries: list[Any], path: Path) -> Iterator[Row]:
    for number, entry in enumerate(entries, start=1):
        yield Row(f"entry {number}", _object(entry, path, f"entry {number}"))


def _ranked(entry: list[Any], path: Path, where: str) -> Mapping[str, Any]:
    if len(entry) not in (len(RANKED) - 1, len(RANKED)):
        reason = f"{len(entry)} values where {', '.join(RANKED)} belong"
        raise RecordFormatError(path, f"{where}: {reason}")
    return dict(zip(RANKED, entry, strict=False))


def _object(parsed: Any, path: Path, where: str) -> Mapping[str, Any]:
    if not isinstance(parsed, dict):
        raise RecordFormatError(path, f"{where}: {type(parsed).__name__}, not an object")
    return parsed


def _parse(text: str, path: Path, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_as_object)
    except (ValueError, RecursionError) as error:
        raise RecordFormatError(path, f"{where}{why_no_json(error)}") from error


def _as_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """ValueError for a name that is there twice: one of the values would be lost."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        name = next(name for name, n in Counter(name for name, _ in pairs).items() if n > 1)
        raise ValueError(f"the field {name!r:.40} is there twice")
    return fields


# parquet


def _read_parquet(path: Path) -> Iterator[Row]:
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS_PER_BATCH):
                for fields in batch.to_pylist():
                    number += 1
                    yield Row(f"row {number}", fields)
    except (pyarrow.ArrowException, ValueError, OverflowError, MemoryError) as error:
        reason = f"no parquet, or damaged ({first_line(error)})"
        raise RecordFormatError(path, reason) from error


_READERS: Mapping[str, Callable[[Path], Iterator[Row]]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json_document,
    ".parquet": _read_parquet,
}

KNOWN_ENDINGS = tuple(_READERS)
