"""Explanations and their scores in sqlite: appended, never overwritten; one writer.

    methods          each use of a way to explain and score, with its choices; the newest is current
    explanations     a claim about a unit, or the reason there is none
    scores           every metric of one scorer and simulator over one explanation
    scored_windows   what was simulated and what is true, window by window (zlib'ed JSON)

Every row names the fingerprint of the choices that made it. One unit's rows are one transaction:
after a kill a unit is there with all its scores, or not at all.
"""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from neuron_explainer.errors import StoreError
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.score import Score, ScoredSimulation, ScoredWindow
from neuron_explainer.records.simulation import SequenceSimulation

SCHEMA = """
CREATE TABLE IF NOT EXISTS methods (
    id INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    choices TEXT NOT NULL,
    used_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS explanations (
    id INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    layer_index INTEGER NOT NULL,
    neuron_index INTEGER NOT NULL,
    explainer TEXT NOT NULL,
    model TEXT,
    prompt_version TEXT,
    text TEXT,
    reason TEXT,
    created_at TEXT NOT NULL,
    CHECK ((text IS NULL) <> (reason IS NULL))
);
CREATE INDEX IF NOT EXISTS explanations_by_unit
    ON explanations (fingerprint, layer_index, neuron_index);
CREATE TABLE IF NOT EXISTS scores (
    explanation_id INTEGER NOT NULL REFERENCES explanations (id),
    scorer TEXT NOT NULL,
    simulator TEXT NOT NULL,
    name TEXT NOT NULL,
    metric TEXT NOT NULL,
    is_headline INTEGER NOT NULL,
    value REAL,
    n_tokens INTEGER NOT NULL,
    low REAL,
    high REAL,
    reason TEXT,
    PRIMARY KEY (explanation_id, scorer, simulator, name),
    CHECK ((value IS NULL) <> (reason IS NULL))
);
CREATE TABLE IF NOT EXISTS scored_windows (
    explanation_id INTEGER NOT NULL REFERENCES explanations (id),
    scorer TEXT NOT NULL,
    simulator TEXT NOT NULL,
    windows BLOB NOT NULL,
    PRIMARY KEY (explanation_id, scorer, simulator)
);
"""


OF_THE_DISK = (
    "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_BUSY"
)  # fmt: skip
"""sqlite's errors that say nothing of what is in the file."""


@dataclass(frozen=True, slots=True)
class UnitResult:
    """What one run says of one unit."""

    neuron_id: NeuronId
    explainer: str
    text: str | None
    """The explanation; None: there is none, and `reason` says why."""
    reason: str | None
    scores: dict[str, Score]
    """By name; empty when there is no explanation."""
    headline: str | None
    """Name of the score to report."""
    simulator: str | None
    """What predicted the activations."""

    @property
    def score(self) -> Score | None:
        return None if self.headline is None else self.scores[self.headline]

    @property
    def unscored_reason(self) -> str | None:
        """Why the unit has no headline score; None when it has one."""
        if self.score is None:
            return self.reason
        return self.score.reason


class Results:
    """One run folder's results; `read_only` readers never block the writer (WAL).

    `immutable`, of a reader: no process writes, so sqlite need not put its own files beside it.
    """

    def __init__(self, path: Path, *, read_only: bool = False, immutable: bool = False) -> None:
        if read_only and not path.exists():
            raise StoreError(f"no results in {path.parent}; run `explain` first")
        mode = _reader_mode(path, immutable) if read_only else "rwc"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        with self._reading():
            self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True)
            if not read_only:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = NORMAL")
                self._connection.executescript(SCHEMA)
            self._connection.execute("SELECT id FROM explanations LIMIT 1")  # opens the file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._connection.close()

    def use_method(self, fingerprint: str, choices: Mapping[str, Any]) -> None:
        """Makes a method the current one: what readers show when they are not told which."""
        with self._transaction():
            self._connection.execute(
                "INSERT INTO methods (fingerprint, choices, used_at) VALUES (?, ?, ?)",
                (fingerprint, json.dumps(choices, sort_keys=True), _now()),
            )

    def add_explained(
        self, fingerprint: str, explanation: Explanation, scored: ScoredSimulation
    ) -> None:
        """One unit's explanation with everything that was scored of it, in one transaction."""
        with self._transaction():
            explanation_id = self._add_explanation(
                fingerprint,
                explanation.neuron_id,
                (explanation.explainer, explanation.model, explanation.prompt_version),
                text=explanation.text,
            )
            key = (explanation_id, scored.scorer, scored.simulator)
            self._connection.executemany(
                "INSERT INTO scores VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (*key, name, s.metric, name == scored.headline,
                     s.value, s.n_tokens, s.low, s.high, s.reason)
                    for name, s in scored.scores.items()
                ],
            )  # fmt: skip
            self._connection.execute(
                "INSERT INTO scored_windows VALUES (?, ?, ?, ?)",
                (*key, _pack_windows(scored.windows)),
            )

    def add_unexplained(
        self, fingerprint: str, neuron_id: NeuronId, explainer: str, reason: str
    ) -> None:
        """A unit that has no explanation, and why."""
        with self._transaction():
            self._add_explanation(fingerprint, neuron_id, (explainer, None, None), reason=reason)

    def finished(self, fingerprint: str) -> set[NeuronId]:
        """The units that this fingerprint has results for."""
        query = "SELECT layer_index, neuron_index FROM explanations WHERE fingerprint = ?"
        with self._reading():
            return {NeuronId(*row) for row in self._connection.execute(query, (fingerprint,))}

    def current_method(self) -> str:
        """Fingerprint of the method used last; StoreError when there is none."""
        row = self._newest_use()
        if row is None:
            raise StoreError("no neuron is explained yet; run `explain` first")
        return str(row[0])

    def _newest_use(self) -> tuple[str] | None:
        query = "SELECT fingerprint FROM methods ORDER BY id DESC LIMIT 1"
        with self._reading():
            row: tuple[str] | None = self._connection.execute(query).fetchone()
        return row

    def units(self, fingerprint: str, neuron_id: NeuronId | None = None) -> Iterator[UnitResult]:
        """Every unit's result, by layer and unit; or that of one unit."""
        condition = "fingerprint = ?"
        arguments: list[str | int] = [fingerprint]
        if neuron_id is not None:
            condition += " AND layer_index = ? AND neuron_index = ?"
            arguments += [neuron_id.layer_index, neuron_id.neuron_index]
        query = (
            "SELECT id, layer_index, neuron_index, explainer, text, reason FROM explanations "
            f"WHERE {condition} ORDER BY layer_index, neuron_index, id"
        )
        with self._reading(), closing(self._connection.execute(query, arguments)) as rows:
            for explanation_id, layer, unit, explainer, text, reason in rows:
                yield UnitResult(
                    NeuronId(layer, unit), explainer, text, reason, *self._scores(explanation_id)
                )

    def unit(self, fingerprint: str, neuron_id: NeuronId) -> UnitResult:
        """The result of a unit that has one; StoreError when the file has lost it."""
        unit = next(self.units(fingerprint, neuron_id), None)
        if unit is None:
            raise _store_error(self._path, LookupError(f"neuron {neuron_id} is lost"))
        return unit

    def newest(self, neuron_id: NeuronId) -> tuple[UnitResult | None, tuple[ScoredWindow, ...]]:
        """A unit's result by the current method and what was simulated; None and () without."""
        row = self._newest_use()
        if row is None:
            return None, ()
        fingerprint = str(row[0])
        unit = next(self.units(fingerprint, neuron_id), None)
        return unit, self.windows(fingerprint, neuron_id)

    def windows(self, fingerprint: str, neuron_id: NeuronId) -> tuple[ScoredWindow, ...]:
        """What was simulated for a unit's explanation; empty when it has none."""
        query = (
            "SELECT windows FROM scored_windows JOIN explanations ON explanation_id = id "
            "WHERE fingerprint = ? AND layer_index = ? AND neuron_index = ? ORDER BY id DESC"
        )
        of_unit = (fingerprint, neuron_id.layer_index, neuron_id.neuron_index)
        with self._reading():
            row = self._connection.execute(query, of_unit).fetchone()
            return () if row is None else _unpack_windows(row[0])

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """StoreError where the file is not what was written."""
        try:
            yield
        except (sqlite3.Error, zlib.error, ValueError, LookupError, TypeError) as error:
            raise _store_error(self._path, error) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it or nothing; StoreError when sqlite cannot write."""
        try:
            with self._connection:
                yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # sqlite's own text, damaged
            raise _store_error(self._path, error) from error

    def _add_explanation(
        self,
        fingerprint: str,
        neuron_id: NeuronId,
        made_by: tuple[str, str | None, str | None],
        *,
        text: str | None = None,
        reason: str | None = None,
    ) -> int:
        cursor = self._connection.execute(
            "INSERT INTO explanations (fingerprint, layer_index, neuron_index, explainer, model, "
            "prompt_version, text, reason, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                fingerprint, neuron_id.layer_index, neuron_id.neuron_index, *made_by,
                text, reason, _now(),
            ),
        )  # fmt: skip
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def _scores(self, explanation_id: int) -> tuple[dict[str, Score], str | None, str | None]:
        """Scores by name, the headline's name, the simulator."""
        rows = self._connection.execute(
            "SELECT name, is_headline, simulator, metric, value, n_tokens, low, high, reason "
            "FROM scores WHERE explanation_id = ? ORDER BY rowid",
            (explanation_id,),
        )
        scores, headline, simulator = {}, None, None
        for name, is_headline, made_by, *columns in rows:
            scores[name] = Score(*columns)
            if is_headline:
                headline, simulator = name, made_by
        return scores, headline, simulator


def _reader_mode(path: Path, immutable: bool) -> str:
    """A folder that may not be written, and has no -wal, has no writer either."""
    is_closed = not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()
    return "ro&immutable=1" if immutable or is_closed else "ro"


def _store_error(path: Path, error: Exception) -> StoreError:
    name = getattr(error, "sqlite_errorname", "")
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    if name.startswith(OF_THE_DISK):
        return StoreError(f"{path}: {reason}; see to the disk, then give the same command again")
    return StoreError(
        f"{path} cannot be used as results ({reason}); move it away and run `explain` again"
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _pack_windows(windows: tuple[ScoredWindow, ...]) -> bytes:
    plain = [
        {
            "subset": window.subset,
            "tokens": window.simulation.tokens,
            "expected": window.simulation.expected_activations,
            "scale": window.simulation.scale,
            "true": window.true_activations,
            "score": _score_fields(window.score),
        }
        for window in windows
    ]
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return zlib.compress(text.encode("utf-8", "surrogatepass"))


def _unpack_windows(blob: bytes) -> tuple[ScoredWindow, ...]:
    plain: list[dict[str, Any]] = json.loads(zlib.decompress(blob).decode("utf-8", "surrogatepass"))
    return tuple(
        ScoredWindow(
            subset=window["subset"],
            simulation=SequenceSimulation(
                tuple(window["tokens"]), tuple(window["expected"]), ActivationScale(window["scale"])
            ),
            true_activations=tuple(window["true"]),
            score=Score(*window["score"]),
        )
        for window in plain
    )


def _score_fields(score: Score) -> list[Any]:
    return [score.metric, score.value, score.n_tokens, score.low, score.high, score.reason]
