"""A reader leaves an sqlite file as it is, and needs no right to write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from neuron_explainer.errors import StoreError
from neuron_explainer.stores.sqlite_file import SqliteFile, is_writable, reader_mode

SCHEMA = "CREATE TABLE IF NOT EXISTS things (name TEXT)"


def made(folder: Path) -> Path:
    path = folder / "things.sqlite"
    file = SqliteFile(path, SCHEMA)
    file.execute("INSERT INTO things VALUES ('a')")
    file.close()
    return path


def test_a_reader_changes_nothing_and_cannot(tmp_path: Path) -> None:
    path = made(tmp_path)
    content = path.read_bytes()
    reader = SqliteFile(path, SCHEMA, read_only=True)
    assert reader.execute("SELECT name FROM things") == [("a",)]
    with pytest.raises(StoreError, match="readonly"):
        reader.execute("INSERT INTO things VALUES ('b')")
    reader.close()
    assert path.read_bytes() == content


def test_a_reader_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"things\.sqlite"):
        SqliteFile(tmp_path / "none" / "things.sqlite", SCHEMA, read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_sees_what_a_writer_writes_meanwhile(tmp_path: Path) -> None:
    path = made(tmp_path)
    reader, writer = SqliteFile(path, read_only=True), SqliteFile(path, SCHEMA)
    writer.execute("INSERT INTO things VALUES ('b')")
    assert reader.execute("SELECT count(*) FROM things") == [(2,)]
    writer.close()
    reader.close()


def test_a_new_file_is_writable_where_its_folder_is(tmp_path: Path) -> None:
    assert is_writable(tmp_path / "not" / "yet" / "there.sqlite")
    assert reader_mode(made(tmp_path)) == "ro"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_read(tmp_path: Path) -> None:
    path = made(tmp_path)
    tmp_path.chmod(0o555)
    try:
        assert not is_writable(path)
        reader = SqliteFile(path, SCHEMA, read_only=True)
        assert reader.execute("SELECT name FROM things") == [("a",)]
        reader.close()
    finally:
        tmp_path.chmod(0o755)
