"""Vectors of numbered texts on disk, and those nearest to another vector: exact, by cosine.

    FOLDER/{first}-{last}.npy   rows (id, vector in float16), ids ascending, read through mmap

A part is whole or absent, and is never changed: two processes that add the same rows write the
same file. Vectors have length 1. float16 keeps a cosine to about 0.0005, in half the room.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuron_explainer.errors import StoreError
from neuron_explainer.stores.atomic import replacing

ROWS_AT_ONCE = 16_384
"""That are float32 in memory at a time."""
_PART = re.compile(r"(\d+)-(\d+)\.npy")


class Near(NamedTuple):
    """One of the nearest."""

    id: int
    cosine: float


class _Part(NamedTuple):
    last_id: int
    rows: NDArray[Any]


class Vectors:
    """All parts of a folder, opened; StoreError, which names the file, for a damaged one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts: list[_Part] = []
        for path in _part_paths(folder):
            rows = _read_part(path)
            rows = rows[np.searchsorted(rows["id"], self.last_id, side="right") :]
            if len(rows):  # two processes that add at once may each have written them
                self._parts.append(_Part(int(rows["id"][-1]), rows))

    def __len__(self) -> int:
        return sum(len(part.rows) for part in self._parts)

    @property
    def last_id(self) -> int:
        """The largest; 0: there is none."""
        return max((part.last_id for part in self._parts), default=0)

    def add(self, ids: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """ids: ascending, above the last. vectors: (id, dimension), each of length 1."""
        if not ids or ids[0] <= self.last_id:
            raise ValueError(f"ids that do not follow {self.last_id}")
        rows = np.empty(len(ids), dtype=[("id", "<i8"), ("vector", "<f2", vectors.shape[1:])])
        rows["id"], rows["vector"] = ids, vectors
        path = self._folder / f"{ids[0]}-{ids[-1]}.npy"
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, rows)
        self._parts.append(_Part(ids[-1], _read_part(path)))

    def nearest(
        self, vector: NDArray[np.float32], k: int, among: Sequence[int] | None = None
    ) -> tuple[Near, ...]:
        """The k with the largest cosine, descending; equal ones by id.

        among: ids to choose from, ascending; None: all.
        """
        allowed = None if among is None else np.asarray(among, dtype=np.int64)
        best_ids, best = np.empty(0, np.int64), np.empty(0, np.float32)
        for rows in self._chunks():
            ids = rows["id"]
            kept = slice(None) if allowed is None else np.isin(ids, allowed, assume_unique=True)
            cosines = rows["vector"][kept].astype(np.float32) @ vector  # (row,)
            best_ids = np.concatenate([best_ids, ids[kept]])
            best = np.concatenate([best, cosines])
            order = _largest(best, best_ids, k)
            best_ids, best = best_ids[order], best[order]
        return tuple(map(Near, best_ids.tolist(), best.tolist()))

    def _chunks(self) -> Iterator[NDArray[Any]]:
        for part in self._parts:
            for start in range(0, len(part.rows), ROWS_AT_ONCE):
                yield part.rows[start : start + ROWS_AT_ONCE]


def _largest(values: NDArray[np.float32], ids: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Places of the k largest values, descending; equal ones by id."""
    if len(values) > k:
        least = np.partition(values, -k)[-k]
        candidates = np.flatnonzero(values >= least)
    else:
        candidates = np.arange(len(values))
    order = np.lexsort((ids[candidates], -values[candidates]))
    largest: NDArray[np.int64] = candidates[order[:k]]
    return largest


def _part_paths(folder: Path) -> list[Path]:
    """By the first id; of those that begin alike the longest first."""
    if not folder.is_dir():
        return []
    matches = [match for path in folder.iterdir() if (match := _PART.fullmatch(path.name))]
    matches.sort(key=lambda match: (int(match[1]), -int(match[2])))
    return [folder / match[0] for match in matches]


def _read_part(path: Path) -> NDArray[Any]:
    try:
        rows: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise StoreError(f"{path}: {error}; remove the folder, and it is made anew") from error
    if rows.dtype.names != ("id", "vector") or not len(rows):
        raise StoreError(f"{path}: no vectors; remove the folder, and it is made anew")
    return rows
