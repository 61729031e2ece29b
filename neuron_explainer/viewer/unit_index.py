"""The viewer's own sqlite file of a source, kept in step with the results that others write.

1. What is final in the results stays: rows with a larger number than the last one are added, some
   thousand in a transaction, so that pages show what is there while the rest is read.
2. What is not final may have gone, or become another row: it is taken out and read again.
3. Other results than those it was made from (another first use of a method, or another last row)
   mean that all of it is made again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from neuron_explainer.errors import StoreError, UnitNotFound
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import EXPLAINED_VARIANCE, FULL_DISTRIBUTION, RANDOM_ONLY
from neuron_explainer.stores.closing import Closing
from neuron_explainer.stores.result_rows import ResultRow
from neuron_explainer.stores.results import BASELINE, MethodUse
from neuron_explainer.stores.sqlite_file import SqliteFile
from neuron_explainer.viewer.index_schema import CREATE, DROP, INDEXES, VERSION
from neuron_explainer.viewer.sources import RowFeed, method_labels

logger = logging.getLogger(__name__)
ROWS_AT_ONCE = 4000
ADD = """
INSERT INTO explanations (
    number, method, layer_index, neuron_index, makers, text, reason, metric, score, low, high,
    full_distribution, random_only, explained_variance, density, is_final
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
BASELINE_PAIRS = """
FROM explanations AS {first} CROSS JOIN methods CROSS JOIN explanations AS {second}
ON methods.number = this.method AND methods.baseline = other.method
AND this.layer_index = other.layer_index AND this.neuron_index = other.neuron_index
AND this.metric = other.metric WHERE {first}.id > ?
"""
"""Rows beside those that they are read beside, of the same metric; the new ones come first."""
ADD_BASELINE = f"""
UPDATE explanations SET baseline = pair.score FROM (
    SELECT this.id AS id, other.score AS score
    {BASELINE_PAIRS.format(first="this", second="other")}
    UNION SELECT this.id, other.score {BASELINE_PAIRS.format(first="other", second="this")}
) AS pair WHERE explanations.id = pair.id
"""
CACHE = "PRAGMA cache_size = -65536"
"""In units of 1,024 bytes: rows come in any order, and the indexes are in the order of units."""

OnRead = Callable[[int, int], None]
"""Is told how many rows of how many were read so far."""
ReadDensity = Callable[[NeuronId], float | None]


class Last(NamedTuple):
    """The newest final row that was read; another one under its number: other results."""

    number: int = 0
    method: str = ""
    layer_index: int = 0
    neuron_index: int = 0
    created_at: str = ""

    @classmethod
    def of(cls, row: ResultRow) -> Last:
        return cls(row.number, row.method, *_place(row), row.created_at)


class UnitIndex(Closing):
    """Writes the file; any number of connections may read it meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = SqliteFile(path, CACHE)
        if not self._execute("SELECT 1 FROM sqlite_master WHERE name = 'about'"):
            self._reset(None)

    def close(self) -> None:
        self._file.close()

    def update(
        self, feed: RowFeed, read_density: ReadDensity, on_read: OnRead = lambda _n, _of: None
    ) -> bool:
        """Whether anything changed."""
        self._require_same(feed)
        self._write_methods(feed.methods())
        again = self._take_out_what_is_not_final()
        last, n_read = self._last(), 0
        n_rows = max(0, feed.last_number - last.number)
        rows = _chained(feed.of_numbers([n for n in again if n <= last.number]), feed, last.number)
        on_read(0, n_rows)
        while batch := list(islice(rows, ROWS_AT_ONCE)):
            self._add(batch, read_density)
            n_read += len(batch)
            on_read(n_read, max(n_rows, n_read))
        for statement in INDEXES:
            self._execute(statement)
        return bool(n_read or again)

    def methods(self) -> list[tuple[int, str]]:
        """(number, fingerprint), the current one first."""
        return [(n, f) for n, f in self._execute(
            "SELECT number, fingerprint FROM methods ORDER BY place"
        )]  # fmt: skip

    def write_summary(self, method: int, summary: str) -> None:
        """Of what is in the file now."""
        self._execute("UPDATE methods SET summary = ? WHERE number = ?", (summary, method))

    def select(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._execute(query, values)

    def _require_same(self, feed: RowFeed) -> None:
        birth, last = feed.birth(), self._last()
        about = dict(self._execute("SELECT name, value FROM about"))
        is_same = about.get("birth") in (birth, None) and about.get("version") == VERSION
        if is_same and last.number:
            row = next(feed.of_numbers([last.number]), None)
            is_same = row is not None and Last.of(row) == last
        if not is_same:
            logger.info("%s is of other results; it is made again", self.path)
            self._reset(birth)
        elif about.get("birth") is None:
            self._note("birth", birth)

    def _reset(self, birth: str | None) -> None:
        with self._transaction():
            for statement in (*DROP, *CREATE):
                self._execute(statement)
            self._note("version", VERSION)
            self._note("birth", birth)

    def _write_methods(self, uses: Sequence[MethodUse]) -> None:
        labels = method_labels(uses)
        with self._transaction():
            for use in uses:
                self._execute(
                    "INSERT INTO methods (fingerprint, label, place) VALUES (?, '', 0) "
                    "ON CONFLICT DO NOTHING", (use.fingerprint,),
                )  # fmt: skip
            for place, use in enumerate(reversed(uses)):
                self._execute(
                    "UPDATE methods SET label = ?, place = ?, baseline = "
                    "(SELECT number FROM methods WHERE fingerprint = ?) WHERE fingerprint = ?",
                    (labels[use.fingerprint], place, (use.choices or {}).get(BASELINE),
                     use.fingerprint),
                )  # fmt: skip

    def _take_out_what_is_not_final(self) -> list[int]:
        rows = self._execute("SELECT number FROM explanations WHERE NOT is_final")
        if rows:
            self._execute("DELETE FROM explanations WHERE NOT is_final")
        return [number for (number,) in rows]

    def _add(self, batch: Sequence[ResultRow], read_density: ReadDensity) -> None:
        with self._transaction():
            makers = _Numbers(self._file)
            methods = dict(self._execute("SELECT fingerprint, number FROM methods"))
            before = self._execute("SELECT coalesce(max(id), 0) FROM explanations")[0][0]
            for row in batch:
                if row.method not in methods:
                    raise StoreError(f"{self.path}: no method {row.method} yet; try again")
                density = _density(read_density, row.neuron_id)
                self._execute(ADD, _values(row, methods[row.method], makers.of(row), density))
            self._execute(ADD_BASELINE, (before, before))
            final = [row for row in batch if row.is_final]
            if final and final[-1].number > self._last().number:
                self._note("last", json.dumps(Last.of(final[-1])))

    def _last(self) -> Last:
        rows = self._execute("SELECT value FROM about WHERE name = 'last'")
        return Last(*json.loads(rows[0][0])) if rows else Last()

    def _note(self, name: str, value: str | None) -> None:
        self._execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, value))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
            self._execute("COMMIT")
        except BaseException:
            with suppress(StoreError):  # where sqlite has done so itself, as on a full disk
                self._execute("ROLLBACK")
            raise

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._file.execute(statement, values)


class _Numbers:
    """Of the combinations of makers, within one transaction."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        rows = file.execute("SELECT explainer, model, simulator, scorer, number FROM makers")
        self._known = {tuple(row[:4]): int(row[4]) for row in rows}

    def of(self, row: ResultRow) -> int:
        headline = row.headline
        key = (
            row.explainer,
            row.model,
            None if headline is None else headline.simulator,
            None if headline is None else headline.scorer,
        )
        if key not in self._known:
            number = len(self._known) + 1
            self._file.execute("INSERT INTO makers VALUES (?, ?, ?, ?, ?)", (number, *key))
            self._known[key] = number
        return self._known[key]


def _chained(first: Iterable[ResultRow], feed: RowFeed, number: int) -> Iterator[ResultRow]:
    """`first` is read to its end before the others are begun."""
    yield from first
    yield from feed.after(number)


def _values(row: ResultRow, method: int, makers: int, density: float | None) -> tuple[object, ...]:
    headline = row.headline
    scored: tuple[object, ...] = (row.reason or "not scored", None, None, None, None)
    if headline is not None:
        scored = headline.reason, headline.metric, headline.value, headline.low, headline.high
    return (
        row.number, method, *_place(row), makers, row.text, *scored,
        *(row.values.get(name) for name in (FULL_DISTRIBUTION, RANDOM_ONLY, EXPLAINED_VARIANCE)),
        density, row.is_final,
    )  # fmt: skip


def _place(row: ResultRow) -> tuple[int, int]:
    return row.neuron_id.layer_index, row.neuron_id.neuron_index


def _density(read_density: ReadDensity, neuron_id: NeuronId) -> float | None:
    """None too where results are of a unit that the records do not have."""
    try:
        return read_density(neuron_id)
    except UnitNotFound:
        return None
