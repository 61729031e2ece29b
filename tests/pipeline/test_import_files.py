"""Import: the kind of each file is told by looking, and what becomes of it is counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neuron_explainer.formats.neuronpedia import write_neuronpedia
from neuron_explainer.formats.openai_results import write_results
from neuron_explainer.formats.tables import write_table
from neuron_explainer.pipeline.import_files import (
    FACTS,
    WINDOW,
    Imported,
    Kind,
    import_files,
)
from neuron_explainer.pipeline.own_explanations import list_unit
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.listed import ListedExplanation, ListedScore, Polarity
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.published import PublishedExplanation, PublishedResults
from neuron_explainer.records.score import Score, ScoredSimulation
from neuron_explainer.stores.library import Added, Library
from neuron_explainer.stores.results import Results
from tests.listed import FULL, PLAIN


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library(tmp_path / "library.sqlite") as opened:
        yield opened


def run(library: Library, *paths: Path, **more: Any) -> list[Imported]:
    return list(import_files(paths, library, **more))


def test_a_table_is_taken_whole(tmp_path: Path, library: Library) -> None:
    path = tmp_path / "list.csv"
    write_table(path, [FULL, PLAIN])
    (imported,) = run(library, path)
    assert (imported.kind, imported.added) == (Kind.TABLE, Added(2, 0, 3))
    assert list(library.all()) == [FULL, PLAIN]
    assert [one.added for one in run(library, path)] == [Added(n_known=2)]


def test_the_given_source_and_model_are_for_what_does_not_say_its_own(
    tmp_path: Path, library: Library
) -> None:
    path = tmp_path / "list.csv"
    path.write_text("layer,neuron,explanation,model\n1,2,rivers,\n1,3,seas,gpt2\n")
    run(library, path, source="mine", model="gpt2-xl")
    assert [(e.source, e.model) for e in library.all()] == [("mine", "gpt2-xl"), ("mine", "gpt2")]


def test_a_neuronpedia_export_is_taken_file_by_file(tmp_path: Path, library: Library) -> None:
    other = replace(FULL, neuron_id=NeuronId(10, 1))
    write_neuronpedia(tmp_path / "export", [FULL, other])
    imported = run(library, tmp_path / "export")
    assert [(one.path.parts[-3], one.kind) for one in imported] == [
        ("10-res-jb", Kind.NEURONPEDIA), ("9-res-jb", Kind.NEURONPEDIA),
    ]  # fmt: skip
    assert {*library.all()} == {FULL, other}
    assert [one.added.n_known for one in run(library, imported[0].path)] == [1]


def test_windows_and_facts_of_a_neuronpedia_export_are_counted(
    tmp_path: Path, library: Library
) -> None:
    unit = {"modelId": "gpt2", "layer": "6", "index": "1"}
    for name, fields in (
        ("activations", {"tokens": ["a"], "values": [1.0]}),
        ("features", {"maxActApprox": 1.0}),
    ):
        (tmp_path / "6" / name).mkdir(parents=True)
        (tmp_path / "6" / name / "batch-0.jsonl").write_text(json.dumps(unit | fields))
    windows, facts = run(library, tmp_path / "6")
    assert (windows.left_out, facts.left_out) == ({WINDOW: 1}, {FACTS: 1})
    assert (windows.refused, facts.refused, len(library)) == (None, None, 0)


def test_a_folder_of_delphi_is_taken_as_one(tmp_path: Path, library: Library) -> None:
    folder = tmp_path / "run"
    (folder / "explanations").mkdir(parents=True)
    for n in range(3):
        text = "rivers" if n else "Explanation could not be parsed."
        (folder / "explanations" / f"layers.5_latent{n}.txt").write_text(json.dumps(text))
    (imported,) = run(library, folder)
    assert (imported.kind, imported.added.n_added) == (Kind.DELPHI, 2)
    assert imported.left_out == {"explanation that delphi could not read": 1}


def test_descriptions_of_transluce_keep_their_polarity(tmp_path: Path, library: Library) -> None:
    path = tmp_path / "descriptions.jsonl"
    rows = [{"neuron_id": "m_1_2_None", "polarity": p, "description": "rivers"} for p in (1, -1)]
    path.write_text("\n".join(map(json.dumps, rows)))
    (imported,) = run(library, path)
    assert (imported.kind, imported.added.n_added) == (Kind.TRANSLUCE, 2)
    assert [e.polarity for e in library.all()] == [Polarity.POSITIVE, Polarity.NEGATIVE]


def published(neuron_id: NeuronId, *texts: str) -> bytes:
    explanations = tuple(PublishedExplanation(text, (), 0.5, None, -0.25) for text in texts)
    return write_results(PublishedResults(neuron_id, explanations)).document


def test_published_files_are_taken_alone_or_as_a_mirror(tmp_path: Path, library: Library) -> None:
    folder = tmp_path / "data" / "explanations"
    for layer, unit in [(10, 0), (9, 10), (9, 9)]:
        (folder / str(layer)).mkdir(parents=True, exist_ok=True)
        document = published(NeuronId(layer, unit), " rivers.", "seas")
        (folder / str(layer) / f"{unit}.jsonl").write_bytes(document)
    (one,) = run(library, folder / "9" / "9.jsonl", model="gpt2-xl")
    assert (one.kind, one.added) == (Kind.OPENAI, Added(2, 0, 4))
    for path in (folder, tmp_path / "data", tmp_path):
        (imported,) = run(library, path, model="gpt2-xl")
        assert imported.added.n_added + imported.added.n_known == 6
    scores = (
        ListedScore(0.5, "ev_correlation_score"),
        ListedScore(-0.25, "absolute_dev_explained_score"),
    )
    expected = ListedExplanation(NeuronId(9, 9), " rivers.", "openai", "gpt2-xl", scores=scores)
    assert next(library.all()) == expected
    units = [e.neuron_id for e in library.all() if e.text == "seas"]
    assert units == [NeuronId(9, 9), NeuronId(9, 10), NeuronId(10, 0)]


def test_a_run_is_taken_with_its_headline_score_first(tmp_path: Path, library: Library) -> None:
    folder = tmp_path / "my run"
    explanation = Explanation(NeuronId(1, 2), "rivers", "summary", "openai:gpt-4o")
    scores = {
        "random_only": Score("correlation", None, 5, reason="constant prediction"),
        "top_only": Score("correlation", 0.4, 5),
        "top_and_random": Score("correlation", 0.6, 10),
    }
    scored = ScoredSimulation("simulation", "all_at_once", scores, (), "top_and_random")
    with Results(folder / "results.sqlite") as results:
        results.use_method("f", {})
        results.add_explained("f", explanation, scored)
        results.add_unexplained("f", NeuronId(1, 3), "summary", "dead unit: never active")
    (folder / "run.json").write_text('{"model": "gpt2"}')
    (imported,) = run(library, folder)
    assert (imported.kind, imported.added.n_added) == (Kind.RUN, 1)
    assert imported.left_out == {"unit without an explanation: dead unit": 1}
    (kept,) = library.all()
    assert (kept.source, kept.model, kept.explainer) == ("my run", "gpt2", "summary")
    assert kept.explainer_model == "openai:gpt-4o"
    assert kept.scores == (
        ListedScore(0.6, "top_and_random", "all_at_once"),
        ListedScore(0.4, "top_only", "all_at_once"),
    )


def test_a_unit_without_a_text_is_no_explanation(tmp_path: Path) -> None:
    with Results(tmp_path / "results.sqlite") as results:
        results.add_unexplained("f", NeuronId(1, 3), "summary", "dead unit: never active")
        unit = results.unit("f", NeuronId(1, 3))
    with pytest.raises(ValueError, match="1:3 has no explanation"):
        list_unit(unit, source="run", model=None)


def test_a_damaged_file_is_refused_and_the_others_are_taken(
    tmp_path: Path, library: Library
) -> None:
    damaged, good = tmp_path / "damaged.csv", tmp_path / "good.csv"
    damaged.write_text("layer,neuron,explanation\n1,2,rivers\n1,x,seas\n")
    write_table(good, [PLAIN])
    empty = tmp_path / "empty"
    empty.mkdir()
    imported = run(library, damaged, tmp_path / "absent.csv", empty, good)
    assert [one.added.n_added for one in imported] == [0, 0, 0, 1]
    reasons = [one.refused or "" for one in imported]
    assert "damaged.csv: line 3: 'x' is not the number of a unit" in reasons[0]
    assert "absent.csv: there is no such file or folder" in reasons[1]
    assert "empty: no run, no bundle, no folder of delphi" in reasons[2]
    assert reasons[3] == ""
    assert list(library.all()) == [PLAIN]


def test_a_damaged_published_file_refuses_its_folder(tmp_path: Path, library: Library) -> None:
    folder = tmp_path / "explanations" / "3"
    folder.mkdir(parents=True)
    (folder / "1.jsonl").write_bytes(published(NeuronId(3, 1), "rivers"))
    (folder / "2.jsonl").write_bytes(b'{"neuron_id": ')
    (imported,) = run(library, tmp_path)
    assert "2.jsonl: no JSON" in (imported.refused or "")
    assert len(library) == 0


def test_a_damaged_run_is_refused(tmp_path: Path, library: Library) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "results.sqlite").write_bytes(b"no database, but as long as the head of one" * 20)
    (imported,) = run(library, folder)
    assert "cannot be used as results" in (imported.refused or "")


@pytest.mark.shared_data
def test_all_published_lists_are_imported(shared_data: Path, library: Library) -> None:
    names = [
        "gpt2xl_explanations_960.csv", "gpt2xl_explanations_60.csv",
        "gpt2xl_explanations_16517.json", "gpt2xl_simulated_5.json",
    ]  # fmt: skip
    imported = run(library, *(shared_data / "published" / name for name in names), model="gpt2-xl")
    assert [one.added.n_added for one in imported] == [960, 60, 16_517, 5]
    assert [one.refused for one in imported] == [None] * 4
    found = library.search("characters in movies, entertainment", source="gpt2xl_simulated_5.json")
    assert [e.neuron_id for e in found.hits] == [NeuronId(0, 816)]
