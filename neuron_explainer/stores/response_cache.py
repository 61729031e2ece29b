"""Answers of language models in sqlite, by the key of the question; appended, never changed."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime
from pathlib import Path

from neuron_explainer.errors import StoreError
from neuron_explainer.stores.closing import Closing
from neuron_explainer.stores.sqlite_file import SqliteFile

SCHEMA = """
CREATE TABLE IF NOT EXISTS responses (
    key TEXT PRIMARY KEY,
    response TEXT NOT NULL,
    created_at TEXT NOT NULL
) WITHOUT ROWID
"""


LONG_BYTES = 512
"""Answers from this size on are compressed; shorter ones would not be smaller by much."""
ZLIB_LEVEL = 6


class SqliteResponseCache(Closing):
    """One file that several runs may share; each answer is in it before it is used."""

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, SCHEMA)

    def close(self) -> None:
        self._file.close()

    def read(self, key: str) -> str | None:
        """None when there is none."""
        rows = self._file.execute("SELECT response FROM responses WHERE key = ?", (key,))
        return _unpacked(rows[0][0]) if rows else None

    def write(self, key: str, response: str) -> None:
        """Kept from now on; the first one written for a key stays."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        values = (key, _packed(response), now)
        self._file.execute("INSERT OR IGNORE INTO responses VALUES (?, ?, ?)", values)


def _packed(response: str) -> str | bytes:
    raw = response.encode("utf-8", "surrogatepass")
    return response if len(raw) < LONG_BYTES else zlib.compress(raw, ZLIB_LEVEL)


def _unpacked(kept: str | bytes) -> str:
    """StoreError for what cannot be read."""
    if isinstance(kept, str):
        return kept
    try:
        return zlib.decompress(kept).decode("utf-8", "surrogatepass")
    except (zlib.error, UnicodeError) as error:
        raise StoreError(
            f"an answer in the cache is damaged ({error}); move the cache's file away"
        ) from error
