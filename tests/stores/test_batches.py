"""The book of batches: what was noted is there after a kill, and says what may be sent again."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuron_explainer.errors import StoreError
from neuron_explainer.stores.batches import Owed, SqliteBatches

ITEMS = [("a", 10, 2), ("b", 20, 3), ("c", 30, 4)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "batches.sqlite"


def sent(path: Path, intent: str = "i") -> SqliteBatches:
    """A batch of ITEMS that has gone up."""
    book = SqliteBatches(path)
    book.intend(intent, "http://x/v1", "m", ITEMS)
    book.note_file(intent, "file")
    book.note_batch(intent, "batch", "in_progress", n_done=1, n_failed=0)
    return book


def test_what_was_noted_is_there_for_the_next_process(path: Path) -> None:
    sent(path).close()
    with SqliteBatches(path) as book:
        book.drop_unsent()
        found = book.read("i")
        assert (found.n_requests, found.file_id, found.batch_id) == (3, "file", "batch")
        assert [book.intent_of(key) for key in "abcd"] == ["i", "i", "i", None]
        assert book.owed() == [Owed("http://x/v1", "m", 60, 9, 3)]
        (batch,) = book.open_batches()
    assert (batch.status, batch.n_requests, batch.n_done) == ("in_progress", 3, 1)


def test_a_batch_that_never_went_up_leaves_its_questions_free(path: Path) -> None:
    with SqliteBatches(path) as book:
        book.intend("i", "http://x/v1", "m", ITEMS)
        assert book.open_batches() == []
        book.drop_unsent()
        assert not any(book.holds(key) for key in "abc")
        book.intend("j", "http://x/v1", "m", ITEMS)
        with pytest.raises(KeyError):
            book.read("i")


def test_an_answer_is_kept_until_it_is_forgotten_and_the_first_one_stays(path: Path) -> None:
    with sent(path) as book:
        book.keep("i", "a", "ä\u2028 1")
        book.keep("i", "a", "2")
        book.keep("other", "b", "3")
        assert [book.answer(key) for key in "abc"] == ["ä\u2028 1", None, None]
        assert book.intent_of("a") is None
        assert book.holds("a")
        book.forget("a")
        book.keep("i", "a", "4")  # read again after a kill: it was taken
        assert (book.answer("a"), book.holds("a")) == (None, False)


def test_at_the_end_the_unanswered_are_free_and_the_answered_are_kept(path: Path) -> None:
    with sent(path) as book:
        book.keep("i", "b", "1")
        assert sorted(book.end("i")) == ["a", "c"]
        assert book.end("i") == []
        assert book.open_batches() == []
        assert [book.holds(key) for key in "abc"] == [False, True, False]
        assert book.owed() == [Owed("http://x/v1", "m", 20, 3, 1)]


def test_answers_that_were_taken_before_a_kill_are_forgotten_by_the_next_process(
    path: Path,
) -> None:
    with sent(path) as book:
        book.keep("i", "a", "1")
        book.keep("i", "b", "2")
        book.forget_taken(lambda key: key in {"a", "c"})
        assert [book.holds(key) for key in "abc"] == [False, True, True]


def test_a_reader_sees_batches_while_a_process_writes(path: Path) -> None:
    with sent(path) as book, SqliteBatches(path, read_only=True) as reader:
        book.note_batch("i", "batch", "finalizing", n_done=2, n_failed=1)
        (batch,) = reader.open_batches()
        assert "batch, finalizing, 2 of 3 requests done, 1 failed, since " in batch.sentence()
        with pytest.raises(StoreError):
            reader.drop("i")


def test_what_is_no_database_is_named(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"nonsense" * 200)
    with pytest.raises(StoreError, match=r"batches\.sqlite"):
        SqliteBatches(path)
