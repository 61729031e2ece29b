"""A run folder belongs to one set of choices and one writer, and is cleared of its own alone."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from neuron_explainer.errors import SpecMismatch, StoreError
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.stores.store_manifest import MANIFEST

CHOICES: dict[str, Any] = {"n_tokens": 100, "seed": 0, "layers": (0, 1), "model": "Größe"}
HOLD_THE_LOCK = """
import sys
from pathlib import Path
from neuron_explainer.pipeline.folder import RunFolder
with RunFolder(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def test_a_new_folder_has_no_choices(folder: RunFolder) -> None:
    assert folder.read_choices() is None


def test_a_folder_is_claimed_again_by_the_same_choices(folder: RunFolder) -> None:
    folder.claim(CHOICES)
    folder.claim(dict(reversed(CHOICES.items())))
    assert folder.read_choices() == {**CHOICES, "layers": [0, 1]}


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"n_tokens": 200}, "(tokens was 100, now 200)"),
        ({"seed": 1}, "(seed was 0, now 1)"),
        ({"layers": (0,)}, "(layers was [0, 1], now [0])"),
        ({"seed": 1, "model": "m"}, "(seed was 0, now 1, model was Größe, now m)"),
        ({"fit_share": 0.5}, "(fit-share was None, now 0.5)"),
    ],
)
def test_other_choices_are_refused_with_what_differs(
    folder: RunFolder, changes: dict[str, Any], difference: str
) -> None:
    folder.claim(CHOICES)
    write(folder.store / MANIFEST)
    with pytest.raises(SpecMismatch) as raised:
        folder.claim({**CHOICES, **changes})
    assert difference in str(raised.value)
    assert "--fresh" in str(raised.value)
    folder.claim(CHOICES)


def test_choices_that_came_to_no_collection_bind_nobody(folder: RunFolder) -> None:
    folder.claim(CHOICES)
    folder.claim({**CHOICES, "seed": 1})
    assert folder.read_choices() == {**CHOICES, "layers": [0, 1], "seed": 1}


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"seed": "x"}'])
def test_damaged_choices_are_named(folder: RunFolder, text: str) -> None:
    folder.claim(CHOICES)
    write(folder.store / MANIFEST)
    (folder.path / "run.json").write_text(text)
    with pytest.raises(StoreError, match=r"run\.json is damaged; use --fresh"):
        folder.claim(CHOICES)


def test_clearing_removes_what_a_run_made_and_nothing_else(folder: RunFolder) -> None:
    folder.claim(CHOICES)
    for run in (folder, folder.preview):
        made = ["store/layer_000/means.safetensors", "report.html", "results.sqlite"]
        for name in [*made, "results.sqlite-wal", "results.sqlite-shm"]:
            write(run.path / name)
    foreign = ["notes.md", "results.sqlite.mine", "results.csv", "stores/a", "report.html.old"]
    for name in foreign:
        write(folder.path / name)
    with folder.locked():
        folder.clear()
    left = {str(p.relative_to(folder.path)) for p in folder.path.rglob("*") if p.is_file()}
    assert left - {".lock"} == set(foreign)
    assert folder.read_choices() is None
    folder.clear()


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")


def test_a_folder_that_was_cleared_takes_other_choices(folder: RunFolder) -> None:
    folder.claim(CHOICES)
    folder.clear()
    folder.claim({**CHOICES, "seed": 1})


def test_a_second_writer_is_refused_until_the_first_is_gone(folder: RunFolder) -> None:
    command = [sys.executable, "-c", HOLD_THE_LOCK, str(folder.path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "locked\n"
            with pytest.raises(StoreError, match=f"another process is writing to {folder.path}"):
                enter(folder)
        finally:
            other.kill()
    assert (folder.path / ".lock").exists()
    enter(folder)


def test_a_process_that_only_looks_is_waited_for(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.path.mkdir()
    with (folder.path / ".lock").open("w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        monkeypatch.setattr(time, "sleep", lambda _: None)
        with pytest.raises(StoreError, match="another process"):
            enter(folder)
        monkeypatch.setattr(time, "sleep", lambda _: fcntl.flock(looking, fcntl.LOCK_UN))
        with folder.locked():
            assert folder.is_locked()
        assert not folder.is_locked()


def enter(folder: RunFolder) -> None:
    with folder.locked():
        pass


def test_a_folder_that_was_made_in_vain_goes_again(folder: RunFolder, tmp_path: Path) -> None:
    with folder.locked():
        pass
    assert not folder.path.exists()
    with folder.locked():
        folder.claim(CHOICES)
    assert folder.read_choices() is not None
    (tmp_path / "there").mkdir()
    with RunFolder(tmp_path / "there").locked():
        pass
    assert (tmp_path / "there").is_dir()


def test_the_lock_is_given_back_after_an_exception(folder: RunFolder) -> None:
    with pytest.raises(RuntimeError), folder.locked():
        raise RuntimeError
    enter(folder)


def test_a_store_that_no_run_made_is_left_alone(folder: RunFolder) -> None:
    write(folder.store / "mine.txt")
    with pytest.raises(StoreError, match="was not made by a run"):
        folder.clear()
    assert (folder.store / "mine.txt").exists()


def test_a_collection_without_its_choices_is_nobodys(folder: RunFolder) -> None:
    write(folder.store / MANIFEST)
    with pytest.raises(SpecMismatch, match="holds a collection without its run"):
        folder.claim(CHOICES)


def test_a_run_that_is_a_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "file")
    with pytest.raises(StoreError, match="is not a folder"), RunFolder(tmp_path / "file").locked():
        pass
