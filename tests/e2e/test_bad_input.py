"""Bad input, as a user meets it: one line that says what is wrong, and nothing half-written."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow
import pyarrow.parquet
import pytest

from neuron_explainer.cli import main
from neuron_explainer.cli_options import run_program
from tests.tiny_models import save_tiny_model
from tests.tiny_stores import files_digest

SIZES = ["--tokens", "8000", "--n-ctx", "16", "--n-boundary-windows", "60", "--device", "cpu"]
RUN = ["run", "--model", "./model", "--corpus", "corpus.jsonl", *SIZES, "--n-resamples", "5"]
COMMANDS = {
    "run": RUN,
    "explain": ["explain", "--n-resamples", "4"],  # other choices: every neuron is to be done
    "show": ["show", "0:3"],
    "scores": ["scores"],
    "report": ["report"],
}
START_OVER = "run `collect --fresh` with the same choices"


class Answer(NamedTuple):
    """What a command line came to."""

    code: int
    error: str
    """All of stderr."""


Call = Callable[..., Answer]
Break = Callable[[Path], object]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and a corpus."""
    folder = tmp_path_factory.mktemp("inputs")
    save_tiny_model(folder / "model", n_embd=8)
    texts = (" ".join(f"word{i * j % 37}" for j in range(3 + i % 20)) for i in range(250))
    write_lines(folder / "corpus.jsonl", *({"text": text} for text in texts))
    return folder


@pytest.fixture(scope="module")
def finished(inputs: Path) -> Path:
    """A finished run; it is never written to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(inputs)
        patch.setattr(sys, "argv", ["neuron-explainer", *RUN, "--neurons", "6", "--run", "run"])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 0
    for suffix in ("-wal", "-shm"):
        Path(f"{inputs / 'run/results.sqlite'}{suffix}").unlink(missing_ok=True)
    return inputs / "run"


@pytest.fixture
def user(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's current folder, with a model and a corpus of its own."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(inputs / "model", "model")
    shutil.copy(inputs / "corpus.jsonl", "corpus.jsonl")
    return tmp_path


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    def call_main(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["neuron-explainer", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return Answer(int(ended.value.code or 0), capsys.readouterr().err)

    return call_main


def write_lines(path: Path, *objects: object) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in objects))


def assert_one_line(answer: Answer, code: int, says: str) -> None:
    assert answer.error.startswith("error: ")
    assert answer.error.count("\n") == 1
    assert says in answer.error
    assert answer.code == code


def assert_nothing_half_written(folder: Path) -> None:
    hidden = [p for p in folder.rglob(".*") if p.name != ".lock"] if folder.exists() else []
    assert hidden == []
    assert not (folder / "report.html").exists()
    assert not (folder / "store/store.json").exists()


# Models


def configured(**fields: object) -> Break:
    def write(model: Path) -> None:
        path = model / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return write


def with_text(name: str, text: str) -> Break:
    return lambda model: (model / name).write_text(text)


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


MODELS: dict[str, tuple[Break, str]] = {
    "no folder": (shutil.rmtree, "no model folder at ./model"),
    "no config": (lambda m: (m / "config.json").unlink(), "`model_type` key in its config.json"),
    "no weights": (lambda m: (m / "model.safetensors").unlink(), "model.safetensors"),
    "no tokenizer": (lambda m: (m / "tokenizer.json").unlink(), "tokenizer.json"),
    "config cut off": (with_text("config.json", "{"), "not a valid JSON file"),
    "wrong shape": (configured(n_embd=16), "has shape (24,), its configuration says (48,)"),
    "more layers": (configured(n_layer=5), "no weights for transformer.h.2."),
    "few tokens": (configured(vocab_size=10), "transformer.wte.weight has shape (257, 8)"),
    "no number": (configured(n_embd="x"), "expected int, got str"),
    "no heads": (configured(n_head=0), "division or modulo by zero"),
    "unknown architecture": (configured(model_type="zorp"), "`zorp`"),
    "no language model": (configured(model_type="vit"), "--site-module"),
    "unknown activation": (configured(activation_function="zorp"), "KeyError 'zorp'"),
    "quantized": (configured(quantization_config={"quant_method": "gptq", "bits": 4}), "GPTQ"),
    "weights cut off": (lambda m: cut_off(m / "model.safetensors"), "incomplete metadata"),
    "weights of text": (with_text("model.safetensors", "zorp" * 99), "header"),
    "tokenizer cut off": (lambda m: cut_off(m / "tokenizer.json"), "cannot load model"),
    "tokenizer of nothing": (with_text("tokenizer.json", "{}"), "cannot load model"),
    "a pickle": (
        lambda m: (m / "model.safetensors").rename(m / "pytorch_model.bin"),
        "no file named model.safetensors",
    ),
}


@pytest.mark.parametrize(("damage", "says"), MODELS.values(), ids=MODELS)
def test_a_model_that_cannot_be_loaded_is_one_line(
    user: Path, call: Call, damage: Break, says: str
) -> None:
    damage(user / "model")
    assert_one_line(call(*RUN, "--run", "new"), 1, says)
    assert_nothing_half_written(user / "new")


@pytest.mark.parametrize("name", ["./corpus.jsonl", "a b c", "/absent"])
def test_a_model_that_is_none_is_one_line(user: Path, call: Call, name: str) -> None:
    assert_one_line(call(*RUN, "--model", name, "--run", "new"), 1, name)
    assert_nothing_half_written(user / "new")


# Text


def parquet_of(path: Path, **columns: list[object]) -> None:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


def cut_parquet(path: Path) -> None:
    parquet_of(path, text=[f"some words, {i} of them" for i in range(500)])
    cut_off(path)


TEXTS: dict[str, tuple[str, Break, str]] = {
    "no file": ("absent.txt", lambda _: None, "absent.txt: no such file or folder; give a path"),
    "empty": ("empty.txt", Path.touch, "no document with any text"),
    "empty folder": ("folder", Path.mkdir, "no file of a known ending"),
    "blank": ("blank.txt", lambda p: p.write_text(" \n\t\n"), "no document with any text"),
    "blank documents": (
        "blank.jsonl",
        lambda p: write_lines(p, {"text": " "}, {"text": ""}, {"text": None}),
        "no document with any text",
    ),
    "binary": ("a.txt", lambda p: p.write_bytes(bytes(range(256))), "not UTF-8 text (byte 0)"),
    "not JSON": ("a.jsonl", lambda p: p.write_text('{"text": "a"}\n{zorp'), "line 2 is not JSON"),
    "no object": ("a.jsonl", lambda p: p.write_text("[1]\n"), "line 1 is not a JSON object"),
    "no field": ("a.jsonl", lambda p: write_lines(p, {"body": "a"}), "(has body); name the text's"),
    "no text": ("a.jsonl", lambda p: write_lines(p, {"text": 3}), "holds int, not text"),
    "no gzip": ("a.jsonl.gz", lambda p: p.write_text("zorp"), "is the file whole?"),
    "cut gzip": (
        "a.jsonl.gz",
        lambda p: p.write_bytes(gzip.compress(b'{"text": "a"}' * 99)[:40]),
        "is the file whole?",
    ),
    "no parquet": ("a.parquet", lambda p: p.write_text("PAR1zorp"), "cannot be read as parquet"),
    "cut parquet": ("a.parquet", cut_parquet, "cannot be read as parquet"),
    "no column": ("a.parquet", lambda p: parquet_of(p, body=["a"]), "(has body); name the text's"),
    "no text column": ("a.parquet", lambda p: parquet_of(p, text=[1]), "holds int, not text"),
    "unknown ending": ("a.docx", Path.touch, "unknown file ending; known are .txt"),
    "one document": ("a.txt", lambda p: p.write_text("hi"), "give a corpus of more documents"),
}


@pytest.mark.parametrize(("name", "write", "says"), TEXTS.values(), ids=TEXTS)
def test_text_that_cannot_be_read_is_one_line(
    user: Path, call: Call, name: str, write: Break, says: str
) -> None:
    write(user / name)
    assert_one_line(call(*RUN, "--corpus", name, "--run", "new"), 1, says)
    assert_nothing_half_written(user / "new")


# Flags


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        ("--layers 2", 2, "the model has layers 0-1"),
        ("--layers 1-0", 2, "the model has layers 0-1"),
        ("--layers x", 2, "write numbers and ranges, such as 0,2-5"),
        ("--layers 0,,1", 2, "write numbers and ranges, such as 0,2-5"),
        ("--layers=-1", 2, "write numbers and ranges, such as 0,2-5"),
        ("--neurons 0:99", 1, "no neuron 0:99 in this collection"),
        ("--neurons 7:0", 1, "no neuron 7:0 in this collection"),
        ("--neurons 0", 2, "write a number, or a list such as 0:3,2:417"),
        ("--neurons x", 2, "write a number, or a list such as 0:3,2:417"),
        ("--neurons 0:1,x", 2, "write LAYER:NEURON, such as 2:417"),
        ("--neurons 1:2:3", 2, "write LAYER:NEURON, such as 2:417"),
        ("--device zorp", 2, "try cpu or cuda"),
        ("--dtype int3", 2, "one of auto, float32, bfloat16, float16"),
        ("--explainer zorp", 2, "one of token_lookup"),
        ("--simulator zorp", 2, "one of token_lookup"),
        ("--activation-function zorp", 2, "one of gelu"),
        ("--site-module zorp", 1, "the model has no module 'zorp'"),
        ("--text-field zorp", 1, "(has text); name the text's field with --text-field"),
        ("--n-ctx 9999", 2, "reads at most 64 tokens"),
        ("--fit-share nan", 2, "must lie between 0 and 1"),
        ("--token-means-gb nan", 2, "must be a size"),
        ("--top-k 5", 2, "4 splits need 20"),
    ],
)
def test_a_flag_that_cannot_be_meant_is_one_line(
    user: Path, call: Call, flags: str, code: int, says: str
) -> None:
    assert_one_line(call(*RUN, *flags.split(), "--run", "new"), code, says)
    assert_nothing_half_written(user / "new")


@pytest.mark.parametrize(
    "flags", ["--explainer zorp", "--dtype int3", "--layers 9", "--neurons 9:9", "--corpus no.txt"]
)
def test_a_wrong_choice_clears_nothing_with_fresh(
    user: Path, finished: Path, call: Call, flags: str
) -> None:
    run = shutil.copytree(finished, user / "run")
    before = files_digest(run)
    answer = call(*RUN, *flags.split(), "--fresh", "--run", "run")
    assert answer.code in (1, 2)
    assert files_digest(run) == before


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
    user: Path, finished: Path, call: Call, name: str
) -> None:
    run = shutil.copytree(finished, user / "run")
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


# Damage


def garbage(path: Path) -> None:
    path.write_bytes(b"garbage\n" * 20)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flip_head(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[9:17] = bytes(byte ^ 0x55 for byte in content[9:17])
    path.write_bytes(content)


def flip_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(byte ^ 0x55 for byte in content[middle : middle + 64])
    path.write_bytes(content)


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
    ("store/windows/windows.bin", (cut_off, flip_middle, Path.unlink), STORE_READERS, START_OVER),
    ("store/windows/tokens.bin", (cut_off, flip_middle, Path.unlink), STORE_READERS, START_OVER),
    ("results.sqlite", (cut_off, garbage, flip_head), tuple(COMMANDS), "run `explain` again"),
    ("results.sqlite", (flip_middle,), ("scores", "report"), "run `explain` again"),
]


def damages() -> Iterator[tuple[str, Break, str, str]]:
    for name, ways, commands, way_out in DAMAGED:
        yield from ((name, damage, command, way_out) for damage in ways for command in commands)


@pytest.mark.parametrize(
    ("name", "damage", "command", "way_out"),
    [pytest.param(*d, id=f"{d[2]}-{d[0]}-{d[1].__name__}") for d in damages()],
)
def test_a_damaged_run_is_one_line_with_a_way_out(
    user: Path, finished: Path, call: Call, name: str, damage: Break, command: str, way_out: str
) -> None:
    run = shutil.copytree(finished, user / "run")
    damage(run / name)
    before = files_digest(run)
    assert_one_line(call(*COMMANDS[command], "--run", "run"), 1, way_out)
    assert unsettled(files_digest(run), command) == unsettled(before, command)


def unsettled(digests: dict[str, str], command: str) -> dict[str, str]:
    """Without sqlite's own files, and without what a writer appends to in whole transactions."""
    grows = "results.sqlite" if command in ("run", "explain") else "results.sqlite-"
    return {name: d for name, d in digests.items() if not name.startswith((grows, ".lock"))}


@pytest.mark.parametrize("name", ["run.json", "store/windows/documents.jsonl", "report.html"])
def test_what_a_command_does_not_need_may_be_damaged(
    user: Path, finished: Path, call: Call, name: str
) -> None:
    run = shutil.copytree(finished, user / "run")
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
    user: Path, finished: Path, call: Call
) -> None:
    run = shutil.copytree(finished, user / "run")
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
