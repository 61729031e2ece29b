"""The windows of a run, stored once: token ids, and where each window lies in its document.

Folder layout, little-endian and memory-mapped, so that neither side grows with the corpus:

    tokens.bin      int32, the windows' token ids one after another
    windows.bin     one row a window, in order of window id: WINDOW
    documents.jsonl one line a document: its name
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuron_explainer.errors import StoreError

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


class WindowWriter:
    """Appends documents' windows; the files are whole once `close` has returned."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._tokens: IO[bytes] = (folder / "tokens.bin").open("wb")
        self._windows: IO[bytes] = (folder / "windows.bin").open("wb")
        self._documents: IO[str] = (folder / "documents.jsonl").open("w", encoding="utf-8")
        self.n_documents = 0
        self.n_windows = 0
        self.n_tokens = 0

    def add_document(
        self, name: str, token_ids: Sequence[int], spans: Sequence[tuple[int, int]], is_fit: bool
    ) -> None:
        """`spans`: (start, length) of each window in `token_ids`."""
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

    def close(self) -> None:
        for file in (self._tokens, self._windows, self._documents):
            file.flush()
            os.fsync(file.fileno())
            file.close()


class WindowTable:
    """Read access to the windows of a run, by window id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._windows = _map(folder / "windows.bin", WINDOW)
        self._tokens = _map(folder / "tokens.bin", np.dtype("<i4"))
        last = self._windows[-1]
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

    def ids(self, part: Part) -> Iterator[NDArray[np.int64]]:
        """Window ids of a part, ascending, some at a time."""
        for first, rows in self._chunks():
            yield np.flatnonzero(rows["is_fit"] == part.is_fit).astype(np.int64) + first

    def lengths(self, window_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._windows["length"][window_ids].astype(np.int64)

    def tokens(self, window_id: int) -> NDArray[np.int32]:
        """Token ids of one window, (seq,)."""
        row = self._windows[window_id]
        offset = int(row["offset"])
        return np.array(self._tokens[offset : offset + int(row["length"])])

    def block(self, window_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Token ids of windows of one length, (window, seq)."""
        rows = self._windows[window_ids]
        length = int(rows["length"][0])
        positions = rows["offset"][:, None] + np.arange(length)  # (window, seq)
        return self._tokens[positions].astype(np.int64)

    def document_names(self, window_ids: Sequence[int]) -> list[str]:
        """Names of the documents the windows were cut from."""
        wanted = [int(self._windows[i]["document"]) for i in window_ids]
        names: dict[int, str] = dict.fromkeys(wanted, "")
        with (self._folder / "documents.jsonl").open(encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                if number in names:
                    names[number] = json.loads(line)
        return [names[i] for i in wanted]

    def _chunks(self, size: int = 65536) -> Iterator[tuple[int, NDArray[np.void]]]:
        for first in range(0, len(self), size):
            yield first, self._windows[first : first + size]


def _map(path: Path, dtype: np.dtype[np.generic]) -> NDArray[np.void]:
    try:
        return np.memmap(path, dtype=dtype, mode="r")
    except (OSError, ValueError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> StoreError:
    return StoreError(f"{path} is missing or damaged; run `collect --fresh` with the same choices")
