"""Parts of a file by their place. Not mapped: mapped pages count as the process's memory."""

from __future__ import annotations

import os
import weakref
from pathlib import Path


class PlacedFile:
    """OSError for what cannot be opened or read; it is closed when nothing refers to it."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._handle)
        self.size_bytes = os.fstat(self._handle).st_size

    def read(self, place: int, n_bytes: int) -> bytes:
        """Fewer bytes where the file ends before."""
        return os.pread(self._handle, n_bytes, place)
