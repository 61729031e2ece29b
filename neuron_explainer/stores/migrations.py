"""Ordered changes of an sqlite file's schema, each in one transaction with its record."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence


def version_of(connection: sqlite3.Connection) -> int:
    """How many changes the file has seen; 0 for a new one."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, changes: Sequence[str]) -> None:
    """Makes the changes that the file has not seen yet, in order; each is whole or not there."""
    for number in range(version_of(connection), len(changes)):
        connection.executescript(
            f"BEGIN IMMEDIATE; {changes[number]}; PRAGMA user_version = {number + 1}; COMMIT;"
        )
