"""Keeps a source's index in step with its results, in a thread of its own, while pages are read."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from neuron_explainer.errors import NeuronExplainerError, StoreError
from neuron_explainer.records.cost import UnitCost
from neuron_explainer.stores.sqlite_file import identity_of
from neuron_explainer.viewer.kept_rows import KeptRows
from neuron_explainer.viewer.selection import Selection
from neuron_explainer.viewer.sources import ViewSource
from neuron_explainer.viewer.summaries import summarize
from neuron_explainer.viewer.unit_index import UnitIndex
from neuron_explainer.viewer.unit_rows import Method, UnitRows

logger = logging.getLogger(__name__)
INDEX = "view.sqlite"
LOOK_EVERY_S = 2.0
"""Whether the results have changed is looked at so seldom at least."""
A_MOMENT_S = 0.3
"""What is new is mostly read within it."""


@dataclass(frozen=True, slots=True)
class Building:
    """How far the index is; both 0: what is new has yet to be looked at."""

    n_read: int
    n_rows: int


class IndexKeeper:
    """One a source. `refresh` returns at once; `update` returns when all is read."""

    def __init__(self, source: ViewSource, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.source = source
        self.path = source.folder / INDEX
        self.building: Building | None = None
        """None: it holds all that the results held when they were last looked at."""
        self.problem: str | None = None
        """Why it could not be brought up to date; None: it could."""
        self.version = 0
        """Grows with every change."""
        self.are_records_others = False
        """Whether another collection is where the one was whose records are shown."""
        self._records = _signature_of(source.records_file)
        self._kept = KeptRows(self.path, is_over=True)
        self._clock = clock
        self._looked_s = float("-inf")
        self._seen: tuple[object, object] | None = None
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it holds what the results did, and there is nothing to tell about it."""
        return self.building is None and self.problem is None and not self.are_records_others

    def count(self, rows: UnitRows, method: Method, selection: Selection) -> int:
        """Rows of a selection; counted once for each version of the index."""
        return self._kept.count(rows, method, selection)

    def refresh(self) -> None:
        """Begins to read what is new, unless that is under way."""
        with self._looking:  # who comes meanwhile finds a thread that has been started
            is_seldom = self._clock() - self._looked_s < LOOK_EVERY_S
            if self._lock.locked() or (is_seldom and not self._is_index_gone()):
                return
            self._looked_s = self._clock()
            self._look_at_records()
            if self._signature() == self._seen:
                return
            self.building = Building(0, 0)
            thread = threading.Thread(target=self.update, name="index", daemon=True)
            thread.start()
            self._thread = thread

    def settle(self) -> None:
        """`refresh`, and a moment's patience: a page that shows numbers has the newest."""
        self.refresh()
        self.wait(A_MOMENT_S)

    def wait(self, timeout_s: float | None = None) -> None:
        """Until what `refresh` began is done."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def update(self) -> None:
        """Reads all that is new; what goes wrong is kept in `problem`, for the pages to tell."""
        with self._lock:
            results = self._results()
            self._kept.end()
            try:
                self._update()
                self.problem = None
            except NeuronExplainerError as error:
                logger.warning("%s", error)
                self.problem = str(error)
            finally:
                self._kept = KeptRows(self.path)
                self.building = None
                self._seen = (results, identity_of(self.path))

    def rows(self) -> AbstractContextManager[UnitRows | None]:
        """None: nothing is explained yet."""
        return self._kept.lend()

    def close(self) -> None:
        """Keeps no connection open any more."""
        self._kept.end()

    def _update(self) -> None:
        if self.source.open_rows is None or not any(self._results()):
            self._remove()  # nothing is explained, or not any more
            return
        with self.source.open_rows() as feed, UnitIndex(self.path) as index:
            if not index.update(feed, self.source.records.read_density, self._note):
                self.version = self.version or 1
                return
            with UnitRows(self.path) as rows:
                methods = rows.methods()
            for method in methods:
                self._summarize(index, method, feed.cost(method.fingerprint))
        self.version += 1

    def _summarize(self, index: UnitIndex, method: Method, cost: UnitCost | None) -> None:
        summary = summarize(index, method.number, method.baseline, cost)
        index.write_summary(method.number, summary.written())

    def _note(self, n_read: int, n_rows: int) -> None:
        self.building = Building(n_read, n_rows)

    def _remove(self) -> None:
        """It can be made again from results that come back."""
        if not self.path.exists():
            return
        try:
            for end in ("", "-wal", "-shm"):
                Path(f"{self.path}{end}").unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{self.path}: {error}; its results are gone") from error
        self.version += 1

    def _look_at_records(self) -> None:
        found = _signature_of(self.source.records_file)
        self._records = self._records or found
        self.are_records_others = found != self._records

    def _is_index_gone(self) -> bool:
        """Since it was last looked at."""
        was_there = self._seen is not None and self._seen[1] is not None
        return was_there and identity_of(self.path) is None

    def _signature(self) -> tuple[object, object]:
        """Of the results, and of the index, which may be moved away to be made again."""
        return self._results(), identity_of(self.path)

    def _results(self) -> tuple[object, ...]:
        return tuple(_signature_of(path) for path in self.source.watched)


class FollowedIndex(IndexKeeper):
    """An index that another process keeps, which says when it has changed."""

    def refresh(self) -> None:
        """It is for the other process to look."""

    def follow(self, version: int) -> None:
        """Of a request that comes now."""
        if version != self.version:
            self._kept.end()
            self._kept = KeptRows(self.path)
            self.version = version


def _signature_of(path: Path | None) -> tuple[int, int, int] | None:
    """Changes when the file does; None: it is not there, or empty, as a reader makes a log."""
    if path is None:
        return None
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    if found.st_size == 0:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
