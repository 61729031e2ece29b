"""Vectors of numbered texts on disk, and those nearest to another vector: exact, by cosine.

    FOLDER/{first}-{last}.npy   one record: all ids, ascending, then all vectors in float16

A part is whole or absent, is never changed, and is read through mmap: two processes that add the
same rows write the same file. Vectors have length 1. float16 keeps a cosine to about 0.0005, in
half the room.

1. A rough cosine of every row is computed in float16, which reads the vectors once as they are.
2. A rough cosine is off by ROUGH_ERROR at the most. So none of the m nearest is more than twice
   that below the m-th largest rough one; all that are not are computed again in float32.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuron_explainer.errors import StoreError
from neuron_explainer.stores.atomic import replacing

FIRST_AT_ONCE, TIMES_MORE = 256, 8
"""So many of the nearest are found first, and each time that more are wanted."""
ROWS_AT_ONCE = 16_384
"""That are float32 in memory at a time."""
ROUGH_ERROR = 2.0**-9
"""Twice what can be: 2**-11 each for the rounding of the query and of the cosine, and float32's own
in between, as torch adds up in float32 unless it is told otherwise."""
_PART = re.compile(r"(\d+)-(\d+)\.npy")


class Near(NamedTuple):
    """One of the nearest."""

    id: int
    cosine: float


class _Part(NamedTuple):
    ids: NDArray[np.int64]
    vectors: Tensor
    """(id, dimension), float16."""


class Vectors:
    """All parts of a folder, opened; StoreError, which names the file, for a damaged one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts: list[_Part] = []
        for path in _part_paths(folder):
            ids, vectors = _read_part(path)
            n_known = int(np.searchsorted(ids, self.last_id, side="right"))
            if n_known < len(ids):  # two processes that add at once may each have written them
                self._parts.append(_Part(ids[n_known:], vectors[n_known:]))

    def __len__(self) -> int:
        return sum(len(part.ids) for part in self._parts)

    @property
    def last_id(self) -> int:
        """The largest; 0: there is none."""
        return int(self._parts[-1].ids[-1]) if self._parts else 0

    def add(self, ids: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """ids: ascending, above the last. vectors: (id, dimension), each of length 1."""
        if not ids or ids[0] <= self.last_id:
            raise ValueError(f"ids that do not follow {self.last_id}")
        kinds = [("ids", "<i8", (len(ids),)), ("vectors", "<f2", vectors.shape)]
        record = np.empty(1, dtype=kinds)
        record["ids"], record["vectors"] = ids, vectors
        path = self._folder / f"{ids[0]}-{ids[-1]}.npy"
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, record)
        self._parts.append(_read_part(path))

    def nearest(
        self, vector: NDArray[np.float32], k: int, among: Sequence[int] | None = None
    ) -> tuple[Near, ...]:
        """The first k of `ranked`."""
        return tuple(islice(self.ranked(vector, among), k))

    def ranked(
        self, vector: NDArray[np.float32], among: Sequence[int] | None = None
    ) -> Iterator[Near]:
        """By cosine, descending; equal ones by id. The next are found when they are asked for.

        among: ids to choose from, ascending; None: all.
        """
        if not self._parts:
            return
        ids = np.concatenate([part.ids for part in self._parts])
        places = None if among is None else _places_of(ids, np.asarray(among, dtype=np.int64))
        rough = self._rough_cosines(vector, places)  # (row,)
        error = ROUGH_ERROR * float(np.linalg.norm(vector))
        n_told, n_wanted = 0, FIRST_AT_ONCE
        while n_told < len(rough):
            kept = _near_largest(rough, n_wanted, 2 * error)
            kept = kept if places is None else places[kept]
            cosines = self._cosines(vector, kept)
            order = np.lexsort((ids[kept], -cosines))[n_told:n_wanted]
            yield from map(Near, ids[kept[order]].tolist(), cosines[order].tolist())
            n_told, n_wanted = n_wanted, n_wanted * TIMES_MORE

    def _rough_cosines(
        self, vector: NDArray[np.float32], places: NDArray[np.int64] | None
    ) -> NDArray[np.float32]:
        """(row,), computed in float16; of the rows at some places, or of all."""
        query = torch.from_numpy(vector).half()
        if places is None:
            cosines = [part.vectors @ query for part in self._parts]
        else:
            cosines = [rows @ query for rows in self._rows_at(places)]
        rough: NDArray[np.float32] = torch.cat(cosines or [query[:0]]).float().numpy()
        return rough

    def _cosines(
        self, vector: NDArray[np.float32], places: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """(row,); each computed by itself, so that equal vectors have equal ones."""
        cosines = np.empty(len(places), np.float32)
        for start in range(0, len(places), ROWS_AT_ONCE):
            chunk = places[start : start + ROWS_AT_ONCE]
            rows = torch.cat(list(self._rows_at(chunk))).float().numpy()  # (row, dimension)
            cosines[start : start + len(chunk)] = (rows * vector).sum(axis=1)
        return cosines

    def _rows_at(self, places: NDArray[np.int64]) -> Iterator[Tensor]:
        """(row, dimension) in float16, a tensor a part. places: among all rows, ascending."""
        firsts = np.cumsum([0, *(len(part.ids) for part in self._parts)])
        cuts = np.searchsorted(places, firsts)
        for part, first, (start, end) in zip(self._parts, firsts, pairwise(cuts), strict=False):
            if start < end:  # numpy's indexing, as torch's takes ten times as long for a few rows
                yield torch.from_numpy(part.vectors.numpy()[places[start:end] - first])


def _places_of(ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of those that are among the ids; both ascending."""
    places = np.searchsorted(ids, wanted)
    is_there = places < len(ids)
    is_there[is_there] = ids[places[is_there]] == wanted[is_there]
    found: NDArray[np.int64] = places[is_there]
    return found


def _near_largest(values: NDArray[np.float32], n: int, distance: float) -> NDArray[np.int64]:
    """Places, ascending, of the n largest and of all that are at most `distance` below them."""
    if n >= len(values):
        return np.arange(len(values))
    places: NDArray[np.int64] = np.flatnonzero(values >= np.partition(values, -n)[-n] - distance)
    return places


def _part_paths(folder: Path) -> list[Path]:
    """By the first id; of those that begin alike the longest first."""
    if not folder.is_dir():
        return []
    matches = [match for path in folder.iterdir() if (match := _PART.fullmatch(path.name))]
    matches.sort(key=lambda match: (int(match[1]), -int(match[2])))
    return [folder / match[0] for match in matches]


def _read_part(path: Path) -> _Part:
    try:
        # Copied where it is written to, which nothing does: torch takes no read-only memory.
        record: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise StoreError(f"{path}: {error}; remove the folder, and it is made anew") from error
    if record.dtype.names != ("ids", "vectors") or record.shape != (1,) or not record["ids"].size:
        raise StoreError(f"{path}: no vectors; remove the folder, and it is made anew")
    return _Part(record["ids"][0], torch.from_numpy(record["vectors"][0]))
