"""A library of explanations of any origin, in sqlite: added in bulk, searched by words (FTS5).

    add       a batch in one transaction; what is there already is not added again
    search    by words, ranked (library_search.py)
    of_unit   all that is said of one unit

The tables are those of `library_schema.py`. Others may read while one process writes.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from neuron_explainer.errors import StoreError
from neuron_explainer.records.listed import MAX_INDEX, ListedExplanation, ListedScore, Polarity
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.closing import Closing
from neuron_explainer.stores.library_schema import CHANGES, RANKS
from neuron_explainer.stores.library_search import Filters, Found, find
from neuron_explainer.stores.migrations import migrate, version_of
from neuron_explainer.stores.sqlite_file import BUSY_S, reader_mode

ROWS_AT_ONCE = 2000
COLUMNS = (
    "explanations.id, layer_index, neuron_index, text, sources.name, model, site, polarity, "
    "explainer, explainer_model"
)
READ = f"SELECT {COLUMNS} FROM explanations JOIN sources ON sources.id = source_id"
ADD = """
INSERT INTO explanations (
    digest, source_id, layer_index, neuron_index, text, model, site, polarity, explainer,
    explainer_model, score
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
ADD_SCORE = """
INSERT INTO scores (explanation_id, number, value, kind, scorer)
SELECT id, ?, ?, ?, ? FROM explanations WHERE digest = ?
ON CONFLICT DO NOTHING
"""
OTHER_VALUE = """
SELECT count(*) FROM explanations JOIN scores ON explanation_id = id
WHERE digest = ? AND kind = ? AND scorer = ? AND value <> ?
"""
HAS_SOURCE = "SELECT 1 FROM sources WHERE name = ?"
SET_MARK = """
INSERT INTO marks (name, number) VALUES (?, ?)
ON CONFLICT DO UPDATE SET number = max(number, excluded.number)
"""
USE_FIRST_SCORE = "UPDATE explanations SET score = ? WHERE digest = ? AND score IS NULL"


@dataclass(frozen=True, slots=True)
class Added:
    """What became of a batch."""

    n_added: int = 0
    n_known: int = 0
    """Explanations that were there already, from the same source."""
    n_scores_added: int = 0
    """To new and to known explanations."""
    n_scores_differing: int = 0
    """Another value of the same kind and scorer was there already, and stays."""


class Library(Closing):
    """One file; StoreError, which names it, for everything that goes wrong."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        if read_only and not path.exists():
            raise StoreError(f"no library at {path}; import some explanations first")
        self._path = path
        with self._naming():
            path.parent.mkdir(parents=True, exist_ok=True)
            mode = reader_mode(path) if read_only else "rwc"
            uri = f"{path.absolute().as_uri()}?mode={mode}"
            self._connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_S)
        try:
            with self._naming():
                self._open(read_only)
        except StoreError:
            self._connection.close()
            raise

    def _open(self, read_only: bool) -> None:
        if not read_only:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            migrate(self._connection, CHANGES)
        # Of what readers need, an older file lacks nothing.
        if not 1 <= version_of(self._connection) <= len(CHANGES):
            raise StoreError(f"{self._path} is a library of another version; import into a new one")
        self._connection.execute(RANKS)

    def close(self) -> None:
        self._connection.close()

    def __len__(self) -> int:
        return sum(self.sources().values())

    @property
    def path(self) -> Path:
        return self._path

    @property
    def name(self) -> str:
        """Of this very library: another one at the same path has another name."""
        return str(self._rows("SELECT name FROM birth")[0][0])

    def sources(self) -> Mapping[str, int]:
        """How many explanations each source has, by name."""
        query = (
            "SELECT name, (SELECT count(*) FROM explanations WHERE source_id = sources.id) "
            "FROM sources ORDER BY name"
        )
        return dict(self._rows(query))

    def marks(self) -> Mapping[str, int]:
        """How far sources that grow have been read, as `add` was told."""
        return dict(self._rows("SELECT name, number FROM marks"))

    def add(
        self, explanations: Iterable[ListedExplanation], *, marks: Mapping[str, int] | None = None
    ) -> Added:
        """All of them, or none when the iterator or the disk fails; and the marks with them.

        Known is what has the same source, unit, polarity, explainer and text. Scores of a kind or
        a scorer that a known explanation lacks are added to it.
        """
        counts: defaultdict[str, int] = defaultdict(int)
        remaining = iter(explanations)
        with self._transaction():
            source_ids = _SourceIds(self._connection)
            while batch := list(islice(remaining, ROWS_AT_ONCE)):
                for name, n in self._add_batch(batch, source_ids).items():
                    counts[name] += n
            self._connection.executemany(SET_MARK, [*(marks or {}).items()])
        return Added(**counts)

    def _add_batch(
        self, batch: Sequence[ListedExplanation], source_ids: _SourceIds
    ) -> dict[str, int]:
        digests = [explanation.digest() for explanation in batch]
        added = self._connection.executemany(
            ADD,
            [
                (digest, source_ids.of(e.source), e.neuron_id.layer_index,
                 e.neuron_id.neuron_index, e.text, e.model, e.site, e.polarity, e.explainer,
                 e.explainer_model, e.score and e.score.value)
                for e, digest in zip(batch, digests, strict=True)
            ],
        ).rowcount  # fmt: skip
        scored = [
            (number, score, digest)
            for explanation, digest in zip(batch, digests, strict=True)
            for number, score in enumerate(explanation.scores)
        ]
        score_rows = [(n, s.value, s.kind or "", s.scorer or "", d) for n, s, d in scored]
        n_scores_added = self._connection.executemany(ADD_SCORE, score_rows).rowcount
        n_differing = 0
        if n_scores_added < len(scored):
            n_differing = sum(self._has_other_value(score, digest) for _, score, digest in scored)
        if added < len(batch):
            firsts = [(score.value, digest) for number, score, digest in scored if number == 0]
            self._connection.executemany(USE_FIRST_SCORE, firsts)
        return {
            "n_added": added,
            "n_known": len(batch) - added,
            "n_scores_added": max(0, n_scores_added),
            "n_scores_differing": n_differing,
        }

    def _has_other_value(self, score: ListedScore, digest: bytes) -> bool:
        values = (digest, score.kind or "", score.scorer or "", score.value)
        return bool(self._connection.execute(OTHER_VALUE, values).fetchone()[0])

    def search(
        self,
        words: str,
        *,
        layer_index: int | None = None,
        min_score: float | None = None,
        source: str | None = None,
        limit: int = 20,
    ) -> Found[ListedExplanation]:
        """The explanations that fit the words best; see `library_search.find` for how.

        StoreError for a source that the library does not have.
        """
        filters = Filters(layer_index, min_score, source)
        self._require_source(source)
        with self._naming():
            found = find(self._connection, words, filters, limit=limit)
        return Found(self.read(found.hits), found.words, found.left_out, found.n_with_all)

    def _require_source(self, name: str | None) -> None:
        if name is not None and not self._rows(HAS_SOURCE, [name]):
            has = ", ".join(self.sources()) or "none"
            raise StoreError(f"{self._path} has no source {name!r} (has {has})")

    def of_unit(
        self, neuron_id: NeuronId, *, model: str | None = None, site: str | None = None
    ) -> tuple[ListedExplanation, ...]:
        """All that is said of a unit, in the order it was added; of any model and site if None.

        Explanations whose list names no model, or no site, are those of any.
        """
        condition, values = "layer_index = ? AND neuron_index = ?", [*_parts(neuron_id)]
        for column, value in (("model", model), ("site", site)):
            if value is not None:
                condition += f" AND ({column} = ? OR {column} IS NULL)"
                values.append(value)
        rows = self._rows(f"{READ} WHERE {condition} ORDER BY explanations.id", values)
        return tuple(explanation for _, explanation in self._listed(rows))

    @property
    def last_id(self) -> int:
        """Of the newest explanation; ids begin at 1 and grow. 0: there is none."""
        return int(self._rows("SELECT coalesce(max(id), 0) FROM explanations")[0][0])

    def texts(self, after_id: int) -> Iterator[tuple[int, str]]:
        """(id, text) of the explanations that were added after one, in that order."""
        query = f"SELECT id, text FROM explanations WHERE id > ? ORDER BY id LIMIT {ROWS_AT_ONCE}"
        while rows := self._rows(query, [after_id]):
            yield from rows
            after_id = rows[-1][0]

    def passing(self, filters: Filters, *, most: int) -> list[int] | None:
        """Ids of the explanations that filters let through, ascending; None: all, or over `most`.

        StoreError for a source that the library does not have.
        """
        self._require_source(filters.source)
        if filters == Filters():
            return None
        condition, values = _condition(filters)
        some = f"SELECT id FROM explanations WHERE {condition} LIMIT ?"
        ((n_some,),) = self._rows(f"SELECT count(*) FROM ({some})", [*values, most + 1])
        if n_some > most:
            return None
        return sorted(row[0] for row in self._rows(some, [*values, most]))

    def that_pass(self, filters: Filters, ids: Sequence[int]) -> frozenset[int]:
        """Those of some ids that filters let through."""
        condition, values = _condition(filters)
        places = ", ".join("?" * len(ids))
        query = f"SELECT id FROM explanations WHERE id IN ({places}) AND {condition}"
        return frozenset(row[0] for row in self._rows(query, [*ids, *values]))

    def read(self, ids: Sequence[int]) -> tuple[ListedExplanation, ...]:
        """In the order of the ids, all of which must be there."""
        listed: dict[int, ListedExplanation] = {}
        for start in range(0, len(ids), ROWS_AT_ONCE):
            listed |= self._read_ids(ids[start : start + ROWS_AT_ONCE])
        return tuple(listed[explanation_id] for explanation_id in ids)

    def all(self, source: str | None = None) -> Iterator[ListedExplanation]:
        """Every explanation, or those of one source, in the order they were added."""
        last = 0
        condition = "explanations.id > ?" + ("" if source is None else " AND sources.name = ?")
        while True:
            rows = self._rows(
                f"{READ} WHERE {condition} ORDER BY explanations.id LIMIT {ROWS_AT_ONCE}",
                [last] if source is None else [last, source],
            )
            if not rows:
                return
            last = rows[-1][0]
            yield from (explanation for _, explanation in self._listed(rows))

    def _read_ids(self, ids: Sequence[int]) -> Iterator[tuple[int, ListedExplanation]]:
        places = ", ".join("?" * len(ids))
        return self._listed(self._rows(f"{READ} WHERE explanations.id IN ({places})", ids))

    def _listed(self, rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, ListedExplanation]]:
        scores: defaultdict[int, list[ListedScore]] = defaultdict(list)
        places = ", ".join("?" * len(rows))
        of_rows = self._rows(
            "SELECT explanation_id, value, kind, scorer FROM scores "
            f"WHERE explanation_id IN ({places}) ORDER BY explanation_id, number, rowid",
            [row[0] for row in rows],
        )
        for explanation_id, value, kind, scorer in of_rows:
            scores[explanation_id].append(ListedScore(value, kind or None, scorer or None))
        for explanation_id, layer, unit, text, source, *said in rows:
            model, site, polarity, explainer, explainer_model = said
            yield explanation_id, ListedExplanation(
                NeuronId(layer, unit), text, source, model, site,
                None if polarity is None else Polarity(polarity), explainer, explainer_model,
                tuple(scores[explanation_id]),
            )  # fmt: skip

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._naming(), closing(self._connection.execute(query, values)) as cursor:
            return cursor.fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it or nothing."""
        with self._naming():
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            with self._naming():
                yield
                self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """Puts the file's name into what sqlite and the disk say."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise StoreError(
                f"{self._path}: {reason}; free some space, or move the file away"
            ) from error


class _SourceIds:
    """Numbers of the sources' names, within one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[str, int] = {}

    def of(self, name: str) -> int:
        if name not in self._known:
            self._connection.execute(
                "INSERT INTO sources (name) VALUES (?) ON CONFLICT DO NOTHING", (name,)
            )
            query = "SELECT id FROM sources WHERE name = ?"
            self._known[name] = int(self._connection.execute(query, (name,)).fetchone()[0])
        return self._known[name]


def _parts(neuron_id: NeuronId) -> tuple[Any, ...]:
    return neuron_id.layer_index, neuron_id.neuron_index


def _condition(filters: Filters) -> tuple[str, list[object]]:
    """In SQL, of what filters say alone, so that an index is used; and its values."""
    if (filters.layer_index or 0) > MAX_INDEX:
        return "FALSE", []
    # A layer has the fewest explanations: the plus keeps sqlite from the index of another column.
    other = "" if filters.layer_index is None else "+"
    said = {
        "layer_index = ?": filters.layer_index,
        f"{other}score >= ?": filters.min_score,
        f"{other}source_id = (SELECT id FROM sources WHERE name = ?)": filters.source,
    }
    conditions = {sql: value for sql, value in said.items() if value is not None}
    return " AND ".join(conditions) or "TRUE", [*conditions.values()]
