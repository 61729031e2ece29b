"""A run's results as a file: opened, brought up to date, read, and written in transactions."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neuron_explainer.errors import StoreError
from neuron_explainer.stores.closing import Closing
from neuron_explainer.stores.migrations import migrate, version_of
from neuron_explainer.stores.results_schema import CHANGES, OLDEST_READABLE
from neuron_explainer.stores.sqlite_file import reader_mode

OF_THE_DISK = (
    "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_BUSY"
)  # fmt: skip
"""sqlite's errors that say nothing of what is in the file."""


class ResultsFile(Closing):
    """The tables of `results_schema.py`; `read_only` readers never block the writer (WAL).

    `immutable`, of a reader: no process writes, so sqlite need not put its own files beside it.
    """

    def __init__(self, path: Path, *, read_only: bool = False, immutable: bool = False) -> None:
        if read_only and not path.exists():
            raise StoreError(f"no results in {path.parent}; run `explain` first")
        mode = reader_mode(path, is_closed=immutable) if read_only else "rwc"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        with self._reading():
            self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True)
            if not read_only:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = NORMAL")
                migrate(self._connection, CHANGES)
            is_old = version_of(self._connection) < OLDEST_READABLE  # opens the file
        if is_old:
            self._connection.close()
            raise StoreError(
                f"{path} is of an earlier version; run `explain` to bring it up to date"
            )

    def close(self) -> None:
        self._connection.close()

    @property
    def path(self) -> Path:
        return self._path

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All that is read inside is of one moment, whatever is written meanwhile."""
        with self._reading():
            self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.rollback()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """StoreError where the file is not what was written."""
        try:
            yield
        except (sqlite3.Error, zlib.error, ValueError, LookupError, TypeError) as error:
            raise store_error(self._path, error) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it or nothing; StoreError when sqlite cannot write."""
        try:
            with self._connection:
                yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # sqlite's own text, damaged
            raise store_error(self._path, error) from error


def store_error(path: Path, error: Exception) -> StoreError:
    """What to do about it: see to the disk, or move the file away."""
    name = getattr(error, "sqlite_errorname", "")
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    if name.startswith(OF_THE_DISK):
        return StoreError(f"{path}: {reason}; see to the disk, then give the same command again")
    return StoreError(
        f"{path} cannot be used as results ({reason}); move it away and run `explain` again"
    )
