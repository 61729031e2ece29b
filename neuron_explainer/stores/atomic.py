"""Files and folders that are whole or absent: write beside, fsync, rename."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

_HOST = hashlib.blake2b(platform.node().encode(), digest_size=4).hexdigest()
"""Process ids mean something on their own host alone, and a disk may be shared."""
FILES_AT_ONCE = 512
"""Of many, so many are written, then renamed together."""
SYNCS_AT_ONCE = 16
"""That the disk may answer together."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; on a clean exit it takes `path`'s place.

    After an exception, or a kill, `path` is what it was before; what a killed process left beside
    it goes with the next one that writes it. An OSError names `path`.
    """
    temporary = _make_room(path)
    try:
        with naming(path):
            temporary.touch(exist_ok=False)
            yield temporary
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """The same for a folder with all that is put into it.

    A folder that is there already is moved aside for the instant of the change: a kill in that
    instant leaves none.
    """
    temporary = _make_room(path)
    former = _make_room(path)
    try:
        with naming(path):
            temporary.mkdir()
            yield temporary
            for inside in (*temporary.rglob("*"), temporary):
                _sync(inside)
            if path.exists():
                path.rename(former)
            temporary.rename(path)
            _sync(path.parent)
    finally:
        if former.exists() and not path.exists():
            former.rename(path)
        for leftover in (temporary, former):
            shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts `path` into an OSError: a write that fails does not say to which file."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def write_text(path: Path, text: str) -> None:
    """Puts `text` at `path`, or leaves what was there."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_files(files: Iterable[tuple[Path, bytes]]) -> int:
    """What `replacing` does for one file, for thousands: how many were written.

    Each is whole or absent, in their order but for the last FILES_AT_ONCE. The disk is waited for
    once a batch, and a folder is looked through once for what killed processes left in it.
    """
    remaining, n_written = iter(files), 0
    tidied: set[Path] = set()
    with ThreadPoolExecutor(max_workers=SYNCS_AT_ONCE) as pool:
        while batch := list(islice(remaining, FILES_AT_ONCE)):
            for folder in dict.fromkeys(path.parent for path, _ in batch):
                if folder not in tidied:
                    folder.mkdir(parents=True, exist_ok=True)
                    _drop_abandoned(folder / "*")
                    tidied.add(folder)
            _write_batch(batch, pool)
            n_written += len(batch)
    return n_written


def _write_batch(batch: Sequence[tuple[Path, bytes]], pool: Executor) -> None:
    mark = f"{_HOST}-{os.getpid()}-{secrets.token_hex(4)}"
    written = [(path, path.with_name(f".{path.name}.{mark}")) for path, _ in batch]

    def write(number: int) -> None:
        path, content = batch[number]
        with naming(path), written[number][1].open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    try:
        for _ in pool.map(write, range(len(batch))):
            pass
        for path, temporary in written:
            with naming(path):
                temporary.replace(path)
        for folder in dict.fromkeys(path.parent for path, _ in batch):
            _sync(folder)
    finally:
        for _, temporary in written:
            temporary.unlink(missing_ok=True)


def _make_room(path: Path) -> Path:
    """A name beside `path` that nobody has; what killed processes left there is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _drop_abandoned(path)
    name = f".{path.name}.{_HOST}-{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(name)


def _drop_abandoned(path: Path) -> None:
    """Removes what was written beside `path` whose process, on this host, is no more; `*`: any."""
    name = ".+" if path.name == "*" else re.escape(path.name)
    pattern = re.compile(rf"\.{name}\.{_HOST}-(\d+)-[0-9a-f]{{8}}")
    for other in path.parent.iterdir():
        match = pattern.fullmatch(other.name)
        if match is not None and not _is_running(int(match[1])):
            if other.is_dir():
                shutil.rmtree(other, ignore_errors=True)
            else:
                other.unlink(missing_ok=True)


def _is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
