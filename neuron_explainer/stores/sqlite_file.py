"""An sqlite file of which each statement is a transaction, shared by processes through WAL.

What is written survives the process that wrote it, however that ends. After a power failure the
last writes may be missing; what is there is whole.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neuron_explainer.errors import StoreError

BUSY_S = 30
"""So long a process waits for another one's write."""


class SqliteFile:
    """StoreError, which names the file, for everything that goes wrong."""

    def __init__(self, path: Path, schema: str) -> None:
        """schema: one statement, which does nothing where the table is there."""
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_S)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error
        try:
            for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL", schema):
                self.execute(statement)
        except StoreError:
            self.close()
            raise

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def close(self) -> None:
        self._connection.close()

    def _unusable(self, error: Exception) -> StoreError:
        return StoreError(f"{self._path}: {error}; free some space, or move the file away")
