"""Answers of language models in sqlite, by the key of the question; appended, never changed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from neuron_explainer.stores.sqlite_file import SqliteFile

SCHEMA = """
CREATE TABLE IF NOT EXISTS responses (
    key TEXT PRIMARY KEY,
    response TEXT NOT NULL,
    created_at TEXT NOT NULL
) WITHOUT ROWID
"""


class SqliteResponseCache:
    """One file that several runs may share; each answer is in it before it is used."""

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._file.close()

    def read(self, key: str) -> str | None:
        """None when there is none."""
        rows = self._file.execute("SELECT response FROM responses WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def write(self, key: str, response: str) -> None:
        """Kept from now on; the first one written for a key stays."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._file.execute("INSERT OR IGNORE INTO responses VALUES (?, ?, ?)", (key, response, now))
