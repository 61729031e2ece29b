"""A run folder that is damaged, closed or full: one line with a way out, nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import typer

from neuron_explainer import __main__
from neuron_explainer.cli_options import run_program
from tests.e2e.command_lines import (
    COMMANDS,
    RUN,
    Answer,
    Break,
    Call,
    assert_nothing_half_written,
    assert_one_line,
    cut_off,
)
from tests.tiny_stores import files_digest

START_OVER = "run `collect --fresh` with the same choices"

# The run folder


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("run", ["file", "file/below"])
def test_a_run_that_is_a_file_is_one_line(user: Path, call: Call, name: str, run: str) -> None:
    (user / "file").write_text("mine")
    assert_one_line(call(*COMMANDS[name], "--run", run), 1, run)
    assert (user / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["explain", "show", "scores", "report"])
def test_a_run_that_is_not_there_is_one_line_and_stays_away(
    user: Path, call: Call, name: str
) -> None:
    assert_one_line(call(*COMMANDS[name], "--run", "a/b"), 1, "first")
    assert not (user / "a/b/store").exists()


def test_the_folders_above_a_run_are_made(user: Path, call: Call) -> None:
    assert call(*RUN, "--neurons", "1", "--run", "a/b/c").code == 0
    assert (user / "a/b/c/report.html").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("name", ["run", "explain", "report"])
def test_a_run_that_may_not_be_written_is_one_line(
    user: Path, finished_run: Path, call: Call, name: str
) -> None:
    run = shutil.copytree(finished_run, user / "run")
    before = files_digest(run)
    run.chmod(0o555)
    try:
        assert_one_line(call(*COMMANDS[name], "--run", "run"), 1, "see to its permissions")
        assert files_digest(run) == before
        assert call("scores", "--run", "run").code == 0
    finally:
        run.chmod(0o755)


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EACCES, "; see to its permissions"),
        (errno.EROFS, "; see to its permissions"),
        (errno.ENOSPC, "; free some space"),
        (errno.EFBIG, "; free some space"),
        (errno.EIO, "; see what `neuron-explainer doctor` says"),
    ],
)
def test_what_the_system_refuses_is_one_line(
    capsys: pytest.CaptureFixture[str], number: int, says: str
) -> None:
    def refuse() -> None:
        raise OSError(number, os.strerror(number), "runs/[a]/report.html")

    with pytest.raises(SystemExit) as ended:
        run_program(refuse)
    error = capsys.readouterr().err
    assert_one_line(Answer(int(ended.value.code or 0), error), 1, says)
    assert f"error: {os.strerror(number)}: runs/[a]/report.html; " in error


def test_a_stop_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = typer.Typer()

    @app.command()
    def wait() -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(sys, "argv", ["wait"])
    with pytest.raises(SystemExit) as ended:
        run_program(app)
    assert ended.value.code == 130
    assert capsys.readouterr().err == "stopped; the same command goes on from here\n"


def test_a_stop_while_the_program_is_read_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "neuron_explainer.cli", Slow("neuron_explainer.cli"))
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "stopped\n"


# Damage


def garbage(path: Path) -> None:
    path.write_bytes(b"garbage\n" * 20)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flip_head(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[9:17] = bytes(byte ^ 0x55 for byte in content[9:17])
    path.write_bytes(content)


def flip_body(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(bytes(byte ^ 0x55 for byte in content[:-64]) + content[-64:])


def flip_pages(path: Path) -> None:
    """All of a database but its first page, which holds the schema."""
    content = path.read_bytes()
    path.write_bytes(content[:4096] + bytes(byte ^ 0x55 for byte in content[4096:]))


def wrong_kind(path: Path) -> None:
    path.write_text("[]")


STORE_READERS = ("run", "explain", "show", "report")
DAMAGED: list[tuple[str, tuple[Break, ...], tuple[str, ...], str]] = [
    # file, ways to damage it, commands that need it, way out
    ("run.json", (cut_off, garbage, empty, wrong_kind), ("run", "explain"), "use --fresh"),
    ("store/store.json", (cut_off, garbage, wrong_kind), STORE_READERS, START_OVER),
    ("store/vocabulary.json", (cut_off, wrong_kind), STORE_READERS, START_OVER),
    (
        "store/layer_000/records.safetensors",
        (cut_off, garbage, flip_head, Path.unlink),
        STORE_READERS,
        START_OVER,
    ),
    ("store/layer_000/means.safetensors", (cut_off, flip_head), ("explain",), START_OVER),
    ("store/windows/windows.bin", (cut_off, flip_body, Path.unlink), STORE_READERS, START_OVER),
    ("store/windows/tokens.bin", (cut_off, flip_body, Path.unlink), STORE_READERS, START_OVER),
    (
        "results.sqlite",
        (cut_off, garbage, flip_head, flip_pages),
        tuple(COMMANDS),
        "run `explain` again",
    ),
]


def damages() -> Iterator[tuple[str, Break, str, str]]:
    for name, ways, commands, way_out in DAMAGED:
        yield from ((name, damage, command, way_out) for damage in ways for command in commands)


@pytest.mark.parametrize(
    ("name", "damage", "command", "way_out"),
    [pytest.param(*d, id=f"{d[2]}-{d[0]}-{d[1].__name__}") for d in damages()],
)
def test_a_damaged_run_is_one_line_with_a_way_out(
    user: Path, finished_run: Path, call: Call, name: str, damage: Break, command: str, way_out: str
) -> None:
    run = shutil.copytree(finished_run, user / "run")
    damage(run / name)
    before = files_digest(run)
    assert_one_line(call(*COMMANDS[command], "--run", "run"), 1, way_out)
    assert unsettled(files_digest(run), command) == unsettled(before, command)


def unsettled(digests: dict[str, str], command: str) -> dict[str, str]:
    """Without sqlite's own files, without what a writer appends to in whole transactions, and
    without what it says of how far it has come."""
    grows = "results.sqlite" if command in ("run", "explain") else "results.sqlite-"
    moving = (grows, ".lock", "progress.json")
    return {name: d for name, d in digests.items() if not name.startswith(moving)}


@pytest.mark.parametrize("name", ["run.json", "store/windows/documents.jsonl", "report.html"])
def test_what_a_command_does_not_need_may_be_damaged(
    user: Path, finished_run: Path, call: Call, name: str
) -> None:
    run = shutil.copytree(finished_run, user / "run")
    garbage(run / name)
    for command in ("show", "scores", "report"):
        assert call(*COMMANDS[command], "--run", "run") == Answer(0, "")


# A full disk

FULL_DISK = """
import contextlib, io, json, resource, sys
from neuron_explainer.cli import main
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for limit, arguments in json.loads(sys.argv[1]):
    sys.argv = ["neuron-explainer", *arguments]
    out, err = io.StringIO(), io.StringIO()
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    print(json.dumps([code, err.getvalue()]), flush=True)
"""
"""Command lines, one after the other; files that may not grow stand in for a disk that is full."""


def on_a_full_disk(folder: Path, *command_lines: tuple[int, list[str]]) -> list[Answer]:
    """(largest file in bytes, arguments) of each; in a process of its own, that may not write."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, json.dumps(command_lines)],
        cwd=folder, text=True, capture_output=True, timeout=120, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    answers = [Answer(*json.loads(line)) for line in done.stdout.splitlines()]
    assert len(answers) == len(command_lines), done.stderr
    return answers


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    user: Path, finished_run: Path, call: Call
) -> None:
    run = shutil.copytree(finished_run, user / "run")
    before = files_digest(run)
    choices, records, results, report = on_a_full_disk(
        user,
        (100, [*RUN, "--run", "at-choices"]),
        (9_000, [*RUN, "--run", "at-records"]),
        (150_000, [*RUN, "--run", "at-results"]),
        (40_000, ["report", "--run", "run"]),
    )
    assert_one_line(choices, 1, "run.json; free some space")
    assert_one_line(records, 1, "; see to the disk, then give the same command again")
    assert_one_line(results, 1, "; see to the disk, then give the same command again")
    assert_one_line(report, 1, "run/report.html; free some space")
    assert_nothing_half_written(user / "at-choices")
    assert_nothing_half_written(user / "at-records")
    assert unsettled(files_digest(run), "report") == unsettled(before, "report")
    for folder in ("at-records", "at-results"):
        assert call(*RUN, "--neurons", "6", "--run", folder).code == 0
