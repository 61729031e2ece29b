"""Bad input, as a user meets it: one line that says what is wrong, and nothing half-written."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from tests.e2e.command_lines import (
    COMMANDS,
    RUN,
    Break,
    Call,
    assert_nothing_half_written,
    assert_one_line,
    cut_off,
    write_lines,
)
from tests.tiny_stores import files_digest

# Models


def configured(**fields: object) -> Break:
    def write(model: Path) -> None:
        path = model / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return write


def with_text(name: str, text: str) -> Break:
    return lambda model: (model / name).write_text(text)


MODELS: dict[str, tuple[Break, str]] = {
    "no folder": (shutil.rmtree, "no model folder at ./model"),
    "no config": (lambda m: (m / "config.json").unlink(), "`model_type` key in its config.json"),
    "no weights": (lambda m: (m / "model.safetensors").unlink(), "model.safetensors"),
    "no tokenizer": (lambda m: (m / "tokenizer.json").unlink(), "tokenizer.json"),
    "config cut off": (with_text("config.json", "{"), "config.json"),
    "wrong shape": (configured(n_embd=16), "has shape (24,), its configuration says (48,)"),
    "more layers": (configured(n_layer=5), "no weights for transformer.h.2."),
    "few tokens": (configured(vocab_size=10), "transformer.wte.weight has shape (257, 8)"),
    "no number": (configured(n_embd="x"), "n_embd"),
    "no heads": (configured(n_head=0), "cannot load model"),
    "unknown architecture": (configured(model_type="zorp"), "`zorp`"),
    "no language model": (configured(model_type="vit"), "--site-module"),
    "unknown activation": (configured(activation_function="zorp"), "'zorp'"),
    "quantized": (
        configured(quantization_config={"quant_method": "gptq", "bits": 4}),
        "cannot load model",
    ),
    "weights cut off": (lambda m: cut_off(m / "model.safetensors"), "cannot load model"),
    "weights of text": (with_text("model.safetensors", "zorp" * 99), "cannot load model"),
    "tokenizer cut off": (lambda m: cut_off(m / "tokenizer.json"), "cannot load model"),
    "tokenizer of nothing": (with_text("tokenizer.json", "{}"), "cannot load model"),
    "a pickle": (
        lambda m: (m / "model.safetensors").rename(m / "pytorch_model.bin"),
        "model.safetensors",
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
        ("--neurons 0", 2, "write a number, all, a list such as 0:3,2:417"),
        ("--neurons x", 2, "write a number, all, a list such as 0:3,2:417"),
        ("--neurons 0:1,x", 2, "write LAYER:NEURON, such as 2:417"),
        ("--neurons 1:2:3", 2, "write LAYER:NEURON, such as 2:417"),
        ("--device zorp", 2, "try cpu or cuda"),
        ("--dtype int3", 2, "one of auto, float32, bfloat16, float16"),
        ("--explainer zorp", 2, "write patterns, token_lookup"),
        ("--simulator zorp", 2, "write patterns, token_lookup"),
        ("--activation-function zorp", 2, "one of gelu"),
        ("--site-module zorp", 2, "the model has no module 'zorp'"),
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
    user: Path, finished_run: Path, call: Call, flags: str
) -> None:
    run = shutil.copytree(finished_run, user / "run")
    before = files_digest(run)
    answer = call(*RUN, *flags.split(), "--fresh", "--run", "run")
    assert answer.code in (1, 2)
    assert files_digest(run) == before


@pytest.mark.parametrize("command", ["run", "scores", "report"])
def test_an_empty_run_folder_is_refused_and_nothing_is_written_here(
    user: Path, call: Call, command: str
) -> None:
    before = files_digest(user)
    assert_one_line(call(*COMMANDS[command], "--run", ""), 2, "--run is empty; give a folder")
    assert files_digest(user) == before
