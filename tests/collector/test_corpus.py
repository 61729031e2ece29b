"""Files and folders as a corpus: every kind gives the same documents, every fault one line."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pandas
import pytest

from neuron_explainer.collector.corpus import Corpus, Document, drop_duplicates, open_corpus
from neuron_explainer.errors import CorpusError

TEXTS = ["First things first.\n\nThen the rest.", "Grüße, 世界 and 🙂", "A last one, 'quoted'."]


def write_marked(path: Path, texts: list[str] = TEXTS) -> Path:
    path.write_text("\n<|endoftext|>\n".join(texts), encoding="utf-8")
    return path


def write_jsonl(path: Path, texts: list[str] = TEXTS, field: str = "text") -> Path:
    lines = "".join(json.dumps({"id": n, field: text}) + "\n" for n, text in enumerate(texts))
    data = lines.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_parquet(path: Path, texts: list[str] = TEXTS, field: str = "text") -> Path:
    pandas.DataFrame({"id": range(len(texts)), field: texts}).to_parquet(path)
    return path


KINDS: dict[str, Callable[..., Path]] = {
    "notes.txt": write_marked,
    "notes.md": write_marked,
    "notes.jsonl": write_jsonl,
    "notes.jsonl.gz": write_jsonl,
    "notes.parquet": write_parquet,
}


def read(path: Path, **options: str) -> list[Document]:
    return list(open_corpus(str(path), **options).documents())


def texts_of(path: Path, **options: str) -> list[str]:
    return [document.text for document in read(path, **options)]


def message(path: Path, **options: str) -> str:
    with pytest.raises(CorpusError) as raised:
        read(path, **options)
    (line,) = str(raised.value).splitlines()
    return line


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_the_same_documents(tmp_path: Path, name: str) -> None:
    path = KINDS[name](tmp_path / name)
    assert read(path) == [Document(f"{name}:{n}", text) for n, text in enumerate(TEXTS, start=1)]


@pytest.mark.parametrize("name", KINDS)
def test_same_documents_and_hash_twice_and_another_hash_with_one_character(
    tmp_path: Path, name: str
) -> None:
    corpus = open_corpus(str(KINDS[name](tmp_path / name)))
    before = corpus.content_hash()
    assert list(corpus.documents()) == list(corpus.documents())
    assert corpus.content_hash() == before
    KINDS[name](tmp_path / name, [TEXTS[0].replace("First", "Fist"), *TEXTS[1:]])
    assert corpus.content_hash() != before


def test_hash_does_not_depend_on_where_the_folder_is(tmp_path: Path) -> None:
    hashes = set()
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        write_jsonl(tmp_path / place / "a.jsonl")
        hashes.add(open_corpus(str(tmp_path / place)).content_hash())
    assert len(hashes) == 1


def test_pydocs_is_a_corpus_of_that_name() -> None:
    corpus: Corpus = open_corpus("pydocs")
    assert corpus.name == "pydocs"


@pytest.mark.parametrize("write", [write_jsonl, write_parquet])
def test_another_text_field(tmp_path: Path, write: Callable[..., Path]) -> None:
    path = write(tmp_path / ("a.jsonl" if write is write_jsonl else "a.parquet"), field="body")
    assert texts_of(path, text_field="body") == TEXTS


# Text files


def test_a_book_is_cut_at_blank_lines_and_nothing_is_lost(tmp_path: Path) -> None:
    paragraphs = [
        f"Paragraph {n}. " + "All of it is told in order. " * (n % 40) for n in range(500)
    ]
    book = "\n\n".join(paragraph.strip() for paragraph in paragraphs)
    (tmp_path / "book.txt").write_text(book, encoding="utf-8")
    parts = texts_of(tmp_path / "book.txt")
    assert "\n\n".join(parts) == book
    assert all(4_000 <= len(part) <= 8_000 for part in parts[:-1])


def test_a_line_without_end_is_cut_between_words(tmp_path: Path) -> None:
    line = "word " * 50_000
    (tmp_path / "line.txt").write_text(line, encoding="utf-8")
    parts = texts_of(tmp_path / "line.txt")
    assert " ".join(parts) == line.strip()
    assert max(map(len, parts)) <= 8_000


def test_cuts_and_markers_do_not_depend_on_the_chunks_that_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked = write_marked(tmp_path / "marked.txt", [text * 100 for text in TEXTS])
    book = tmp_path / "book.txt"
    book.write_text("One line\r\nand another\r\n\r\n" * 2_000, encoding="utf-8")
    expected = texts_of(marked), texts_of(book)
    for n_chars in (7, 13, 1_000):
        monkeypatch.setattr("neuron_explainer.collector.file_readers._CHUNK_CHARS", n_chars)
        assert (texts_of(marked), texts_of(book)) == expected


def test_byte_order_mark_and_blank_parts_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufeffone<|endoftext|> \n<|endoftext|>two", encoding="utf-8")
    assert texts_of(tmp_path / "a.txt") == ["one", "two"]


# JSON lines


def test_blank_lines_and_null_texts_are_skipped(tmp_path: Path) -> None:
    lines = '\n{"text": "one"}\n  \n{"text": null}\n{"text": " "}\n{"text": "two"}'
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8")
    assert read(tmp_path / "a.jsonl") == [
        Document("a.jsonl:2", "one"),
        Document("a.jsonl:6", "two"),
    ]


def test_lone_surrogates_in_json_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "\\ud800 \\ud83d\\ude42"}', encoding="utf-8")
    assert texts_of(tmp_path / "a.jsonl") == ["? 🙂"]


# Folders


def test_a_folder_gives_a_document_of_each_file_in_turn(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name in ("a.jsonl", "below/b.jsonl", "c.parquet"):
        write = write_parquet if name.endswith("parquet") else write_jsonl
        write(tmp_path / name, [f"{name} {n}" for n in range(4)])
    documents = read(tmp_path)
    assert len(documents) == 12
    for turn in range(4):
        files = {document.name.split(":")[0] for document in documents[3 * turn : 3 * turn + 3]}
        assert files == {"a.jsonl", "below/b.jsonl", "c.parquet"}


def test_a_folder_of_many_files_keeps_few_open_and_mixes_their_order(tmp_path: Path) -> None:
    for n in range(100):
        write_jsonl(tmp_path / f"{n:03}.jsonl", [f"{n} first", f"{n} second"])
    documents = read(tmp_path)
    assert len(documents) == 200
    first_files = [int(document.text.split()[0]) for document in islice(documents, 32)]
    assert len(set(first_files)) == 32
    assert first_files != sorted(first_files)
    assert {document.text.split()[1] for document in documents[32:64]} == {"second"}


def test_hidden_and_unknown_files_are_left_out_and_the_unknown_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_jsonl(tmp_path / "a.jsonl")
    write_jsonl(tmp_path / ".hidden.jsonl")
    (tmp_path / ".git").mkdir()
    write_jsonl(tmp_path / ".git" / "b.jsonl")
    for name in ("x.pdf", "y.pdf", "README"):
        (tmp_path / name).touch()
    with caplog.at_level(logging.INFO):
        assert texts_of(tmp_path) == TEXTS
    assert caplog.messages == [
        f"{tmp_path}: left out files of unknown endings: 2 .pdf, 1 without ending"
    ]


# Errors


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "absent.txt"
    assert message(path) == (
        f"{path}: no such file or folder; give a path, or pydocs for the text on this machine"
    )


def test_an_unknown_ending_names_the_known(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").touch()
    assert message(tmp_path / "a.pdf") == (
        f"{tmp_path / 'a.pdf'}: unknown file ending;"
        " known are .txt, .md, .jsonl, .jsonl.gz, .parquet"
    )


def test_a_folder_without_a_known_file_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").touch()
    assert message(tmp_path) == (
        f"{tmp_path}: no file of a known ending in or below it"
        " (known: .txt, .md, .jsonl, .jsonl.gz, .parquet; other files: 1 .pdf)"
    )


def test_a_missing_field_names_the_fields_and_the_flag(tmp_path: Path) -> None:
    fault = "has no field 'text' (has id, body); name the text's field with --text-field"
    path = write_jsonl(tmp_path / "a.jsonl", field="body")
    assert message(path) == f"{path}: line 1 {fault}"
    path = write_parquet(tmp_path / "a.parquet", field="body")
    assert message(path) == f"{path}: {fault}"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b'{"text": ', "line 2 is not JSON (Expecting value, column 10); give one object a line"),
        (b"[1, 2]", "line 2 is not a JSON object; give one object a line"),
        (b'{"text": "\xff"}', "line 2 is not UTF-8 (byte 10 of the line)"),
        (
            b'{"text": 3}',
            "line 2 holds int, not text, in 'text'; name the text's field with --text-field",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, fault: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "one"}\n' + line)
    assert message(tmp_path / "a.jsonl") == f"{tmp_path / 'a.jsonl'}: {fault}"


@pytest.mark.parametrize("n_before", [0, 5, 65_535, 200_001])
@pytest.mark.parametrize("bad", [b"\0", b"\xff", b"\xe2\x82", b"\xe2\x82("])
def test_a_binary_file_is_refused_with_the_byte(tmp_path: Path, n_before: int, bad: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(b"a" * n_before + "ü".encode() + bad)
    assert message(tmp_path / "a.txt") == (
        f"{tmp_path / 'a.txt'}: not UTF-8 text (byte {n_before + 2:,}); convert it to UTF-8,"
        " or leave it out"
    )


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 but nothing more that is parquet PAR1")
    assert "a.parquet: cannot be read as parquet (" in message(tmp_path / "a.parquet")
    whole = write_jsonl(tmp_path / "a.jsonl.gz").read_bytes()
    (tmp_path / "a.jsonl.gz").write_bytes(whole[:-12])
    assert "a.jsonl.gz: cannot be read (" in message(tmp_path / "a.jsonl.gz")
    (tmp_path / "b.jsonl.gz").write_bytes(b"not compressed")
    assert "b.jsonl.gz: cannot be read (Not a gzipped file" in message(tmp_path / "b.jsonl.gz")


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_an_empty_corpus_is_an_error_at_its_end(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("\n \n", encoding="utf-8")
    assert message(tmp_path / name) == (
        f"{tmp_path / name}: no document with any text; give a corpus that has some"
    )


# Duplicates


def test_later_copies_and_blank_documents_are_dropped_and_copies_reported() -> None:
    texts = ["one", "two", " one\n", "", " \n", "three", "two", "One"]
    documents = [Document(str(n), text) for n, text in enumerate(texts)]
    dropped: list[Document] = []
    kept = list(drop_duplicates(documents, dropped.append))
    assert [document.name for document in kept] == ["0", "1", "5", "7"]
    assert [document.name for document in dropped] == ["2", "6"]


def test_duplicates_are_dropped_as_the_documents_stream() -> None:
    def endless() -> Iterator[Document]:
        while True:
            yield Document("a", "again")
            yield Document("b", "and again")

    dropped: list[Document] = []
    kept = drop_duplicates(endless(), dropped.append)
    assert [document.name for document in islice(kept, 2)] == ["a", "b"]
    assert not dropped
