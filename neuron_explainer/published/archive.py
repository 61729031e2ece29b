"""One sqlite file that holds whole layers of the published dataset.

    documents  one row a document that a source was asked for: its original bytes, zlib'ed, or
               NULL where that source has none; which source, and when. A document that comes
               later has a larger id, so that readers can go on where they were
    birth      one row: a random name, which tells this archive from one made anew in its place

One process fills it while others read (WAL). What is in it stays, whatever happens to the process
that put it there; a document is never replaced, the mark that there is none gives way to one.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from neuron_explainer.errors import StoreError
from neuron_explainer.published.locations import DocumentId, Kind
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.closing import Closing
from neuron_explainer.stores.sqlite_file import BUSY_S, SqliteFile, reader_mode

SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    id INTEGER PRIMARY KEY,
    dataset TEXT NOT NULL,
    kind TEXT NOT NULL,
    layer_index INTEGER NOT NULL,
    neuron_index INTEGER NOT NULL,
    source TEXT NOT NULL,
    fetched_at TEXT NOT NULL,
    document BLOB,
    UNIQUE (dataset, kind, layer_index, neuron_index)
)
"""
BIRTH = "CREATE TABLE IF NOT EXISTS birth AS SELECT lower(hex(randomblob(8))) AS name"
ADD = """
INSERT INTO documents (
    dataset, kind, layer_index, neuron_index, source, fetched_at, document
) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    id = (SELECT max(id) + 1 FROM documents), source = excluded.source,
    fetched_at = excluded.fetched_at, document = excluded.document
WHERE document IS NULL
"""
COLUMNS = (
    "dataset", "kind", "layer_index", "neuron_index", "source", "fetched_at", "document"
)  # fmt: skip
HAS_COLUMNS = (
    f"SELECT count(*) = {len(COLUMNS)} FROM pragma_table_info('documents') "
    f"WHERE name IN ({', '.join(map(repr, COLUMNS))})"
)
LEVEL = 4
"""Of zlib."""


class Archived(NamedTuple):
    """What a source said."""

    document: bytes | None
    """As it came; None: the source has none."""
    source: str
    fetched_at: str
    """UTC, ISO 8601."""


class Numbered(NamedTuple):
    """A document and its place in the order in which an archive got its documents."""

    number: int
    which: DocumentId
    document: bytes


class Archive(Closing):
    """StoreError for a file that is none, or is damaged."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """read_only: it must be there, and may be on a disk that cannot be written."""
        if read_only and not path.is_file():
            raise StoreError(f"no archive {path}; run jobs/download.py first")
        if not read_only and path.is_file():
            _require_archive(path)
        self.path = path
        self.is_read_only = read_only
        self._file = SqliteFile(path, SCHEMA, BIRTH, read_only=read_only)
        try:
            if read_only and self._file.execute(HAS_COLUMNS) != [(1,)]:
                raise _no_archive(path)
        except StoreError:
            self.close()
            raise

    def close(self) -> None:
        self._file.close()

    def add(self, which: DocumentId, document: bytes | None, source: str) -> None:
        """Kept from now on; document None: the source has none."""
        packed = None if document is None else zlib.compress(document, LEVEL)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._file.execute(ADD, (*_key(which), source, now, packed))

    def read(self, which: DocumentId) -> Archived | None:
        """None when no source was asked for it yet."""
        rows = self._file.execute(
            "SELECT document, source, fetched_at FROM documents "
            "WHERE dataset = ? AND kind = ? AND layer_index = ? AND neuron_index = ?",
            _key(which),
        )
        if not rows:
            return None
        packed, source, fetched_at = rows[0]
        document = None if packed is None else self._unpack(packed, which)
        return Archived(document, source, fetched_at)

    def _unpack(self, packed: bytes, which: DocumentId) -> bytes:
        try:
            return zlib.decompress(packed)
        except (zlib.error, TypeError) as error:
            raise StoreError(
                f"{self.path}: {which.path} is damaged ({error}); move the file away and "
                "download again"
            ) from error

    def known(self, dataset: str, kind: Kind, layer_index: int, source: str) -> set[int]:
        """Neurons of a layer for which there is nothing more to ask this source."""
        rows = self._file.execute(
            "SELECT neuron_index FROM documents WHERE dataset = ? AND kind = ? "
            "AND layer_index = ? AND (document IS NOT NULL OR source = ?)",
            (dataset, kind, layer_index, source),
        )
        return {int(neuron_index) for (neuron_index,) in rows}

    @property
    def name(self) -> str:
        """Of this very archive: another one at the same path has another name."""
        return str(self._file.execute("SELECT name FROM birth")[0][0])

    @property
    def last_number(self) -> int:
        """Of the newest document; 0 for an empty archive."""
        return int(self._file.execute("SELECT coalesce(max(id), 0) FROM documents")[0][0])

    def since(
        self, number: int, dataset: str, kind: Kind, *, n_at_once: int = 256
    ) -> Iterator[Numbered]:
        """What of a kind came after the document of that number, in the order in which it came."""
        query = (
            "SELECT id, layer_index, neuron_index, document FROM documents WHERE id > ? "
            "AND kind = ? AND dataset = ? AND document IS NOT NULL ORDER BY id LIMIT ?"
        )
        while rows := self._file.execute(query, (number, kind.value, dataset, n_at_once)):
            for number, layer_index, neuron_index, packed in rows:
                which = DocumentId(dataset, kind, NeuronId(layer_index, neuron_index))
                yield Numbered(number, which, self._unpack(packed, which))

    def documents(self) -> Iterator[DocumentId]:
        """Those that are there, layer by layer."""
        layers = self._file.execute(
            "SELECT DISTINCT dataset, kind, layer_index FROM documents ORDER BY 1, 2, 3"
        )
        for dataset, kind, layer_index in layers:
            neurons = self._file.execute(
                "SELECT neuron_index FROM documents WHERE dataset = ? AND kind = ? "
                "AND layer_index = ? AND document IS NOT NULL ORDER BY neuron_index",
                (dataset, kind, layer_index),
            )
            for (neuron_index,) in neurons:
                yield DocumentId(dataset, Kind(kind), NeuronId(layer_index, neuron_index))


def _require_archive(path: Path) -> None:
    """StoreError for the file of another program, or of another kind: it is left as it is."""
    is_closed = not Path(f"{path}-wal").exists()
    uri = f"{path.absolute().as_uri()}?mode={reader_mode(path, is_closed=is_closed)}"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_S)) as file:
            is_empty = not file.execute("SELECT 1 FROM sqlite_master").fetchall()
            is_archive = file.execute(HAS_COLUMNS).fetchall() == [(1,)]
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}; name an archive, or move the file away") from error
    if not is_empty and not is_archive:
        raise _no_archive(path)


def _no_archive(path: Path) -> StoreError:
    return StoreError(f"{path} is no archive of published documents, as jobs/download.py makes")


def _key(which: DocumentId) -> tuple[str, str, int, int]:
    neuron_id = which.neuron_id
    return which.dataset, which.kind.value, neuron_id.layer_index, neuron_id.neuron_index
