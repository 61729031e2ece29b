"""Answers on disk: the first one stays, several may share the file, and damage is named."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
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


def test_a_long_answer_takes_less_room_and_comes_back_as_it_was(tmp_path: Path) -> None:
    rng = random.Random(0)
    numbers = ",".join(f'["{rng.randint(0, 10)}",-{rng.random():.5f}]' for _ in range(5000))
    texts = {"numbers": numbers, "odd": "half \ud83d “é” 🙂 " * 100, "empty": ""}
    path = tmp_path / "responses.sqlite"
    with SqliteResponseCache(path) as cache:
        for key, text in texts.items():
            cache.write(key, text)
    with SqliteResponseCache(path) as cache:
        assert {key: cache.read(key) for key in texts} == texts
    assert path.stat().st_size < len(numbers) * 0.6


def test_an_answer_that_was_kept_as_text_is_still_read(tmp_path: Path) -> None:
    path = tmp_path / "responses.sqlite"
    text = "a long answer " * 1000
    with SqliteResponseCache(path), closing(sqlite3.connect(path)) as file, file:
        file.execute("INSERT INTO responses VALUES ('key', ?, '')", (text,))
    with SqliteResponseCache(path) as cache:
        assert cache.read("key") == text


def test_a_damaged_answer_is_said_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "responses.sqlite"
    with SqliteResponseCache(path) as cache:
        cache.write("key", "a long answer " * 1000)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE responses SET response = substr(response, 1, 20)")
    with SqliteResponseCache(path) as cache, pytest.raises(StoreError, match="damaged"):
        cache.read("key")


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
