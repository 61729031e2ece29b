"""Files that are whole or absent: write beside, fsync, rename."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HOST = hashlib.blake2b(platform.node().encode(), digest_size=4).hexdigest()
"""Process ids mean something on their own host alone, and a disk may be shared."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; on a clean exit it takes `path`'s place.

    After an exception, or a kill, `path` is what it was before; what a killed process left beside
    it goes with the next one that writes it. An OSError names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _drop_abandoned(path)
    name = f".{path.name}.{_HOST}-{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(name)
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


def _drop_abandoned(path: Path) -> None:
    """Removes temporary files of `path` whose process, on this host, is no more."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.{_HOST}-(\d+)-[0-9a-f]{{8}}")
    for other in path.parent.iterdir():
        match = pattern.fullmatch(other.name)
        if match is not None and not _is_running(int(match[1])):
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
