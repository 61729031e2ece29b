"""The files of a bundle, as a folder or as a zip: hashed as written, verified before read.

A zip's members have no date, so that the same content gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.formats.rows import first_line
from neuron_explainer.records.bundle import BundledFile

CHUNK_BYTES = 1 << 20
_NO_DATE = (1980, 1, 1, 0, 0, 0)
_OF_DAMAGE = (
    OSError, EOFError, ValueError, RuntimeError, NotImplementedError, OverflowError, MemoryError,
    KeyError, zlib.error, lzma.LZMAError, struct.error, zipfile.BadZipFile,
)  # fmt: skip
"""What the system and zipfile raise for a file that is not what it was, or needs a password."""


class HashedFile(io.RawIOBase):
    """A file that is written once, from its beginning; knows its size and its hash."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._size_bytes = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size_bytes

    def write(self, content: Any) -> int:
        """content: bytes or a view of some."""
        view = memoryview(content).cast("B")
        self._file.write(view)
        self._digest.update(view)
        self._size_bytes += len(view)
        return len(view)

    def described(self, n_rows: int | None) -> BundledFile:
        return BundledFile(self._size_bytes, self._digest.hexdigest(), n_rows)


class BundleTarget:
    """Where the files of a new bundle go, one after the other."""

    def __init__(self, path: Path, *, is_zip: bool) -> None:
        """path: a folder that is there, or the file that is to be the zip."""
        self._path = path
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) if is_zip else None

    def close(self) -> None:
        """Without it a zip is not whole."""
        if self._zip is not None:
            self._zip.close()

    @contextmanager
    def file(self, name: str) -> Iterator[HashedFile]:
        if self._zip is None:
            with (self._path / name).open("wb") as file:
                yield HashedFile(file)
            return
        member = zipfile.ZipInfo(name, _NO_DATE)
        member.compress_type = zipfile.ZIP_DEFLATED
        member.external_attr = 0o644 << 16
        with self._zip.open(member, "w", force_zip64=True) as file:
            yield HashedFile(file)


class BundleSource:
    """A bundle that is there; RecordFormatError, which names the file, for whatever is wrong."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._zip: zipfile.ZipFile | None = None
        if not path.is_dir():
            with self._sound(path.name, path):
                self._zip = zipfile.ZipFile(path)

    def close(self) -> None:
        if self._zip is not None:
            self._zip.close()

    def where(self, name: str) -> Path:
        """The file's path, for a person: below the folder or the zip."""
        return self._path / name

    def read(self, name: str) -> bytes:
        """A small file as a whole."""
        with self._sound(name), self._open(name) as file:
            return file.read()

    def verify(self, name: str, expected: BundledFile) -> None:
        """Reads it to the end."""
        digest, size_bytes = hashlib.sha256(), 0
        with self._sound(name), self._open(name) as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                size_bytes += len(chunk)
        found = (size_bytes, digest.hexdigest())
        if found != (expected.size_bytes, expected.sha256):
            raise RecordFormatError(
                self.where(name),
                f"it is not the file that was written (checksum differs, {size_bytes:,} of "
                f"{expected.size_bytes:,} bytes); get the bundle again",
            )

    def lines(self, name: str) -> Iterator[bytes]:
        with self._sound(name):
            file = self._open(name)
        with file:
            while line := self._line(name, file):
                yield line

    def _line(self, name: str, file: IO[bytes]) -> bytes:
        with self._sound(name):
            return file.readline()

    def _open(self, name: str) -> IO[bytes]:
        if self._zip is None:
            return self.where(name).open("rb")
        return self._zip.open(name)

    @contextmanager
    def _sound(self, name: str, path: Path | None = None) -> Iterator[None]:
        where = path or self.where(name)
        try:
            yield
        except RecordFormatError:
            raise
        except (FileNotFoundError, KeyError) as error:
            raise RecordFormatError(where, "it is missing; get the bundle again") from error
        except _OF_DAMAGE as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise RecordFormatError(
                where, f"cannot be read ({reason}); get the bundle again"
            ) from error
