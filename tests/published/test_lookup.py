"""A look-up says all that is published of a unit, and why something is not."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from neuron_explainer.errors import UnitNotFound
from neuron_explainer.published.archive import Archive
from neuron_explainer.published.downloads import Fetcher, Patience
from neuron_explainer.published.locations import DATASETS, Dataset, Kind
from neuron_explainer.published.lookup import (
    ABSENT,
    NOT_ANNOUNCED,
    NOT_ASKED,
    NOT_DOWNLOADED,
    PublishedNeuron,
    look_up,
)
from neuron_explainer.published.sources import open_source
from neuron_explainer.records.neuron import NeuronId
from tests.published.mirror import (
    NEURON,
    XL,
    Reply,
    document,
    mirror_documents,
    mirror_server,
    which,
    write_mirror,
)

DOCUMENTS = mirror_documents(n_neurons=10)


def look(
    archive: Archive | None = None,
    address: str | None = None,
    neuron_id: NeuronId = NEURON,
    dataset: Dataset = XL,
) -> PublishedNeuron:
    async def from_source() -> PublishedNeuron:
        if address is None:
            return await look_up(dataset, neuron_id, archive=archive)
        async with open_source(address) as source:
            fetcher = Fetcher(source, rng=random.Random(0), patience=Patience(1))
            return await look_up(dataset, neuron_id, archive=archive, fetcher=fetcher)

    return asyncio.run(from_source())


def test_all_that_is_published_is_found_in_an_archive(tmp_path: Path) -> None:
    with Archive(tmp_path / "a.sqlite") as archive:
        for kind in Kind:
            archive.add(which(kind), document(which(kind)), "here")
        found = look(archive)
    assert found.neuron_id == NEURON
    assert found.record is not None
    assert found.record.neuron_id == NEURON
    assert found.results is not None
    assert found.results.explanations[0].text == " numbers below ten."
    assert found.related is not None
    assert found.tokens_by_activation is not None
    assert found.tokens_by_weight is not None
    assert (found.missing, found.left_out) == ({}, {})


def test_a_mirror_folder_says_the_same_as_an_archive(tmp_path: Path) -> None:
    write_mirror(tmp_path, DOCUMENTS)
    with Archive(tmp_path / "a.sqlite") as archive:
        assert look(archive, str(tmp_path)) == look(archive) == look(None, str(tmp_path))


def test_what_the_archive_knows_is_not_asked_of_the_source(tmp_path: Path) -> None:
    present = {path: body for path, body in DOCUMENTS.items() if "weight-based" not in path}
    with mirror_server(present) as mirror, Archive(tmp_path / "a.sqlite") as archive:
        first = look(archive, mirror.address)
        assert look(archive, mirror.address) == first
        assert mirror.asked == dict.fromkeys((which(kind).path for kind in Kind), 1)
    assert first.failed == ()
    assert first.missing == {Kind.RELATED_NEURONS: ABSENT, Kind.TOKENS_BY_WEIGHT: ABSENT}
    assert first.record is not None


def test_an_archive_that_may_not_be_written_is_read_and_what_is_fetched_is_shown(
    tmp_path: Path,
) -> None:
    with Archive(tmp_path / "a.sqlite") as archive:
        archive.add(which(Kind.EXPLANATIONS), document(which(Kind.EXPLANATIONS)), "here")
    content = (tmp_path / "a.sqlite").read_bytes()
    with mirror_server(DOCUMENTS) as mirror, Archive(archive.path, read_only=True) as closed:
        found = look(closed, mirror.address)
        assert mirror.asked[which(Kind.EXPLANATIONS).path] == 0
        assert set(look(closed).missing.values()) == {NOT_DOWNLOADED}
    assert found.missing == {}
    assert found.not_kept == tuple(kind for kind in Kind if kind is not Kind.EXPLANATIONS)
    assert (tmp_path / "a.sqlite").read_bytes() == content


def test_only_the_kinds_that_are_wanted_are_asked_for() -> None:
    async def look_up_one() -> PublishedNeuron:
        async with open_source(mirror.address) as source:
            fetcher = Fetcher(source, rng=random.Random(0))
            return await look_up(XL, NEURON, fetcher=fetcher, kinds=[Kind.EXPLANATIONS])

    with mirror_server(DOCUMENTS) as mirror:
        found = asyncio.run(look_up_one())
        assert mirror.asked == {which(Kind.EXPLANATIONS).path: 1}
    assert found.results is not None
    assert set(found.missing.values()) == {NOT_ASKED}


def test_a_source_that_fails_says_why_and_leaves_no_mark(tmp_path: Path) -> None:
    with Archive(tmp_path / "a.sqlite") as archive:
        with mirror_server(DOCUMENTS, lambda *_: Reply(503)) as mirror:
            found = look(archive, mirror.address)
            assert (set(found.missing.values()), found.failed) == ({"HTTP 503"}, tuple(Kind))
        with mirror_server(DOCUMENTS) as mirror:
            assert look(archive, mirror.address).missing == {}


def test_a_document_that_cannot_be_read_is_missing_with_the_reason(tmp_path: Path) -> None:
    with Archive(tmp_path / "a.sqlite") as archive:
        archive.add(which(Kind.ACTIVATIONS), b"<html>", "here")
        found = look(archive)
    assert found.record is None
    where = f"{which(Kind.ACTIVATIONS).path} in {tmp_path / 'a.sqlite'}"
    assert found.missing[Kind.ACTIVATIONS].startswith(f"not in the format: {where}: ")
    assert found.failed == (Kind.ACTIVATIONS,)


def test_a_damaged_file_of_a_mirror_is_named_by_where_it_lies(tmp_path: Path) -> None:
    one = which(Kind.ACTIVATIONS)
    write_mirror(tmp_path, {**DOCUMENTS, one.path: b"<html>"})
    found = look(None, str(tmp_path))
    assert str(tmp_path / one.path) in found.missing[Kind.ACTIVATIONS]
    with mirror_server({**DOCUMENTS, one.path: b"<html>"}) as mirror:
        assert f"{mirror.address}/{one.path}" in look(None, mirror.address).missing[one.kind]


def test_absent_of_another_source_is_asked_of_this_one(tmp_path: Path) -> None:
    with Archive(tmp_path / "a.sqlite") as archive:
        for kind in Kind:
            archive.add(which(kind), None, "https://elsewhere")
        assert set(look(archive).missing.values()) == {ABSENT}
        with mirror_server(DOCUMENTS) as mirror:
            assert look(archive, mirror.address).missing == {}
        assert look(archive).missing == {}


def test_without_a_source_what_is_not_in_the_archive_is_not_downloaded(tmp_path: Path) -> None:
    with Archive(tmp_path / "a.sqlite") as archive:
        found = look(archive)
    assert found.missing == dict.fromkeys(Kind, NOT_DOWNLOADED)
    assert found.results is None


def test_kinds_that_are_not_announced_for_a_model_are_not_asked_for() -> None:
    with mirror_server({}) as mirror:
        found = look(None, mirror.address, dataset=DATASETS["gpt2-small"])
    assert len(mirror.asked) == 2
    assert {kind for kind, why in found.missing.items() if why == NOT_ANNOUNCED} == {
        Kind.RELATED_NEURONS, Kind.TOKENS_BY_ACTIVATION, Kind.TOKENS_BY_WEIGHT
    }  # fmt: skip


def test_what_the_records_leave_out_is_counted() -> None:
    one = which(Kind.TOKENS_BY_ACTIVATION)
    changed = document(one).replace(b'"tokens"', b'"n":1,"tokens"')
    with mirror_server({one.path: changed}) as mirror:
        assert look(None, mirror.address).left_out == {"TokenLookupTableSummaryOfNeuron.n": 1}


def test_a_unit_that_the_subject_has_not_is_refused() -> None:
    with pytest.raises(UnitNotFound):
        look(neuron_id=NeuronId(48, 0))
