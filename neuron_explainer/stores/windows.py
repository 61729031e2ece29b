"""The windows of a run, stored once: token ids, and where each window lies in its document.

Folder layout, little-endian; written and read a little at a time, so that memory does not grow
with the corpus:

    tokens.bin      int32, the windows' token ids one after another
    windows.bin     one row a window, in order of window id: WINDOW
    documents.jsonl one line a document: its name
    counts.json     WindowCounts; written last, so a table with it is whole
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuron_explainer.errors import StoreError
from neuron_explainer.stores import atomic
from neuron_explainer.stores.placed_file import PlacedFile

WINDOW = np.dtype(
    [
        ("offset", "<i8"),  # of the first token in tokens.bin
        ("document", "<i4"),  # line in documents.jsonl
        ("start", "<i4"),  # of the window in its document, in tokens, the separator included
        ("length", "<i2"),
        ("is_fit", "?"),
    ]
)


class Part(NamedTuple):
    """Which windows of a table are meant."""

    is_fit: bool


FIT = Part(is_fit=True)
"""Windows that statistics are fitted on."""
RECORD = Part(is_fit=False)
"""Windows that are kept as records, and so explained and scored on."""


@dataclass(slots=True)
class WindowCounts:
    """What became of the corpus."""

    n_documents: int = 0
    n_duplicates: int = 0
    """Documents left out because their text had come before."""
    n_near_duplicates: int = 0
    """Windows left out because most of their text had come before."""
    n_short: int = 0
    """Windows left out because they are too short."""
    n_windows: int = 0
    n_tokens: int = 0


class WindowWriter:
    """Appends documents' windows; the table is whole once `finish` has returned."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        (folder / "counts.json").unlink(missing_ok=True)
        self._tokens: IO[bytes] = (folder / "tokens.bin").open("wb")
        self._windows: IO[bytes] = (folder / "windows.bin").open("wb")
        self._documents: IO[str] = (folder / "documents.jsonl").open("w", encoding="utf-8")
        self.n_documents = 0
        self.n_windows = 0
        self.n_tokens = 0

    def add_document(
        self, name: str, token_ids: ArrayLike, spans: Sequence[tuple[int, int]], is_fit: bool
    ) -> None:
        """`spans`: (start, length) of each window in `token_ids`."""
        with atomic.naming(self._folder):
            self._add(name, token_ids, spans, is_fit)

    def _add(
        self, name: str, token_ids: ArrayLike, spans: Sequence[tuple[int, int]], is_fit: bool
    ) -> None:
        ids = np.asarray(token_ids, dtype="<i4")
        rows = np.empty(len(spans), dtype=WINDOW)
        for row, (start, length) in zip(rows, spans, strict=True):
            row["offset"] = self.n_tokens
            row["document"] = self.n_documents
            row["start"] = start
            row["length"] = length
            row["is_fit"] = is_fit
            self._tokens.write(ids[start : start + length].tobytes())
            self.n_tokens += length
        self._windows.write(rows.tobytes())
        self._documents.write(json.dumps(name) + "\n")  # a file's name may not be UTF-8
        self.n_windows += len(spans)
        self.n_documents += 1

    def finish(self, counts: WindowCounts) -> None:
        self.close()
        atomic.write_text(self._folder / "counts.json", json.dumps(asdict(counts)))

    def close(self) -> None:
        with atomic.naming(self._folder):
            for file in (self._tokens, self._windows, self._documents):
                if not file.closed:
                    file.flush()
                    os.fsync(file.fileno())
                    file.close()


class WindowTable:
    """Read access to the windows of a run, by window id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._windows = _Rows(folder / "windows.bin", WINDOW)
        self._tokens = _Rows(folder / "tokens.bin", np.dtype("<i4"))
        last = self._windows.read(len(self._windows) - 1, 1)[0]
        if int(last["offset"]) + int(last["length"]) != len(self._tokens):
            raise _damaged(folder / "tokens.bin")

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def n_tokens(self) -> int:
        return len(self._tokens)

    def count(self, part: Part) -> tuple[int, int]:
        """(windows, tokens) of a part."""
        n_windows = n_tokens = 0
        for _, rows in self._chunks():
            lengths = rows["length"][rows["is_fit"] == part.is_fit]
            n_windows += len(lengths)
            n_tokens += int(lengths.sum(dtype=np.int64))
        return n_windows, n_tokens

    def count_tokens(self, part: Part, n_vocabulary: int) -> NDArray[np.int64]:
        """Occurrences of each token id in the windows of a part, (vocabulary,)."""
        counts = np.zeros(n_vocabulary, np.int64)
        for _, rows in self._chunks():
            first, n_tokens = int(rows["offset"][0]), int(rows["length"].sum(dtype=np.int64))
            is_counted = np.repeat(rows["is_fit"] == part.is_fit, rows["length"])
            ids = self._tokens.read(first, n_tokens)[is_counted]
            counts += np.bincount(ids, minlength=n_vocabulary)
        return counts

    def ids(self, part: Part) -> Iterator[NDArray[np.int64]]:
        """Window ids of a part, ascending, some at a time."""
        for first, rows in self._chunks():
            yield np.flatnonzero(rows["is_fit"] == part.is_fit).astype(np.int64) + first

    def lengths(self, window_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """(window,) in tokens; `window_ids` ascending."""
        if len(window_ids) == 0:
            return np.zeros(0, np.int64)
        first, last = int(window_ids[0]), int(window_ids[-1])
        rows = self._windows.read(first, last - first + 1)
        return rows["length"][window_ids - first].astype(np.int64)

    def tokens(self, window_id: int) -> NDArray[np.int32]:
        """Token ids of one window, (seq,)."""
        row = self._windows.read(window_id, 1)[0]
        return self._tokens.read(int(row["offset"]), int(row["length"])).copy()

    def block(self, window_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Token ids of windows of one length, (window, seq)."""
        return np.stack([self.tokens(i) for i in window_ids.tolist()]).astype(np.int64)

    def document_names(self, window_ids: Sequence[int]) -> list[str]:
        """Names of the documents the windows were cut from."""
        wanted = [int(self._windows.read(i, 1)[0]["document"]) for i in window_ids]
        names: dict[int, str] = dict.fromkeys(wanted, "")
        with (self._folder / "documents.jsonl").open(encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                if number in names:
                    names[number] = json.loads(line)
        return [names[i] for i in wanted]

    def _chunks(self, size: int = 16384) -> Iterator[tuple[int, NDArray[np.void]]]:
        for first in range(0, len(self), size):
            yield first, self._windows.read(first, min(size, len(self) - first))


class _Rows:
    """A file of rows, read by number."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self._path = path
        self._dtype = dtype
        try:
            self._file = PlacedFile(path)
        except OSError as error:
            raise _damaged(path) from error
        self._n_rows, n_more = divmod(self._file.size_bytes, dtype.itemsize)
        if self._n_rows == 0 or n_more:
            raise _damaged(path)

    def __len__(self) -> int:
        return self._n_rows

    def read(self, first: int, n_rows: int) -> NDArray[Any]:
        """(row,)"""
        if not 0 <= first <= first + n_rows <= self._n_rows:  # a damaged row points anywhere
            raise _damaged(self._path)
        width = self._dtype.itemsize
        return np.frombuffer(self._file.read(first * width, n_rows * width), dtype=self._dtype)


def read_counts(folder: Path) -> WindowCounts | None:
    """What became of the corpus; None when the table in the folder is not whole."""
    path = folder / "counts.json"
    try:
        return WindowCounts(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> StoreError:
    return StoreError(f"{path} is missing or damaged; run `collect --fresh` with the same choices")
