"""Texts of one file: plain text and markdown, JSON lines (also gzipped), parquet.

Each reader takes a path and the name of the text's field, streams the texts, and raises
CorpusError in one line that says where the file is not what it should be.
"""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, NoReturn, TextIO

from neuron_explainer.collector.documents import valid_unicode
from neuron_explainer.errors import CorpusError

MARKER = "<|endoftext|>"
"""Between the documents of a text file that holds any."""

DOCUMENT_CHARS = 4_000
"""A text file without markers is cut at the first blank line after this many characters."""

MAX_DOCUMENT_CHARS = 8_000
"""Where no blank line comes before this many, it is cut at the last line end or space instead."""

_CHUNK_CHARS = 1 << 16
_ROWS_PER_BATCH = 256


class Piece(NamedTuple):
    """One text of a file."""

    number: int
    """Part of a text file, line of JSON lines, row of parquet; from 1."""
    text: str


def read_pieces(path: Path, text_field: str) -> Iterator[Piece]:
    """The file's texts, in its order; the path must have a known ending."""
    ending = known_ending(path)
    if ending is None:
        raise CorpusError(f"{path}: unknown file ending; known are {', '.join(KNOWN_ENDINGS)}")
    with readable(path):
        yield from _READERS[ending](path, text_field)


def known_ending(path: Path) -> str | None:
    """Which of KNOWN_ENDINGS the file's name has; upper case is taken as lower."""
    return next((ending for ending in KNOWN_ENDINGS if path.name.lower().endswith(ending)), None)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns what the system, or a damaged compressed file, raises into a CorpusError."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as e:
        reason = getattr(e, "strerror", None) or str(e)
        raise CorpusError(f"{path}: cannot be read ({reason}); is the file whole?") from e


# Text and markdown


def _read_text(path: Path, _text_field: str) -> Iterator[Piece]:
    chunks = _text_chunks(path)
    parts = _split_at_markers(chunks) if _holds_marker(path) else _cut(chunks)
    full_parts = filter(None, (part.strip() for part in parts))
    yield from map(Piece._make, enumerate(full_parts, start=1))


def _text_chunks(path: Path) -> Iterator[str]:
    """The text by _CHUNK_CHARS, line ends as "\\n"; CorpusError when it is not UTF-8."""
    with path.open(encoding="utf-8-sig") as file:
        while chunk := _next_chunk(file, path):
            yield chunk


def _next_chunk(file: TextIO, path: Path) -> str:
    try:
        chunk = file.read(_CHUNK_CHARS)
    except UnicodeDecodeError as e:
        _refuse_binary(path, e)
    if "\0" in chunk:
        _refuse_binary(path)
    return chunk


def _refuse_binary(path: Path, cause: Exception | None = None) -> NoReturn:
    offset = _first_bad_byte(path)
    raise CorpusError(
        f"{path}: not UTF-8 text (byte {offset:,}); convert it to UTF-8, or leave it out"
    ) from cause


def _first_bad_byte(path: Path) -> int:
    """Offset of the first byte that is NUL or breaks UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0  # of the bytes that the decoder holds back, or of the next chunk
    with path.open("rb") as file:
        while True:
            chunk = file.read(_CHUNK_CHARS)
            held_back = decoder.getstate()[0]
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as e:
                nul = (held_back + chunk).find(b"\0", 0, e.start)
                return offset + (e.start if nul < 0 else nul)
            if "\0" in text or not chunk:
                return offset + (held_back + chunk).find(b"\0")
            offset += len(held_back) + len(chunk) - len(decoder.getstate()[0])


def _holds_marker(path: Path) -> bool:
    tail = ""
    for chunk in _text_chunks(path):
        if MARKER in tail + chunk:
            return True
        tail = chunk[1 - len(MARKER) :]
    return False


def _split_at_markers(chunks: Iterable[str]) -> Iterator[str]:
    """The text between the markers, which may lie across chunks; one text in memory."""
    held: list[str] = []
    tail = ""  # too short to hold a marker
    for chunk in chunks:
        *ended, rest = (tail + chunk).split(MARKER)
        for text in ended:
            yield "".join([*held, text])
            held = []
        tail_start = max(0, len(rest) - len(MARKER) + 1)
        held.append(rest[:tail_start])
        tail = rest[tail_start:]
    yield "".join([*held, tail])


def _cut(chunks: Iterable[str]) -> Iterator[str]:
    """The text in parts of DOCUMENT_CHARS to MAX_DOCUMENT_CHARS, the last one perhaps shorter."""
    rest = ""
    for chunk in chunks:
        rest += chunk
        while len(rest) > MAX_DOCUMENT_CHARS:
            end = _where_to_cut(rest)
            yield rest[:end]
            rest = rest[end:]
    yield rest


def _where_to_cut(text: str) -> int:
    blank_line = text.find("\n\n", DOCUMENT_CHARS, MAX_DOCUMENT_CHARS)
    if blank_line >= 0:
        return blank_line + 2
    for boundary in ("\n", " "):
        end = text.rfind(boundary, DOCUMENT_CHARS, MAX_DOCUMENT_CHARS)
        if end >= 0:
            return end + 1
    return MAX_DOCUMENT_CHARS


# JSON lines and parquet


def _read_json_lines(path: Path, text_field: str) -> Iterator[Piece]:
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.isspace():
                where = f"{path}: line {number}"
                yield Piece(number, text_of(_parse_object(line, where), text_field, where))


def _parse_object(line: bytes, where: str) -> Mapping[str, object]:
    try:
        parsed = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as e:
        raise CorpusError(f"{where} is not UTF-8 (byte {e.start:,} of the line)") from e
    except json.JSONDecodeError as e:
        raise CorpusError(
            f"{where} is not JSON ({e.msg}, column {e.colno}); give one object a line"
        ) from e
    except (ValueError, RecursionError) as e:  # a number or a nesting beyond reason
        raise CorpusError(f"{where} cannot be read as JSON ({e})") from e
    if not isinstance(parsed, dict):
        raise CorpusError(f"{where} is not a JSON object; give one object a line")
    return parsed


def text_of(record: Mapping[str, object], text_field: str, where: str) -> str:
    """The record's text; nothing for null. CorpusError when there is no such field of text."""
    if text_field not in record:
        raise _no_field(where, text_field, record)
    text = record[text_field]
    if text is None:
        return ""
    if not isinstance(text, str):
        raise CorpusError(
            f"{where} holds {type(text).__name__}, not text, in {text_field!r};"
            " name the text's field with --text-field"
        )
    return valid_unicode(text)


def _no_field(where: str, text_field: str, fields: Iterable[str]) -> CorpusError:
    return CorpusError(
        f"{where} has no field {text_field!r} (has {', '.join(fields) or 'none'});"
        " name the text's field with --text-field"
    )


def _read_parquet(path: Path, text_field: str) -> Iterator[Piece]:
    # Imported here because it takes longer than the rest of the package together.
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if text_field not in file.schema_arrow.names:
                raise _no_field(f"{path}:", text_field, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(_ROWS_PER_BATCH, columns=[text_field]):
                for record in batch.to_pylist():
                    number += 1
                    yield Piece(number, text_of(record, text_field, f"{path}: row {number}"))
    except pyarrow.ArrowException as e:
        reason = str(e).splitlines()[0]
        raise CorpusError(f"{path}: cannot be read as parquet ({reason})") from e


_READERS: dict[str, Callable[[Path, str], Iterator[Piece]]] = {
    ".txt": _read_text,
    ".md": _read_text,
    ".jsonl": _read_json_lines,
    ".jsonl.gz": _read_json_lines,
    ".parquet": _read_parquet,
}

KNOWN_ENDINGS = tuple(_READERS)
