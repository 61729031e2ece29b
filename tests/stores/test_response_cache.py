"""Answers on disk: the first one stays, several may share the file, and damage is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuron_explainer.errors import StoreError
from neuron_explainer.stores.response_cache import SqliteResponseCache


def test_what_was_written_is_read_by_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "responses.sqlite"
    with SqliteResponseCache(path) as cache:
        cache.write("key", "the “answer”\n")
    with SqliteResponseCache(path) as cache:
        assert cache.read("key") == "the “answer”\n"
        assert cache.read("other") is None


def test_the_first_answer_to_a_question_stays(tmp_path: Path) -> None:
    with SqliteResponseCache(tmp_path / "a.sqlite") as one:
        with SqliteResponseCache(tmp_path / "a.sqlite") as two:
            one.write("key", "first")
            two.write("key", "second")
            assert two.read("key") == "first"
        assert one.read("key") == "first"


def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "responses.sqlite"
    path.write_bytes(b"no database, but long enough to be taken for the head of one" * 20)
    with pytest.raises(StoreError, match=r"responses\.sqlite: file is not a database"):
        SqliteResponseCache(path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="responses"):
        SqliteResponseCache(tmp_path / "file" / "responses.sqlite")
