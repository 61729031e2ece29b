"""The rows of the viewer's index: a page of a list, a search, the neighbours of a unit.

Rows with a value come first, in the order of the value and then of the unit; descending is the very
reverse; rows without a value come last, by unit. A page begins at a place in the list, which a
table jumps to, or after the last row of another page (keyset), which costs the same anywhere.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from neuron_explainer.errors import StoreError, UsageError
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.closing import Closing
from neuron_explainer.stores.library_search import MOST_RANKED, Filters, Found, find
from neuron_explainer.stores.sqlite_file import BUSY_S, identity_of, reader_mode
from neuron_explainer.viewer.index_schema import COLUMNS, VERSION
from neuron_explainer.viewer.list_sql import Condition, conditions, order_by, passing, values_of
from neuron_explainer.viewer.searches import Searches
from neuron_explainer.viewer.selection import BY_UNIT, RELEVANCE, Selection

ROW_COLUMNS = (
    "layer_index, neuron_index, text, reason, score, low, high, full_distribution, "
    "random_only, explained_variance, baseline, density, explainer, model, simulator, scorer"
)
ROWS_AT_ONCE = 500
READ = f"SELECT id, {ROW_COLUMNS} FROM explanations JOIN makers ON makers.number = makers"


@dataclass(frozen=True, slots=True)
class UnitRow:
    """One unit in a list; what is None is not known, or has its reason."""

    neuron_id: NeuronId
    text: str | None
    reason: str | None
    """Why there is no score; None exactly where there is one."""
    score: float | None
    low: float | None
    high: float | None
    full_distribution: float | None
    random_only: float | None
    explained_variance: float | None
    baseline: float | None
    """Score of the method that it is read beside."""
    density: float | None
    """Share of tokens on which the unit is above 0."""
    explainer: str
    model: str | None
    simulator: str | None
    scorer: str | None

    @property
    def gain(self) -> float | None:
        """Over the baseline."""
        if self.score is None or self.baseline is None:
            return None
        return self.score - self.baseline

    @property
    def made_by(self) -> str:
        return self.explainer if self.model is None else f"{self.explainer} by {self.model}"


class Method(NamedTuple):
    """A way to explain and score that the index has rows of."""

    number: int
    fingerprint: str
    label: str
    baseline: str | None
    """Label of the method that it is read beside."""


class SearchHits(NamedTuple):
    """A page of what a search found."""

    rows: tuple[UnitRow, ...]
    words: tuple[str, ...]
    """What was looked for."""
    left_out: tuple[str, ...]
    """Words that say too little."""
    has_more: bool


class UnitRows(Closing):
    """Reads the file of `unit_index.UnitIndex`; StoreError where that cannot be done."""

    def __init__(self, path: Path, searches: Searches | None = None) -> None:
        """searches: of this state of the file; None: it may change meanwhile."""
        self._path = path
        self._searches = searches
        with self._naming():
            uri = f"{path.absolute().as_uri()}?mode={reader_mode(path)}"
            self._connection = sqlite3.connect(
                uri, uri=True, isolation_level=None, timeout=BUSY_S, check_same_thread=False
            )  # of one request at a time, which may go from thread to thread
            self._file = identity_of(path)

    def close(self) -> None:
        self._connection.close()

    @property
    def is_there(self) -> bool:
        """Whether the file is still the one at its path."""
        return identity_of(self._path) == self._file

    @property
    def is_made(self) -> bool:
        """Whether there is anything in it that this program can read."""
        tables = self._select("SELECT 1 FROM sqlite_master WHERE name = 'about'")
        query = "SELECT value FROM about WHERE name = 'version'"
        return bool(tables) and self._select(query) == [(VERSION,)]

    def methods(self) -> tuple[Method, ...]:
        """The current one first."""
        query = (
            "SELECT m.number, m.fingerprint, m.label, b.label FROM methods m "
            "LEFT JOIN methods b ON b.number = m.baseline ORDER BY m.place"
        )
        return tuple(Method(*row) for row in self._select(query))

    def method(self, fingerprint: str | None) -> Method | None:
        """The current one if not said; None: nothing is explained yet. UsageError for one that is
        not there."""
        methods = self.methods()
        if not fingerprint:
            return next(iter(methods), None)
        found = next((m for m in methods if m.fingerprint == fingerprint), None)
        if found is None:
            raise UsageError(f"no method {fingerprint[:40]!r} here")
        return found

    def summary(self, method: Method) -> str | None:
        """JSON of a `summaries.MethodSummary`; None: it is not made yet."""
        query = "SELECT summary FROM methods WHERE number = ?"
        return next((text for (text,) in self._select(query, (method.number,))), None)

    def makers(self, column: str, method: Method) -> list[str]:
        """Every `model`, `simulator` or `scorer` that rows of the method have."""
        query = (
            f"SELECT DISTINCT {column} FROM makers WHERE {column} IS NOT NULL AND EXISTS "
            "(SELECT 1 FROM explanations WHERE method = ? AND makers = makers.number) ORDER BY 1"
        )
        return [name for (name,) in self._select(query, (method.number,))]

    def count(self, method: Method, selection: Selection) -> int:
        where, values = self._where(method, selection, is_ordered=False)
        query = f"SELECT count(*) FROM explanations WHERE {where}"
        return int(self._select(query, values)[0][0])

    def at(self, method: Method, selection: Selection, place: int, n: int) -> list[UnitRow]:
        """At most n rows from a place in the list, from 0."""
        where, values = self._where(method, selection)
        order = order_by(selection)
        ids = f"SELECT id FROM explanations WHERE {where} {order} LIMIT ? OFFSET ?"
        return self._read(f"WHERE id IN ({ids}) {order}", [*values, n, place])

    def after(
        self, method: Method, selection: Selection, cursor: str | None, n: int
    ) -> tuple[list[UnitRow], str | None]:
        """At most n rows behind a cursor (None: from the first one on), and the next cursor.

        No next cursor: the list is at its end.
        """
        last = None if cursor is None else _Cursor.parse(cursor, selection)
        where, values = self._where(method, selection)
        rows: list[UnitRow] = []
        for has_value in (True,) if selection.sort in BY_UNIT else (True, False):
            if last is not None and last.has_value != has_value:
                if has_value:
                    continue  # The page before ended among those without.
                last = None
            behind, more = _behind(selection, last, has_value=has_value)
            query = f"WHERE {where}{behind} {order_by(selection)} LIMIT ?"
            rows += self._read(query, [*values, *more, n - len(rows)])
            if len(rows) >= n:
                break
            last = None
        is_end = len(rows) < n
        return rows, None if is_end else _Cursor.of(rows[-1], selection).written()

    def all(self, method: Method, selection: Selection) -> Iterator[UnitRow]:
        """Every row of the list."""
        return chain.from_iterable(self.pages(method, selection, ROWS_AT_ONCE))

    def pages(self, method: Method, selection: Selection, n: int) -> Iterator[list[UnitRow]]:
        """Every row of the list, at most n at a time; of a search by relevance, as `search`."""
        if selection.q and selection.sort == RELEVANCE:
            ids = self._look_for([method], selection, MOST_RANKED).hits
            yield from ([*self._by_ids(ids[i : i + n]).values()] for i in range(0, len(ids), n))
            return
        cursor: str | None = None
        while True:
            rows, cursor = self.after(method, selection, cursor, n)
            yield rows
            if cursor is None:
                return

    def search(self, method: Method, selection: Selection, place: int, n: int) -> SearchHits:
        """The explanations that fit the words best, from a place on."""
        found = self._look_for([method], selection, place + n + 1)
        rows = self._by_ids(found.hits[place : place + n])
        has_more = len(found.hits) > place + n
        return SearchHits(tuple(rows.values()), found.words, found.left_out, has_more)

    def search_beside(
        self, method: Method | None, selection: Selection, n: int
    ) -> list[tuple[Method, UnitRow]]:
        """As `search`, of every method but one; None: of every method."""
        methods = {one.number: one for one in self.methods() if one != method}
        if not methods:
            return []
        ids = self._look_for([*methods.values()], selection, n).hits
        of = dict(self._select(_methods_of(len(ids)), ids))
        return [(methods[of[i]], row) for i, row in self._by_ids(ids).items() if i in of]

    def of_units(self, method: Method, neuron_ids: Sequence[NeuronId]) -> list[UnitRow]:
        """Of those that have a row, in the order of the units."""
        wanted = json.dumps([(n.layer_index, n.neuron_index) for n in neuron_ids])
        query = (
            "WHERE method = ? AND (layer_index, neuron_index) IN "
            "(SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)) "
            "ORDER BY layer_index, neuron_index"
        )
        return self._read(query, [method.number, wanted])

    def neighbour(self, method: Method, neuron_id: NeuronId, *, forward: bool) -> NeuronId | None:
        """The next unit of the method's, or the one before; None at either end."""
        sign, direction = (">", "") if forward else ("<", " DESC")
        query = (
            "SELECT layer_index, neuron_index FROM explanations WHERE method = ? "
            f"AND (layer_index, neuron_index) {sign} (?, ?) "
            f"ORDER BY layer_index{direction}, neuron_index{direction} LIMIT 1"
        )
        at = (method.number, neuron_id.layer_index, neuron_id.neuron_index)
        rows = self._select(query, at)
        return NeuronId(*rows[0]) if rows else None

    def random(self, method: Method) -> NeuronId | None:
        """Any unit of the method's, each as likely as another; None: there is none."""
        n = self.count(method, Selection())
        if n == 0:
            return None
        return self.at(method, Selection(), secrets.randbelow(n), 1)[0].neuron_id

    @contextmanager
    def attached(self, other: UnitRows) -> Iterator[str]:
        """Name of another file's tables in `select`, inside."""
        if other._path == self._path:
            yield "main"
            return
        uri = f"{other._path.absolute().as_uri()}?mode={reader_mode(other._path)}"
        self._select("ATTACH ? AS other", (uri,))
        try:
            yield "other"
        finally:
            self._select("DETACH other")

    def select(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """For the summaries; SQL of this package alone."""
        return self._select(query, values)

    def _where(
        self, method: Method, selection: Selection, *, is_ordered: bool = True
    ) -> tuple[str, list[Any]]:
        found = self._look_for([method], selection, MOST_RANKED).hits if selection.q else None
        return passing(method.number, selection, found, is_ordered=is_ordered)

    def _look_for(self, methods: Sequence[Method], selection: Selection, limit: int) -> Found[int]:
        """Explanations of any of some methods, one at least."""
        others = [*conditions(replace(selection, layer=None, min_score=None))]
        numbers = tuple(method.number for method in methods)
        of_methods = Condition("method", f"IN ({', '.join('?' * len(numbers))})", numbers)
        everything = [of_methods, *conditions(selection)]
        filters = Filters(
            layer_index=selection.layer,
            min_score=selection.min_score,
            any_tag=tuple(f"method{number}" for number in numbers),
            condition=" AND ".join(condition.sql for condition in others),
            values=values_of(others),
            whole=" AND ".join(condition.sql for condition in everything),
            whole_values=values_of(everything),
        )
        search = find if self._searches is None else self._searches.find
        with self._naming():
            return search(self._connection, selection.q, filters, limit=limit)

    def _by_ids(self, ids: Sequence[int]) -> dict[int, UnitRow]:
        """In the order of the ids, without those that have gone meanwhile."""
        query = f"{READ} WHERE id IN ({', '.join('?' * len(ids))})"
        rows = {row[0]: _row(row) for row in self._select(query, ids)}
        return {i: rows[i] for i in ids if i in rows}

    def _read(self, rest: str, values: Sequence[Any]) -> list[UnitRow]:
        return [_row(row) for row in self._select(f"{READ} {rest}", values)]

    def _select(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._naming(), closing(self._connection.execute(query, values)) as cursor:
            return cursor.fetchall()

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}; move it away, it is made again") from error


class _Cursor(NamedTuple):
    """The last row of a page."""

    value: float | None
    neuron_id: NeuronId
    has_value: bool
    """Whether the page ended among the rows that have a value, or all count as such."""

    @classmethod
    def of(cls, row: UnitRow, selection: Selection) -> _Cursor:
        value = _value(row, selection)
        return cls(value, row.neuron_id, selection.sort in BY_UNIT or value is not None)

    @classmethod
    def parse(cls, text: str, selection: Selection) -> _Cursor:
        """UsageError for what `written` did not write."""
        written, _, unit = text.rpartition("@")
        try:
            neuron_id = NeuronId.parse(unit)
            value = float.fromhex(written) if written else None
        except (UsageError, ValueError, OverflowError) as error:
            raise UsageError(f"after={text[:60]}: take what the page before gave") from error
        return cls(value, neuron_id, selection.sort in BY_UNIT or value is not None)

    def written(self) -> str:
        return f"{'' if self.value is None else self.value.hex()}@{self.neuron_id}"


def _value(row: UnitRow, selection: Selection) -> float | None:
    if selection.sort in BY_UNIT:
        return None
    value: float | None = getattr(row, COLUMNS[selection.sort])
    return value


def _behind(
    selection: Selection, last: _Cursor | None, *, has_value: bool
) -> tuple[str, list[Any]]:
    """The condition that rows are behind one, among those with a value or those without."""
    sign = "<" if selection.desc else ">"
    unit = [] if last is None else [last.neuron_id.layer_index, last.neuron_id.neuron_index]
    if selection.sort in BY_UNIT:
        return (
            ("", []) if last is None else (f" AND (layer_index, neuron_index) {sign} (?, ?)", unit)
        )
    column = COLUMNS[selection.sort]
    if not has_value:
        behind = "" if last is None else f" AND (layer_index, neuron_index) {sign} (?, ?)"
        return f" AND {column} IS NULL{behind}", unit
    if last is None:
        return f" AND {column} IS NOT NULL", []
    behind = f" AND ({column}, layer_index, neuron_index) {sign} (?, ?, ?)"
    return behind, [last.value, *unit]


def _methods_of(n: int) -> str:
    return f"SELECT id, method FROM explanations WHERE id IN ({', '.join('?' * n)})"


def _row(columns: tuple[Any, ...]) -> UnitRow:
    _, layer, unit, *rest = columns
    return UnitRow(NeuronId(layer, unit), *rest)
