"""What one state of an index leaves for the requests to come, until the index changes.

A connection that stays open has read the file's schema and many of its pages; how many rows a list
has is counted once, and what is on the next page of a search was found with the first.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neuron_explainer.errors import StoreError
from neuron_explainer.viewer.searches import Searches
from neuron_explainer.viewer.selection import Selection
from neuron_explainer.viewer.unit_rows import Method, UnitRows

N_COUNTS = 256
"""Of selections, that are kept."""
N_IDLE = 8
"""Connections that are kept."""


class KeptRows:
    """Of one state of the file; once that is over, it lends but keeps nothing."""

    def __init__(self, path: Path, *, is_over: bool = False) -> None:
        self._path = path
        self._is_over = is_over
        # A csv file that is left unread gives its rows back wherever its lines are collected.
        self._lock = threading.RLock()
        self._idle: list[UnitRows] = []
        self._searches = Searches()
        self._counts: dict[tuple[int, Selection], int] = {}
        weakref.finalize(self, _close_all, self._idle)

    def end(self) -> None:
        """The file is about to change."""
        with self._lock:
            self._is_over = True
            _close_all(self._idle)

    @contextmanager
    def lend(self) -> Iterator[UnitRows | None]:
        """Rows that nobody else has; None: nothing is explained yet."""
        rows = self._take()
        if rows is None:
            yield None
            return
        is_sound = True
        try:
            yield rows
        except StoreError:
            is_sound = False  # another connection may do what this one cannot
            raise
        finally:
            if is_sound:
                self._take_back(rows)
            else:
                rows.close()

    def count(self, rows: UnitRows, method: Method, selection: Selection) -> int:
        """Rows of a selection."""
        if self._is_over:
            return rows.count(method, selection)
        asked = (method.number, selection.narrowed())
        n = self._counts.get(asked)
        if n is None:
            n = rows.count(method, selection)
            if len(self._counts) >= N_COUNTS:
                self._counts.clear()
            self._counts[asked] = n
        return n

    def _take(self) -> UnitRows | None:
        with self._lock:
            rows = self._idle.pop() if self._idle else None
        if rows is not None:
            if rows.is_there:
                return rows
            rows.close()
        return self._open()

    def _open(self) -> UnitRows | None:
        if not self._path.exists():
            return None
        rows = UnitRows(self._path, None if self._is_over else self._searches)
        if rows.is_made:
            return rows
        rows.close()
        return None

    def _take_back(self, rows: UnitRows) -> None:
        with self._lock:
            if not self._is_over and len(self._idle) < N_IDLE:
                self._idle.append(rows)
                return
        rows.close()


def _close_all(idle: list[UnitRows]) -> None:
    while idle:
        idle.pop().close()
