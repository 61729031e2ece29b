"""The index of an archive holds what the archive does, and reads each document once."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from neuron_explainer.published.archive import Archive
from neuron_explainer.published.explanation_index import DAMAGED, open_index, update_index
from neuron_explainer.published.locations import DocumentId, Kind
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.library import Library
from tests.formats.openai_documents import encode, plain_results
from tests.published.mirror import XL, document, which


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "published.sqlite"


def add(archive: Archive, neurons: Iterable[int], text: str = " numbers below ten.") -> None:
    for neuron in neurons:
        neuron_id = NeuronId(0, neuron)
        results = encode(plain_results(neuron_id, text))
        archive.add(which(Kind.EXPLANATIONS, neuron_id), results, "here")


def found(archive: Archive, words: str = "numbers") -> tuple[set[int], list[int]]:
    """Neurons found, and how many documents were read for it, by step."""
    n_read: list[int] = []
    elsewhere = archive.path.parent / "elsewhere"
    with open_index(archive, XL.name, elsewhere=elsewhere, on_read=n_read.append) as library:
        hits = library.search(words, limit=1000).hits
    return {hit.neuron_id.neuron_index for hit in hits}, n_read


def test_each_document_is_read_once(path: Path) -> None:
    with Archive(path) as archive:
        add(archive, range(5))
        assert found(archive) == ({0, 1, 2, 3, 4}, [5])
        assert found(archive)[1] == []
        add(archive, [7])
        archive.add(which(Kind.ACTIVATIONS), document(which(Kind.ACTIVATIONS)), "here")
        assert found(archive) == ({0, 1, 2, 3, 4, 7}, [1])


def test_what_was_absent_at_first_is_found_when_it_comes(path: Path) -> None:
    with Archive(path) as archive:
        archive.add(which(Kind.EXPLANATIONS, NeuronId(0, 3)), None, "there")
        add(archive, range(3))
        assert found(archive)[0] == {0, 1, 2}
        add(archive, [3])
        assert found(archive) == ({0, 1, 2, 3}, [1])


def test_scores_model_and_list_are_as_imported(path: Path) -> None:
    with Archive(path) as archive:
        add(archive, [1])
        with open_index(archive, XL.name, elsewhere=path.parent) as library:
            (hit,) = library.search("numbers").hits
    assert (hit.model, hit.source) == ("gpt2-xl", "openai")
    assert [(s.kind, s.value) for s in hit.scores] == [
        ("ev_correlation_score", 0.75), ("rsquared_score", -8.25),
    ]  # fmt: skip


def test_another_dataset_has_another_index(path: Path) -> None:
    small = DocumentId("gpt2-small", Kind.EXPLANATIONS, NeuronId(0, 9))
    with Archive(path) as archive:
        add(archive, [1])
        archive.add(small, encode(plain_results(NeuronId(0, 9))), "here")
        assert found(archive)[0] == {1}
        with open_index(archive, small.dataset, elsewhere=path.parent) as library:
            assert [e.neuron_id for e in library.all()] == [NeuronId(0, 9)]


def test_an_archive_made_anew_has_an_index_made_anew(path: Path) -> None:
    for neuron in (1, 2):
        path.unlink(missing_ok=True)
        with Archive(path) as archive:
            add(archive, [neuron])
            assert found(archive)[0] == {neuron}


def test_what_cannot_be_read_is_counted_and_the_rest_is_there(path: Path) -> None:
    with Archive(path) as archive, Library(path.with_name("index.sqlite")) as library:
        add(archive, [1])
        archive.add(which(Kind.EXPLANATIONS, NeuronId(0, 2)), b"<html>", "here")
        add(archive, [3])
        assert update_index(library, archive, XL.name) == {DAMAGED: 1}
        assert [e.neuron_id.neuron_index for e in library.all()] == [1, 3]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_where_nothing_may_be_written_the_index_is_elsewhere(path: Path) -> None:
    folder = path.parent / "closed"
    with Archive(folder / "published.sqlite") as archive:
        add(archive, range(3))
    elsewhere = path.parent / "elsewhere"
    folder.chmod(0o555)
    try:
        with (
            Archive(folder / "published.sqlite", read_only=True) as closed,
            open_index(closed, XL.name, elsewhere=elsewhere) as library,
        ):
            assert len(library.search("numbers").hits) == 3
            assert library.path.parent == elsewhere
    finally:
        folder.chmod(0o755)
