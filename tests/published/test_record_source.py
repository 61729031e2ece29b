"""Published units are read as any others, and nothing that is shown of one is scored on."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from neuron_explainer.errors import CannotExplain, StoreError, UnitNotFound
from neuron_explainer.formats.openai import read_record
from neuron_explainer.published.archive import Archive
from neuron_explainer.published.locations import DATASETS, DocumentId, Kind
from neuron_explainer.published.record_source import (
    ALSO_TOP,
    BAND_TOP,
    IN_A_BAND,
    REPEATED,
    PublishedSource,
    to_scorable,
)
from neuron_explainer.records.neuron import ActivationRecord, NeuronId
from neuron_explainer.records.published import PublishedRecord
from neuron_explainer.records.splits import RANDOM_SPLITS, TOP_SPLITS, Split, split_records
from tests.formats.openai_documents import encode, plain_id
from tests.published.scorable import IDS, plain_scorable

SOURCE = "https://somewhere/published"
XL = DATASETS["gpt2-xl"]
ABSENT, BARE, OTHERS = NeuronId(1, 0), NeuronId(1, 1), NeuronId(1, 2)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """IDS, a unit without a record, one without a window, and one absent from another source."""
    path = tmp_path / "archive.sqlite"
    with Archive(path) as archive:
        for neuron_id in IDS:
            archive.add(document_of(neuron_id), encode(plain_scorable(neuron_id)), SOURCE)
        archive.add(document_of(ABSENT), None, SOURCE)
        bare = {"dataclass_name": "NeuronRecord", "neuron_id": plain_id(BARE)}
        archive.add(document_of(BARE), encode(bare), SOURCE)
        archive.add(document_of(OTHERS), None, "https://elsewhere")
    return path


def document_of(neuron_id: NeuronId) -> DocumentId:
    return DocumentId(XL.name, Kind.ACTIVATIONS, neuron_id)


def published(neuron_id: NeuronId = IDS[0]) -> PublishedRecord:
    return read_record(encode(plain_scorable(neuron_id)), neuron_id).value


def test_the_splits_are_the_published_ones(archive: Path) -> None:
    source = PublishedSource(archive, XL, SOURCE)
    for neuron_id in IDS:
        raw, record = published(neuron_id), source.read_neuron(neuron_id)
        for split in TOP_SPLITS:
            place = TOP_SPLITS.index(split)
            assert split_records(record, split).top == raw.top[place:20:4]
        for split in RANDOM_SPLITS:
            place = RANDOM_SPLITS.index(split)
            assert split_records(record, split).random == raw.random[place:15:3]


def test_what_it_is_of_is_said_without_asking_the_archive(tmp_path: Path) -> None:
    source = PublishedSource(tmp_path / "none.sqlite", XL, SOURCE)
    manifest = source.manifest
    assert (manifest.subject, manifest.site, manifest.n_ctx) == ("gpt2-xl", "mlp_post_act", 64)
    assert list(manifest.layers) == list(range(48))
    assert manifest.size() == "48 layers of 6,400 neurons each"
    facts = dict(manifest.facts())
    assert SOURCE in facts["Text"]
    assert sum(1 for _ in source.neuron_ids()) == 307_200
    others = [
        PublishedSource(tmp_path, XL, "https://elsewhere"),
        PublishedSource(tmp_path, DATASETS["gpt2-small"], SOURCE),
    ]
    prints = {manifest.fingerprint, *(other.manifest.fingerprint for other in others)}
    assert len(prints) == 3
    again = PublishedSource(tmp_path / "moved.sqlite", XL, SOURCE)
    assert again.manifest.fingerprint == manifest.fingerprint


def test_no_unit_has_token_means(archive: Path) -> None:
    with pytest.raises(CannotExplain, match="no mean activation by token"):
        PublishedSource(archive, XL, SOURCE).read_token_lookup(IDS[0])


def test_what_is_missing_has_a_reason(archive: Path) -> None:
    source = PublishedSource(archive, XL, SOURCE)
    with pytest.raises(CannotExplain, match="no published record"):
        source.read_neuron(ABSENT)
    with pytest.raises(CannotExplain, match="no top window"):
        source.read_neuron(BARE)
    for unknown in (OTHERS, NeuronId(7, 7)):  # of another source nothing is known
        with pytest.raises(UnitNotFound, match=f"--neurons {unknown}` fetches it"):
            source.read_neuron(unknown)
    with pytest.raises(UnitNotFound, match="gpt2-xl has no neuron 48:0"):
        source.read_neuron(NeuronId(48, 0))


def test_a_damaged_document_is_said_to_be_one(archive: Path) -> None:
    connection = sqlite3.connect(archive)
    with connection:
        connection.execute("UPDATE documents SET document = x'00' WHERE neuron_index = 5")
    connection.close()
    with pytest.raises(StoreError, match="is damaged"):
        PublishedSource(archive, XL, SOURCE).read_neuron(NeuronId(0, 5))


def test_no_window_is_both_shown_and_scored_on() -> None:
    raw = published()
    in_band = ActivationRecord((" x", " y"), (0.1, 0.2))
    quiet = ActivationRecord((" x", " y"), (0.1, 0.0))  # the same text, other activations
    leaky = replace(
        raw,
        top=(*raw.top[:4], *raw.top[3:]),
        random=(raw.top[0], in_band, *raw.random, raw.top[2], quiet),
        bands=((in_band, raw.top[1]),),
        boundaries=(None, None),
    )
    record, left_out = to_scorable(leaky)
    assert left_out == {REPEATED: 1, ALSO_TOP: 2, IN_A_BAND: 1, BAND_TOP: 1}
    assert record.top == raw.top
    assert record.random == (*raw.random, quiet)
    assert record.strata[0].records == (in_band,)
    shown = {*split_records(record, Split.TRAIN).top, *record.strata[0].records}
    for split in RANDOM_SPLITS:
        scored = split_records(record, split)
        assert shown.isdisjoint([*scored.top, *scored.random])
    assert to_scorable(raw).left_out == {}
