"""A file is what it was, or what it was to become; never something between."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
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


def names_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("old", ["old", None])
def test_a_new_folder_takes_the_old_ones_place_with_all_that_is_in_it(
    tmp_path: Path, old: str | None
) -> None:
    path = tmp_path / "folder"
    if old is not None:
        (path / old).mkdir(parents=True)
    with atomic.replacing_folder(path) as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner/file").write_text("new")
        assert path.exists() == (old is not None)
    assert names_in(tmp_path) == {"folder", "folder/inner", "folder/inner/file"}


@pytest.mark.parametrize("error", [RuntimeError("full"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("old", ["old", None])
def test_after_an_exception_a_folder_is_as_before(
    tmp_path: Path, error: BaseException, old: str | None
) -> None:
    path = tmp_path / "folder"
    if old is not None:
        (path / old).mkdir(parents=True)
    before = names_in(tmp_path)
    with pytest.raises(type(error)), atomic.replacing_folder(path) as temporary:
        (temporary / "half").write_text("of")
        raise error
    assert names_in(tmp_path) == before


def test_a_folder_that_a_killed_process_left_goes_with_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    child = subprocess.run(
        [sys.executable, "-c", KILLED_IN_A_FOLDER, str(path)], check=False, timeout=60
    )
    assert child.returncode == -signal.SIGKILL
    assert not path.exists()
    assert len(names_in(tmp_path)) == 2
    with atomic.replacing_folder(path):
        pass
    assert names_in(tmp_path) == {"folder"}


KILLED_IN_A_FOLDER = """
import os, signal, sys
from pathlib import Path
from neuron_explainer.stores import atomic
with atomic.replacing_folder(Path(sys.argv[1])) as temporary:
    (temporary / "half").write_text("of")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_many_files_are_written_as_one_is(tmp_path: Path) -> None:
    files = [(tmp_path / str(n % 3) / f"{n}.json", f"{n}".encode()) for n in range(1300)]
    assert atomic.write_files(iter(files)) == len(files)
    assert {path: path.read_bytes() for path, _ in files} == dict(files)
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == len(files)
    atomic.write_files([(files[0][0], b"new")])
    assert files[0][0].read_bytes() == b"new"


def test_of_many_files_a_failed_batch_leaves_what_was_there(tmp_path: Path) -> None:
    def some() -> Iterator[tuple[Path, bytes]]:
        for n in range(atomic.FILES_AT_ONCE + 1):
            yield tmp_path / str(n), b"new"
        raise RuntimeError("the archive is damaged")

    (tmp_path / "0").write_bytes(b"old")
    last = tmp_path / str(atomic.FILES_AT_ONCE)
    last.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="damaged"):
        atomic.write_files(some())
    assert ((tmp_path / "0").read_bytes(), last.read_bytes()) == (b"new", b"old")
    assert len(list(tmp_path.iterdir())) == atomic.FILES_AT_ONCE + 1


def test_of_many_files_one_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    files = [(tmp_path / "a.json", b"a"), (tmp_path / "folder.json", b"b")]
    with pytest.raises(OSError, match="directory") as raised:
        atomic.write_files(files)
    assert raised.value.filename == str(tmp_path / "folder.json")
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
