"""The archive keeps documents as they came, and the knowledge that there is none."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from neuron_explainer.errors import StoreError
from neuron_explainer.published.archive import Archive
from neuron_explainer.published.locations import DocumentId, Kind
from neuron_explainer.records.neuron import NeuronId
from tests.published.mirror import NEURON, document, which

HERE, THERE = "https://here", "https://there"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "published.sqlite"


def test_a_document_comes_back_byte_for_byte(path: Path) -> None:
    content = b"\xef\xbb\xbf{} \r\n\x00\xff"
    with Archive(path) as archive:
        archive.add(which(Kind.ACTIVATIONS), content, HERE)
        found = archive.read(which(Kind.ACTIVATIONS))
    assert found is not None
    assert (found.document, found.source) == (content, HERE)
    assert found.fetched_at.endswith("+00:00")


def test_documents_of_another_kind_unit_or_dataset_are_other_documents(path: Path) -> None:
    others = [
        which(Kind.EXPLANATIONS),
        which(Kind.ACTIVATIONS, NeuronId(1, 8)),
        which(Kind.ACTIVATIONS, NeuronId(2, 7)),
        DocumentId("gpt2-small", Kind.ACTIVATIONS, NEURON),
    ]
    with Archive(path) as archive:
        archive.add(which(Kind.ACTIVATIONS), b"{}", HERE)
        assert [archive.read(other) for other in others] == [None] * 4


def test_absent_is_known_to_the_source_that_said_so_alone(path: Path) -> None:
    with Archive(path) as archive:
        archive.add(which(Kind.ACTIVATIONS), None, HERE)
        found = archive.read(which(Kind.ACTIVATIONS))
        assert found is not None
        assert found.document is None
        assert archive.known("gpt2-xl", Kind.ACTIVATIONS, 1, HERE) == {7}
        assert archive.known("gpt2-xl", Kind.ACTIVATIONS, 1, THERE) == set()
        assert list(archive.documents()) == []


def test_absent_gives_way_to_a_document_and_a_document_to_nothing(path: Path) -> None:
    one = which(Kind.ACTIVATIONS)
    with Archive(path) as archive:
        archive.add(one, None, HERE)
        archive.add(one, b"first", THERE)
        archive.add(one, b"second", HERE)
        archive.add(one, None, HERE)
        found = archive.read(one)
        assert found is not None
        assert (found.document, found.source) == (b"first", THERE)
        assert archive.known("gpt2-xl", Kind.ACTIVATIONS, 1, "anywhere") == {7}


def test_what_came_later_has_a_larger_number(path: Path) -> None:
    units = [which(Kind.EXPLANATIONS, NeuronId(0, n)) for n in range(4)]
    with Archive(path) as archive:
        archive.add(units[3], None, THERE)
        for one in units[:3]:
            archive.add(one, document(one), HERE)
        seen = list(archive.since(0, "gpt2-xl", Kind.EXPLANATIONS, n_at_once=2))
        assert [(one.which, one.document) for one in seen] == [(u, document(u)) for u in units[:3]]
        assert seen[-1].number == archive.last_number
        archive.add(units[3], document(units[3]), HERE)
        (late,) = archive.since(seen[-1].number, "gpt2-xl", Kind.EXPLANATIONS)
        assert late.which == units[3]
        assert list(archive.since(late.number, "gpt2-xl", Kind.EXPLANATIONS)) == []
        assert list(archive.since(0, "gpt2-xl", Kind.ACTIVATIONS)) == []


def test_an_archive_keeps_its_name_and_another_has_another(path: Path) -> None:
    with Archive(path) as archive:
        name = archive.name
    with Archive(path, read_only=True) as archive:
        assert archive.name == name
    with Archive(path.with_name("other.sqlite")) as other:
        assert other.name != name


def test_a_reader_sees_what_is_written_meanwhile(path: Path) -> None:
    with Archive(path) as writer, Archive(path, read_only=True) as reader:
        for neuron_index in range(3):
            one = which(Kind.EXPLANATIONS, NeuronId(0, neuron_index))
            writer.add(one, document(one), HERE)
            found = reader.read(one)
            assert found is not None
            assert found.document == document(one)
        assert [one.neuron_id.neuron_index for one in reader.documents()] == [0, 1, 2]


def test_a_unit_among_thousands_is_found_in_milliseconds(path: Path) -> None:
    one = which(Kind.ACTIVATIONS, NeuronId(0, 6399))
    with Archive(path) as archive:
        for neuron_index in range(6400):
            archive.add(which(Kind.ACTIVATIONS, NeuronId(0, neuron_index)), b"{}" * 50, HERE)
    with Archive(path) as archive:
        started = time.perf_counter()
        assert archive.read(one) is not None
        assert time.perf_counter() - started < 0.05  # 0.1 ms on a machine that does nothing else


def test_a_file_that_is_no_archive_is_named(path: Path) -> None:
    path.write_bytes(b"no sqlite file, though it is long enough to look like one" * 20)
    with pytest.raises(StoreError, match=r"published\.sqlite"):
        Archive(path)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("is_wal", [False, True])
def test_a_database_of_something_else_is_left_as_it_is(
    path: Path, read_only: bool, is_wal: bool
) -> None:
    with closing(sqlite3.connect(path)) as file:
        if is_wal:
            file.execute("PRAGMA journal_mode = WAL")
        file.execute("CREATE TABLE documents (document)")  # of another program
    before = path.read_bytes()
    with pytest.raises(StoreError, match="no archive of published documents"):
        Archive(path, read_only=read_only)
    assert path.read_bytes() == before
    if not read_only:
        assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_an_empty_file_becomes_an_archive_and_an_older_one_gets_its_name(path: Path) -> None:
    path.touch()
    one = which(Kind.ACTIVATIONS)
    with Archive(path) as archive:
        archive.add(one, b"{}", HERE)
    with closing(sqlite3.connect(path)) as file:
        file.execute("DROP TABLE birth")
    with Archive(path) as archive:
        assert archive.name
        assert archive.read(one) is not None


def test_an_archive_that_is_not_there_is_not_made_by_a_reader(path: Path) -> None:
    with pytest.raises(StoreError, match=r"jobs/download\.py"):
        Archive(path, read_only=True)
    assert not path.exists()


def test_a_damaged_document_is_named(path: Path) -> None:
    with Archive(path) as archive:
        archive.add(which(Kind.ACTIVATIONS), b"{}", HERE)
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE documents SET document = x'0102'")
        connection.close()
        with pytest.raises(StoreError, match=r"activations/1/7\.json is damaged"):
            archive.read(which(Kind.ACTIVATIONS))
