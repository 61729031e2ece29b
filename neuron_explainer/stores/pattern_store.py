"""What a run found of its units' patterns, in one sqlite file.

    contexts        the contexts whose means are kept, once: (row, 3) token ids
    unit_contexts   one row a unit: its context means
    unit_patterns   one row a unit: its patterns
    budgets         one row a collection: the budget of the last search that was named none

Rows name the fingerprint of the choices that made them: context means serve every budget of a
search. One unit is read without the rest.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuron_explainer.errors import StoreError
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.patterns import (
    Before,
    ContextMeans,
    FoundPatterns,
    Lack,
    Pattern,
    TokenSet,
)
from neuron_explainer.stores.closing import Closing
from neuron_explainer.stores.sqlite_file import SqliteFile

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS contexts (fingerprint TEXT PRIMARY KEY, tokens BLOB NOT NULL)",
    *(
        f"CREATE TABLE IF NOT EXISTS {table} (fingerprint TEXT NOT NULL, layer_index INTEGER "
        "NOT NULL, neuron_index INTEGER NOT NULL, found BLOB NOT NULL, "
        "PRIMARY KEY (fingerprint, layer_index, neuron_index)) WITHOUT ROWID"
        for table in ("unit_contexts", "unit_patterns")
    ),
    "CREATE TABLE IF NOT EXISTS budgets (collection TEXT PRIMARY KEY, n_tokens INTEGER NOT NULL)",
)
OF_UNIT = "fingerprint = ? AND layer_index = ? AND neuron_index = ?"


class StoredContexts(NamedTuple):
    """A unit's context means by their row."""

    rows: NDArray[np.int32]
    values: NDArray[np.float32]
    by_place: NDArray[np.float32]


class PatternStore(Closing):
    """StoreError for a file that is damaged, or of a unit that is not in it."""

    def __init__(
        self, path: Path, patterns: str, contexts: str, *, read_only: bool = False
    ) -> None:
        """patterns, contexts: fingerprints of the choices whose patterns and means are meant."""
        self._path = path
        self._patterns = patterns
        self._contexts = contexts
        self._file = SqliteFile(path, *SCHEMA, read_only=read_only)
        self._tokens: NDArray[np.int32] | None = None

    def close(self) -> None:
        self._file.close()

    def keep_budget(self, collection: str, n_tokens: int) -> None:
        """In place of an earlier one. n_tokens: of forward passes a unit."""
        values = (collection, n_tokens)
        self._file.execute("INSERT OR REPLACE INTO budgets VALUES (?, ?)", values)

    def kept_budget(self, collection: str) -> int | None:
        rows = self._select("SELECT n_tokens FROM budgets WHERE collection = ?", collection)
        return rows[0][0] if rows else None

    def write_contexts(self, tokens: NDArray[np.int32]) -> None:
        """tokens: (row, 3) ids in the text's order, negative where a row does not say."""
        blob = zlib.compress(np.ascontiguousarray(tokens, "<i4").tobytes())
        values = (self._contexts, blob)
        self._file.execute("INSERT INTO contexts VALUES (?, ?) ON CONFLICT DO NOTHING", values)

    def write_unit_contexts(self, contexts: Iterable[tuple[NeuronId, StoredContexts]]) -> None:
        """All of them in one transaction; what is there of a unit stays."""
        with self._transaction():
            for neuron_id, of_unit in contexts:
                self._file.execute(
                    "INSERT INTO unit_contexts VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    (self._contexts, *_key(neuron_id), _pack(of_unit)),
                )

    def write_patterns(self, found: Iterable[tuple[NeuronId, FoundPatterns]]) -> None:
        """All of them in one transaction, in place of what is there of them."""
        with self._transaction():
            for neuron_id, patterns in found:
                self._file.execute(
                    "INSERT OR REPLACE INTO unit_patterns VALUES (?, ?, ?, ?)",
                    (self._patterns, *_key(neuron_id), zlib.compress(_dump(patterns))),
                )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._file.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._file.execute("COMMIT")
        except BaseException:
            with suppress(StoreError):  # where sqlite has done so itself, as on a full disk
                self._file.execute("ROLLBACK")
            raise

    def units_with_contexts(self) -> set[NeuronId]:
        return self._units("unit_contexts", self._contexts)

    def units_with_patterns(self) -> set[NeuronId]:
        return self._units("unit_patterns", self._patterns)

    def _units(self, table: str, fingerprint: str) -> set[NeuronId]:
        rows = self._select(
            f"SELECT layer_index, neuron_index FROM {table} WHERE fingerprint = ?", fingerprint
        )
        return {NeuronId(*row) for row in rows}

    def read_patterns(self, neuron_id: NeuronId) -> FoundPatterns:
        blob = self._read("unit_patterns", self._patterns, neuron_id)
        try:
            return _load(zlib.decompress(blob))
        except (zlib.error, ValueError, LookupError, TypeError) as error:
            raise self._damaged(error) from error

    def read_contexts(self, neuron_id: NeuronId, display: Sequence[str]) -> ContextMeans:
        """display: the string of each token id."""
        blob = self._read("unit_contexts", self._contexts, neuron_id)
        try:
            raw = zlib.decompress(blob)
            n = int(np.frombuffer(raw, "<i4", 1)[0])
            rows = np.cumsum(np.frombuffer(raw, "<i4", n, 4))
            values = np.frombuffer(raw, "<f4", n, 4 + 4 * n).tolist()
            by_place = tuple(np.frombuffer(raw, "<f4", -1, 4 + 8 * n).tolist())
            return _context_means(self._context_tokens()[rows], values, by_place, display)
        except (zlib.error, ValueError, LookupError, TypeError) as error:
            raise self._damaged(error) from error

    def _context_tokens(self) -> NDArray[np.int32]:
        if self._tokens is None:
            rows = self._select("SELECT tokens FROM contexts WHERE fingerprint = ?", self._contexts)
            self._tokens = np.frombuffer(zlib.decompress(rows[0][0]), "<i4").reshape(-1, 3)
        return self._tokens

    def _read(self, table: str, fingerprint: str, neuron_id: NeuronId) -> bytes:
        rows = self._file.execute(
            f"SELECT found FROM {table} WHERE {OF_UNIT}", (fingerprint, *_key(neuron_id))
        )
        if not rows:
            raise StoreError(f"{self._path}: neuron {neuron_id} has no patterns yet; run `explain`")
        blob: bytes = rows[0][0]
        return blob

    def _select(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        return self._file.execute(query, values)

    def _damaged(self, error: Exception) -> StoreError:
        return StoreError(f"{self._path} is damaged ({error}); remove it, and run `explain` again")


def _key(neuron_id: NeuronId) -> tuple[int, int]:
    return neuron_id.layer_index, neuron_id.neuron_index


def _pack(contexts: StoredContexts) -> bytes:
    parts = (
        np.array([len(contexts.rows)], "<i4"),
        np.diff(contexts.rows, prepend=0).astype("<i4"),
        contexts.values.astype("<f4"),
        contexts.by_place.astype("<f4"),
    )
    return zlib.compress(b"".join(part.tobytes() for part in parts))


def _context_means(
    tokens: NDArray[np.int32],
    values: Sequence[float],
    by_place: tuple[float, ...],
    display: Sequence[str],
) -> ContextMeans:
    by_suffix: dict[tuple[str, ...], float] = {}
    by_previous: dict[str, float] = {}
    for (first, previous, current), value in zip(tokens.tolist(), values, strict=True):
        if current < 0:
            by_previous[display[previous]] = value
        elif first < 0:
            by_suffix[display[previous], display[current]] = value
        else:
            by_suffix[display[first], display[previous], display[current]] = value
    return ContextMeans(by_suffix, by_previous, by_place)


def plain_pattern(pattern: Pattern) -> dict[str, Any]:
    """As JSON has it; sets are sorted, None is null."""
    return {
        "sets": [None if fits is None else sorted(fits) for fits in pattern.sets],
        "activation": pattern.activation,
        "n_matches": pattern.n_matches,
        "share": pattern.share,
        "precision": pattern.precision,
        "seed": pattern.seed,
        "seed_activations": pattern.seed_activations,
        "at_start": pattern.at_start,
        "lack": pattern.lack,
        "strongest": pattern.strongest,
        "word_starts": sorted(pattern.word_starts),
        "peak_share": pattern.peak_share,
    }


def plain_patterns(found: FoundPatterns) -> dict[str, Any]:
    """As JSON has it."""
    return {
        "patterns": [plain_pattern(pattern) for pattern in found.patterns],
        "n_tokens": found.n_tokens,
        "is_cut_short": found.is_cut_short,
        "before": found.before,
    }


def _dump(found: FoundPatterns) -> bytes:
    text = json.dumps(
        plain_patterns(found), ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )
    return text.encode("utf-8", "surrogatepass")


def _load(raw: bytes) -> FoundPatterns:
    plain: Mapping[str, Any] = json.loads(raw.decode("utf-8", "surrogatepass"))
    before = plain["before"]
    return FoundPatterns(
        patterns=tuple(_pattern(one) for one in plain["patterns"]),
        n_tokens=plain["n_tokens"],
        is_cut_short=plain["is_cut_short"],
        before=None if before is None else Before(*before),
    )


def _pattern(plain: Mapping[str, Any]) -> Pattern:
    sets: tuple[TokenSet, ...] = tuple(
        None if fits is None else frozenset(fits) for fits in plain["sets"]
    )
    tuples = {name: tuple(plain[name]) for name in ("seed", "seed_activations", "strongest")}
    others = {
        "sets": sets,
        "lack": None if plain["lack"] is None else Lack(plain["lack"]),
        "word_starts": frozenset(plain["word_starts"]),
    }
    return Pattern(**{**plain, **tuples, **others})
