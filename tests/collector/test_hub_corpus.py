"""Datasets as a corpus, from local folders: the split and column that are asked for, or why not."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import datasets
import pandas
import pytest
from datasets.utils import are_progress_bars_disabled

from neuron_explainer.collector.corpus import open_corpus
from neuron_explainer.collector.documents import Document
from neuron_explainer.collector.hub_corpus import HubAddress, parse_address
from neuron_explainer.errors import CorpusError, UsageError

TEXTS = ["First things first.\n\nThen the rest.", "Grüße, 世界 and 🙂", "A last one."]
CONFIGS = """---
configs:
- config_name: small
  data_files: small/*.jsonl
- config_name: large
  data_files: large/*.jsonl
---
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "notes"


def write_rows(path: Path, texts: list[str] = TEXTS, field: str = "text") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"id": n, field: text} for n, text in enumerate(texts)]
    if path.suffix == ".parquet":
        pandas.DataFrame(rows).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(spec: str, text_field: str = "text") -> list[Document]:
    return list(open_corpus(spec, text_field=text_field).documents())


def message(spec: str) -> str:
    with pytest.raises(CorpusError) as raised:
        read(spec)
    (line,) = str(raised.value).splitlines()
    return line


def hash_of(spec: str) -> str:
    return open_corpus(spec).content_hash()


@pytest.mark.parametrize("name", ["train.jsonl", "train.parquet"])
def test_the_train_split_is_read_in_order_by_default(folder: Path, name: str) -> None:
    write_rows(folder / name)
    write_rows(folder / name.replace("train", "test"), ["Of the test."])
    assert read(f"hf:{folder}") == [
        Document(f"train:{n}", text) for n, text in enumerate(TEXTS, start=1)
    ]
    assert read(f"hf:{folder}:test") == [Document("test:1", "Of the test.")]


def test_the_column_is_the_text_field_or_the_one_that_is_named(folder: Path) -> None:
    write_rows(folder / "train.jsonl", field="body")
    expected = read(f"hf:{folder}", text_field="body")
    assert [document.text for document in expected] == TEXTS
    assert read(f"hf:{folder}:train:body") == read(f"hf:{folder}::body") == expected


def test_rows_without_text_are_left_out_and_keep_their_numbers(folder: Path) -> None:
    folder.mkdir()
    pandas.DataFrame({"text": ["One.", None, " ", "Four."]}).to_parquet(folder / "a.parquet")
    assert read(f"hf:{folder}") == [Document("train:1", "One."), Document("train:4", "Four.")]


def test_more_rows_than_a_batch_come_once_each(folder: Path) -> None:
    texts = [f"Text {n}." for n in range(200)]
    write_rows(folder / "train.jsonl", texts)
    assert [document.text for document in read(f"hf:{folder}")] == texts


def test_a_json_array_has_its_columns_found_as_it_is_read(folder: Path) -> None:
    folder.mkdir()
    (folder / "train.json").write_text(json.dumps([{"text": text} for text in TEXTS]))
    assert [document.text for document in read(f"hf:{folder}")] == TEXTS
    assert "row 1 has no field 'body' (has text)" in message(f"hf:{folder}::body")


@pytest.mark.parametrize(
    ("spec", "address"),
    [
        ("hf:name", HubAddress("name", None, "train", "text", False)),
        ("hf:owner/name", HubAddress("owner/name", None, "train", "text", False)),
        ("hf:owner/name/small", HubAddress("owner/name", "small", "train", "text", False)),
        ("hf:owner/name:test", HubAddress("owner/name", None, "test", "text", False)),
        ("hf:owner/name/small:a:b", HubAddress("owner/name", "small", "a", "b", False)),
    ],
)
def test_an_address_is_dataset_configuration_split_and_column(
    spec: str, address: HubAddress
) -> None:
    assert parse_address(spec, "text") == address


def test_a_configuration_is_chosen_by_name_or_asked_for(folder: Path) -> None:
    for name in ("small", "large"):
        write_rows(folder / name / "train.jsonl", [f"The {name} one."])
    (folder / "README.md").write_text(CONFIGS)
    assert [d.text for d in read(f"hf:{folder}/large")] == ["The large one."]
    give = f"give hf:{folder}/small, hf:{folder}/large"
    assert message(f"hf:{folder}") == f"hf:{folder}: has several configurations; {give}"
    assert message(f"hf:{folder}/huge") == f"hf:{folder}/huge: no such configuration; {give}"
    assert hash_of(f"hf:{folder}/small") != hash_of(f"hf:{folder}/large")


def test_the_hash_tells_split_column_and_content_but_not_the_place(tmp_path: Path) -> None:
    for place in ("here", "there"):
        for split in ("train", "test"):
            rows = [{"text": text, "body": text} for text in TEXTS]
            pandas.DataFrame(rows).to_json(
                write_rows(tmp_path / place / f"{split}.jsonl"), orient="records", lines=True
            )
    here = f"hf:{tmp_path}/here"
    before = hash_of(here)
    assert hash_of(f"hf:{tmp_path}/there") == before
    assert len({before, hash_of(f"{here}:test"), hash_of(f"{here}::body")}) == 3
    path = tmp_path / "here" / "train.jsonl"
    times = path.stat()
    path.write_text(path.read_text().replace("First", "Fist", 1))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert hash_of(here) != before


def test_what_is_not_there_is_named_with_what_is(folder: Path) -> None:
    write_rows(folder / "train.jsonl")
    write_rows(folder / "test.jsonl")
    where = f"hf:{folder}"
    assert message(f"{where}:valid") == f"{where}: no split 'valid'; it has train, test"
    hint = "(of text: text; all: id, text); name one with --text-field, or as hf:NAME:SPLIT:COLUMN"
    assert message(f"{where}::body") == f"{where}: no column 'body' {hint}"
    assert message(f"{where}::id") == f"{where}: no text in the column 'id' {hint}"
    for name in (f"{where}/no/such", "hf:./nosuch", "hf:/nosuch", "hf:~/nosuch"):
        assert message(name) == f"{name}: no such folder; a dataset on the hub is hf:OWNER/NAME"


def test_a_dataset_that_brings_code_is_refused_and_its_code_not_run(folder: Path) -> None:
    write_rows(folder / "train.jsonl")
    (folder / "notes.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    assert f"hf:{folder}: its code is never run (" in message(f"hf:{folder}")
    assert not (folder / "ran").exists()


def test_files_that_hold_no_text_are_refused_by_kind(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.png").touch()
    assert message(f"hf:{folder}") == (
        f"hf:{folder}: holds imagefolder files;"
        " only arrow, cache, csv, json, parquet, text are read"
    )


@pytest.mark.parametrize("data", [b"", b'{"text": ', b'{"text": "\xff"}\n', b"PAR1"])
@pytest.mark.parametrize("name", ["train.jsonl", "train.parquet"])
def test_an_empty_or_damaged_file_is_an_error_in_one_line(
    folder: Path, name: str, data: bytes
) -> None:
    folder.mkdir()
    (folder / name).write_bytes(data)
    assert message(f"hf:{folder}").startswith(f"hf:{folder}")


def test_a_folder_without_data_is_an_error(folder: Path) -> None:
    folder.mkdir()
    assert "doesn't contain any data files" in message(f"hf:{folder}")


def test_nothing_is_printed_and_the_loggers_are_left_as_they_were(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    before = [logger.level for logger in loggers], are_progress_bars_disabled()
    for n in range(20):  # from 17 files on, a bar is shown
        write_rows(folder / f"train-{n}.jsonl", [f"Text {n}."])
    (folder / "train-9.jsonl").write_text('{"text": ')
    capfd.readouterr()
    message(f"hf:{folder}")
    assert capfd.readouterr() == ("", "")
    assert ([logger.level for logger in loggers], are_progress_bars_disabled()) == before


def test_without_a_network_the_error_says_so() -> None:
    assert "hf:owner/name: the hub is not reached (" in message("hf:owner/name")


def test_a_format_is_not_a_dataset() -> None:
    assert message("hf:json") == "hf:json: is a format, not a dataset; give OWNER/NAME"


def test_a_folder_is_never_taken_for_a_dataset_of_the_hub(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(folder / "train.jsonl")
    monkeypatch.chdir(folder.parent)
    assert "hf:notes: the hub is not reached (" in message("hf:notes")
    assert len(read("hf:./notes")) == 3
    assert open_corpus("hf:./notes").name == "hf:./notes:train:text"
    assert hash_of("hf:./notes") == hash_of(f"hf:{folder}")


class NotThere(BaseHTTPRequestHandler):
    """A hub that has no dataset at all."""

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def empty_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with HTTPServer(("127.0.0.1", 0), NotThere) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(
            datasets.config, "HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}"
        )
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        yield
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("empty_hub")
def test_a_dataset_that_the_hub_has_not_is_named() -> None:
    assert message("hf:nobody/nothing") == (
        "hf:nobody/nothing: not found (Dataset 'nobody/nothing' doesn't exist on the Hub or cannot"
        " be accessed.); check the name, and sign in if it is private or gated"
    )


@pytest.mark.parametrize("spec", ["hf:", "hf::train", "hf:a:b:c:d"])
def test_what_is_no_address_is_refused_with_the_form(spec: str) -> None:
    with pytest.raises(UsageError, match="write hf:NAME, hf:NAME:SPLIT or hf:NAME:SPLIT:COLUMN"):
        open_corpus(spec)


def test_without_the_extra_the_error_says_how_to_install_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(folder / "train.jsonl")
    monkeypatch.delitem(sys.modules, "neuron_explainer.collector.hub_corpus")
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert message(f"hf:{folder}").endswith('install it with pip install "neuron-explainer[hf]"')


def test_datasets_is_not_loaded_before_it_is_needed() -> None:
    code = "import sys, neuron_explainer.collector.corpus; print('datasets' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_datasets_can_be_mixed_with_files(folder: Path) -> None:
    write_rows(folder / "train.jsonl")
    documents = read(f"hf:{folder}=2,{folder}/train.jsonl")
    assert {document.name for document in documents} == {
        *(f"hf:{folder}:train:text:train:{n}" for n in (1, 2, 3)),
        *(f"{folder}/train.jsonl:train.jsonl:{n}" for n in (1, 2, 3)),
    }
    with pytest.raises(UsageError, match=f"hf:{folder}:train:text is there twice"):
        open_corpus(f"hf:{folder},hf:{folder}:train")
