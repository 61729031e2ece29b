"""A file is what it was, or what it was to become; never something between."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from neuron_explainer.stores import atomic


def test_the_new_content_takes_the_old_ones_place(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with atomic.replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError("full"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("old", ["old", None])
def test_after_an_exception_all_is_as_before(
    tmp_path: Path, error: BaseException, old: str | None
) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_text(old)
    with pytest.raises(type(error)), atomic.replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert [p.read_text() for p in tmp_path.iterdir()] == ([] if old is None else [old])


def test_a_full_disk_is_told_of_the_file_that_was_to_be(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(OSError, match="full") as raised, atomic.replacing(path):
        raise OSError(errno.ENOSPC, "full")
    assert raised.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_missing_folders_are_made(tmp_path: Path) -> None:
    atomic.write_text(tmp_path / "a" / "b" / "file", "träume\n")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == "träume\n".encode()


def test_text_that_cannot_be_encoded_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    atomic.write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        atomic.write_text(path, "new \ud800")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    child = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_WRITING, str(path)], check=False, timeout=60
    )
    assert child.returncode == -signal.SIGKILL
    abandoned = [other.name for other in tmp_path.iterdir()]
    assert len(abandoned) == 1
    alive = tmp_path / f".result.json.{atomic._HOST}-{os.getpid()}-0123abcd"
    alive.write_text("of a process that is still writing")
    other_file = tmp_path / ".result.json.00000000-1-0123abcd"  # of another host
    other_file.write_text("not ours")
    atomic.write_text(path, "done")
    assert {p.name for p in tmp_path.iterdir()} == {"result.json", alive.name, other_file.name}


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from neuron_explainer.stores import atomic
with atomic.replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
