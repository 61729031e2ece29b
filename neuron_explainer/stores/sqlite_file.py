"""An sqlite file of which each statement is a transaction, shared by processes through WAL.

What is written survives the process that wrote it, however that ends. After a power failure the
last writes may be missing; what is there is whole.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from neuron_explainer.errors import StoreError

BUSY_S = 30
"""So long a process waits for another one's write."""


class SqliteFile:
    """StoreError, which names the file, for everything that goes wrong."""

    def __init__(self, path: Path, *schema: str, read_only: bool = False) -> None:
        """schema: statements that do nothing where the table is there; a reader runs none."""
        self._path = path
        try:
            if not read_only:
                path.parent.mkdir(parents=True, exist_ok=True)
            uri = f"{path.absolute().as_uri()}?mode={reader_mode(path) if read_only else 'rwc'}"
            self._connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_S)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error
        writing = ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL", *schema)
        try:
            for statement in ("PRAGMA schema_version",) if read_only else writing:
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


def identity_of(path: Path) -> tuple[int, int] | None:
    """Which file is at a path, whatever is in it; None: there is none."""
    with suppress(OSError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None


def is_writable(path: Path) -> bool:
    """Whether the file, or a new one at its place, may be written: sqlite needs its folder, too."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    return os.access(folder, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))


def reader_mode(path: Path, *, is_closed: bool = False) -> str:
    """Of a URI. is_closed: no process writes, so sqlite need not put its own files beside it; so
    it is too where the folder may not be written and there is no -wal.
    """
    has_no_writer = not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()
    return "ro&immutable=1" if is_closed or has_no_writer else "ro"
