"""Runs and published archives as the viewer gets them, with all that is said of a unit."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from neuron_explainer.errors import StoreError, UsageError
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.records import run_choices
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.pipeline.view_asked import ask_published
from neuron_explainer.pipeline.view_hooks import PublishedSubject, Subject, published_hooks
from neuron_explainer.pipeline.view_published import DAMAGED, PublishedRows, PublishedWeights
from neuron_explainer.pipeline.view_sources import open_sources
from neuron_explainer.published.archive import Archive
from neuron_explainer.published.locations import DocumentId, Kind
from neuron_explainer.records.listed import ListedExplanation, ListedScore
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.library import Library
from neuron_explainer.stores.results import Results
from neuron_explainer.subject.tokens import SubjectTokenizer
from neuron_explainer.viewer.unit_index import UnitIndex
from tests.fakes import ScriptedSource
from tests.formats.openai_documents import encode, plain_document
from tests.published.scorable import (
    DATASET,
    IDS,
    PUBLISHED_SCORE,
    plain_explained,
    plain_scorable,
    word_of,
)
from tests.tiny_models import byte_tokenizer
from tests.tiny_stores import collect_into
from tests.viewer.viewed_runs import open_client, state_of, write_method

SOURCE = "https://somewhere/published"
UNIT = NeuronId(1, 2)


def add_documents(path: Path, neuron_ids: Iterable[NeuronId]) -> None:
    with Archive(path) as archive:
        for neuron_id in neuron_ids:
            documents = {
                Kind.ACTIVATIONS: plain_scorable(neuron_id),
                Kind.EXPLANATIONS: plain_explained(neuron_id, f" {word_of(neuron_id)}."),
            }
            for kind, document in documents.items():
                which = DocumentId(DATASET, kind, neuron_id)
                archive.add(which, encode(document), SOURCE)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    collect_into(folder.store, ScriptedSource(2, 8), SubjectTokenizer(byte_tokenizer()))
    return folder


def open_viewer(
    runs: list[RunFolder], published: Path | None = None, dataset: str = DATASET
) -> TestClient:
    return open_client(*open_sources(runs, published, dataset))


def test_a_collection_without_results_has_pages_of_its_units(run: RunFolder) -> None:
    client = open_viewer([run])
    assert client.get("/").status_code == 200
    page = client.get("/layers/1/neurons/2").text
    assert "Top windows" in page
    assert "Nothing yet" in page
    assert client.get("/layers/1/neurons/2/tokens").text.count("<li>") > 0
    assert client.get("/table").status_code == client.get("/search?q=x").status_code == 200
    assert client.get("/random").status_code == client.get("/export.csv").status_code == 404


def test_a_run_is_shown_with_what_was_imported_into_it(run: RunFolder) -> None:
    with Results(run.results) as results:
        write_method(results, "0a", units=[UNIT])
    listed = ListedExplanation(
        UNIT, "<b>rivers</b>", "a list", scores=(ListedScore(0.25, "kind", "by whom"),)
    )
    with Library(run.library) as library:
        library.add([listed])
    client = open_viewer([run])
    page = client.get("/layers/1/neurons/2").text
    assert "&lt;b&gt;rivers&lt;/b&gt;" in page
    assert "kind by by whom 0.25" in page
    found = client.get("/layers/1/neurons/2.json").json()
    assert [one["list"] for one in found["imported"]] == ["a list"]
    (elsewhere,) = client.get("/search.json?q=rivers").json()["elsewhere"]
    assert (elsewhere["by"], elsewhere["score"]) == ("a list", 0.25)
    assert client.get("/table.json").json()["n_rows"] == 1
    assert client.get("/table.json").json()["rows"][0]["density"] is not None


def test_an_archive_is_shown_with_its_scores_windows_and_simulations(tmp_path: Path) -> None:
    path = tmp_path / "archive.sqlite"
    add_documents(path, IDS[:3])
    client = open_viewer([], path)
    rows = client.get("/table.json").json()["rows"]
    assert [(row["layer"], row["neuron"]) for row in rows] == [
        (one.layer_index, one.neuron_index) for one in IDS[:3]
    ]
    assert {row["score"] for row in rows} == {PUBLISHED_SCORE}
    page = client.get("/layers/0/neurons/1").text
    assert word_of(IDS[0]) in page
    assert f"{PUBLISHED_SCORE:.2f}" in page
    assert 'class="act sim' in page
    assert "published records have no mean activation by token" in (
        client.get("/layers/0/neurons/1/tokens").text
    )
    assert client.get(f"/layers/{IDS[4].layer_index}/neurons/0").status_code == 404

    assert "the neuron’s largest activation on record" in page

    without = DocumentId(DATASET, Kind.EXPLANATIONS, IDS[3])
    with Archive(path) as archive:  # an explanation whose record is not there
        archive.add(without, encode(plain_explained(IDS[3], " words.")), SOURCE)
    page = client.get(f"/layers/{IDS[3].layer_index}/neurons/{IDS[3].neuron_index}").text
    assert "the largest activation in these windows" in page
    assert "on record<" not in page

    add_documents(path, IDS[3:])  # a download that goes on
    state_of(client).update()
    assert client.get("/table.json").json()["n_rows"] == len(IDS)
    assert client.get(f"/search.json?q={word_of(IDS[4])}").json()["rows"]


def test_published_weights_and_tokens_are_shown_without_a_model(tmp_path: Path) -> None:
    path, unit, other = tmp_path / "archive.sqlite", NeuronId(3, 4), NeuronId(4, 17)
    with Archive(path) as archive:
        for neuron_id in (unit, other):
            for kind in Kind if neuron_id == unit else (Kind.EXPLANATIONS,):
                which = DocumentId("gpt2-xl", kind, neuron_id)
                archive.add(which, encode(plain_document(kind, neuron_id)), SOURCE)

    def load_nothing() -> Subject:
        raise AssertionError("a model is asked")

    hooks = {"a": published_hooks(load_nothing, PublishedWeights(path, "gpt2-xl"))}
    client = open_client(*open_sources([], path, "gpt2-xl"), hooks=hooks)
    weights = client.get("/layers/3/neurons/4/weights").text
    assert "so</bdi>" in weights and "−0.5" in weights
    assert 'href="/layers/4/neurons/17"' in weights and 'href="/layers/5/neurons/2"' not in weights
    assert "5:2" in weights and "11:0" not in weights  # whose weight is not said
    tokens = client.get("/layers/3/neurons/4/tokens").text
    assert "two</bdi>" in tokens and "2.12" in tokens and "times" not in tokens
    assert client.get("/home.json").json()["facts"]["Asked"].endswith("what it cost is not said")


def test_a_subject_that_is_not_here_is_not_fetched_and_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "archive.sqlite"
    add_documents(path, IDS[:1])
    (source,) = open_sources([], path, DATASET)
    subject = PublishedSubject("owner/unheard-of", "quick_gelu")
    hooks = published_hooks(
        lambda: ask_published(RunSpec(device="cpu"), subject, source.records),
        PublishedWeights(path, DATASET),
    )
    client = open_client(source, hooks={"a": hooks})
    page = client.get("/layers/0/neurons/1/weights").text
    assert page.count("nothing is fetched here; run `hf download owner/unheard-of` first") == 2


def test_a_damaged_document_is_a_row_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "archive.sqlite"
    add_documents(path, IDS[:1])
    with Archive(path) as archive:
        archive.add(DocumentId(DATASET, Kind.EXPLANATIONS, IDS[1]), b"{}", SOURCE)
    with PublishedRows(path, DATASET) as rows, UnitIndex(tmp_path / "i.sqlite") as index:
        index.update(rows, lambda _id: None)
        found = index.select("SELECT text, reason FROM explanations ORDER BY number")
    assert found[0][1] is None
    assert found[1] == (None, DAMAGED)


def test_a_run_and_what_was_published_are_compared(run: RunFolder, tmp_path: Path) -> None:
    with Results(run.results) as results:
        write_method(results, "0a", units=IDS[:2], metric="ev_correlation_score")
    path = tmp_path / "archive.sqlite"
    add_documents(path, IDS)
    client = open_viewer([run], path)
    found = client.get("/compare.json").json()
    assert found["comparison"]["n_units"] == 2
    assert found["comparison"]["baseline_mean"] == pytest.approx(PUBLISHED_SCORE)
    assert client.get("/s/b/layers/9/neurons/6").status_code == 200


def test_records_are_watched_where_they_lie(run: RunFolder, tmp_path: Path) -> None:
    asking = RunFolder(tmp_path / "asking")
    asking.path.mkdir()
    asking.claim(run_choices(run))
    sources = open_sources([run, asking], None, DATASET)
    assert [source.records_file for source in sources] == [run.store / "store.json"] * 2
    assert (run.store / "store.json").exists()


def test_folders_that_are_called_the_same_are_told_apart(tmp_path: Path) -> None:
    folders = [RunFolder(tmp_path / name / "run") for name in ("one", "two")]
    for folder in folders:
        collect_into(folder.store, ScriptedSource(1, 2), SubjectTokenizer(byte_tokenizer()))
    assert [source.title for source in open_sources(folders, None, DATASET)] == [
        "one/run",
        "two/run",
    ]


def test_where_the_folder_may_not_be_written_the_users_cache_is(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("os.access", lambda path, _mode: not str(path).startswith(str(run.path)))
    (source,) = open_sources([run], None, DATASET)
    assert tmp_path / "cache" in source.folder.parents
    assert open_client(source).get("/favourites").status_code == 200


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no collection"):
        open_sources([RunFolder(tmp_path / "none")], None, DATASET)
    with pytest.raises(StoreError, match="no archive"):
        open_sources([], tmp_path / "none.sqlite", DATASET)
    with pytest.raises(UsageError, match="given twice"):
        open_sources([RunFolder(tmp_path / "a"), RunFolder(tmp_path / "a")], None, DATASET)
    (tmp_path / "a.sqlite").touch()
    with pytest.raises(StoreError, match="no archive"):
        open_sources([], tmp_path / "a.sqlite", DATASET)
    assert (tmp_path / "a.sqlite").stat().st_size == 0
    with pytest.raises(UsageError, match="gpt2-xl"):
        open_sources([], tmp_path / "a.sqlite", "gpt9")
