"""Explanations of lists are scored anew on windows from each of their places, as the list has them.

The list is what the token lookup table says of some neurons of the bundled model.
"""

from __future__ import annotations

import csv
import json
import pydoc_data.topics
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from neuron_explainer.errors import SpecMismatch, StoreError, UsageError
from neuron_explainer.pipeline.estimate import Estimate
from neuron_explainer.pipeline.events import Noted, ignore
from neuron_explainer.pipeline.export import ExportFormat, export_run
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.kept_listed import NEGATIVE, NOT_THERE, REPEATED
from neuron_explainer.pipeline.records import open_records
from neuron_explainer.pipeline.rescore import Rescored, run_rescore
from neuron_explainer.pipeline.rescore_estimate import estimate_rescore
from neuron_explainer.pipeline.rescore_source import RescoreSource
from neuron_explainer.pipeline.run import run_collect, run_explain
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.results import Results
from tests.e2e.command_lines import write_lines
from tests.fakes import FakeListener
from tests.llm.rule_options import ServerOptions
from tests.llm.rule_server import RuleServer, rule_server
from tests.pipeline.rescoring import asking, listing, units_of, value_of
from tests.published.mirror import write_mirror
from tests.published.scorable import DATASET, IDS, scorable_documents, word_of

COLLECTED = "0:3,0:40,1:7,1:90"
HEAD = "layer,neuron,explanation,score"


class Prepared(NamedTuple):
    """A collection with the lookup table's explanations, the same as a list, and how it is made."""

    folder: RunFolder
    table: Path
    spec: RunSpec


@pytest.fixture(scope="module")
def server() -> Iterator[RuleServer]:
    with rule_server(ServerOptions()) as server:
        yield server


@pytest.fixture(scope="module")
def prepared(server: RuleServer, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    path = tmp_path_factory.mktemp("prepared")
    texts = pydoc_data.topics.topics.values()
    write_lines(path / "corpus.jsonl", *({"text": text} for text in texts))
    spec = asking(
        server, corpus=str(path / "corpus.jsonl"), n_tokens=60_000, n_boundary_windows=200
    )
    folder = RunFolder(path / "run")
    run_collect(replace(spec, units=COLLECTED), folder, ignore)
    run_explain(replace(spec, explainer="token_lookup", simulator="token_lookup"), folder, ignore)
    export_run(folder, path / "list.csv", ExportFormat.TABLE)
    return Prepared(folder, path / "list.csv", spec)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def of_list(*paths: Path, **more: object) -> RescoreSource:
    return RescoreSource(imported=paths, **more)  # type: ignore[arg-type]


def scores_of(rescored: Rescored, folder: RunFolder) -> dict[NeuronId, float | None]:
    return {i: value_of(unit) for i, unit in units_of(folder, rescored.kept).items()}


@pytest.fixture(scope="module")
def on_windows_of_a_run(
    prepared: Prepared, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunFolder, Rescored]:
    folder = RunFolder(tmp_path_factory.mktemp("windows") / "run")
    source = of_list(prepared.table, windows=str(prepared.folder.path))
    return folder, run_rescore(prepared.spec, folder, ignore, source)


def test_listed_explanations_are_scored_on_the_windows_of_a_run(
    prepared: Prepared, on_windows_of_a_run: tuple[RunFolder, Rescored]
) -> None:
    folder, rescored = on_windows_of_a_run
    rows = {
        NeuronId(int(row["layer"]), int(row["neuron"])): row
        for row in csv.DictReader(prepared.table.read_text("utf-8").splitlines())
    }
    kept = units_of(folder, rescored.kept)
    assert {i: unit.text for i, unit in kept.items()} == {
        i: row["explanation"] for i, row in rows.items()
    }
    (compared,) = rescored.compared
    assert compared.paired.label == "as listed (top_and_random)"
    assert len(compared.paired.movers) >= 3
    for unit in compared.units:
        listed = rows[unit.neuron_id]["score"]
        assert unit.baseline_value == (float(listed) if listed else None)
        assert unit.baseline_text == unit.text
    for unit in units_of(folder, compared.before.fingerprint).values():
        assert [score.n_tokens for score in unit.scores.values()] == [None]
    assert compared.before.scorers == ("listed",)
    assert compared.before.made_by == compared.now.made_by == ("token_lookup",)
    assert compared.now.simulators == ("structured openai:rule-1",)
    choices = folder.read_choices()
    assert choices is not None
    assert choices["records"] == str(prepared.folder.path.resolve())
    assert not folder.library.exists()  # the user's own is left alone


def test_the_folders_own_windows_and_those_collected_first_give_the_same_scores(
    prepared: Prepared, on_windows_of_a_run: tuple[RunFolder, Rescored], tmp_path: Path
) -> None:
    known = scores_of(on_windows_of_a_run[1], on_windows_of_a_run[0])
    assert sum(value is not None for value in known.values()) >= 3
    source = of_list(prepared.table, listing(tmp_path / "more.csv", HEAD, "3,5000,no neuron,0.5"))
    own = RunFolder(Path(shutil.copytree(prepared.folder.path, tmp_path / "own")))
    rescored = run_rescore(prepared.spec, own, ignore, source)
    assert scores_of(rescored, own) == known
    assert rescored.left_out == {NOT_THERE: 1}
    fresh = RunFolder(tmp_path / "fresh")
    assert estimate_rescore(prepared.spec, fresh, source).kept.n_units == 5
    assert not fresh.path.exists()
    rescored = run_rescore(prepared.spec, fresh, ignore, source)
    assert scores_of(rescored, fresh) == known
    assert rescored.left_out == {NOT_THERE: 1}
    assert ",".join(map(str, open_records(fresh).neuron_ids())) == COLLECTED
    again = run_rescore(prepared.spec, fresh, ignore, source)
    assert again == rescored


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"n_tokens": 9_000}, "(tokens was 60000, now 9000)"),
        ({"model": "gpt2"}, "(model was bundled, now gpt2)"),
        ({"n_ctx": 32, "top_k": 30}, "(n-ctx was 64, now 32, top-k was 20, now 30)"),
    ],
)
@pytest.mark.parametrize("where", ["own", "elsewhere"])
def test_flags_of_another_collection_than_the_one_that_is_there_are_refused_by_name(
    prepared: Prepared, folder: RunFolder, changes: dict[str, object], difference: str, where: str
) -> None:
    spec = replace(prepared.spec, **changes)  # type: ignore[arg-type]
    windows = None if where == "own" else str(prepared.folder.path)
    place = prepared.folder if where == "own" else folder
    for source in (of_list(prepared.table, windows=windows), RescoreSource()):
        if where == "elsewhere" and source.windows is None:
            continue
        for rescore in (lambda *a: run_rescore(a[0], a[1], ignore, a[2]), estimate_rescore):
            with pytest.raises(SpecMismatch, match=re.escape(difference)):
                rescore(spec, place, source)


def test_another_corpus_than_the_one_that_was_read_is_refused(
    prepared: Prepared, tmp_path: Path
) -> None:
    write_lines(tmp_path / "other.jsonl", {"text": "another text"})
    spec = replace(prepared.spec, corpus=str(tmp_path / "other.jsonl"))
    with pytest.raises(SpecMismatch, match=r"\(corpus was \w+, now \w+\)"):
        run_rescore(spec, prepared.folder, ignore, of_list(prepared.table))


def test_what_is_asked_is_estimated_before_and_nothing_is_written_for_it(
    prepared: Prepared,
    server: RuleServer,
    on_windows_of_a_run: tuple[RunFolder, Rescored],
    folder: RunFolder,
    tmp_path: Path,
) -> None:
    n_scored = sum(value is not None for value in scores_of(*on_windows_of_a_run[::-1]).values())
    n_asked = len(server.log.entries)
    source = of_list(prepared.table, windows=str(prepared.folder.path))
    kept, new = estimate_both(prepared.spec, folder, source)
    assert (kept.by_model["openai:rule-1"].n_requests, new) == (20 * n_scored, None)
    kept, new = estimate_both(replace(prepared.spec, explainer="openai:rule-1"), folder, source)
    assert new is not None
    assert new.by_model["openai:rule-1"].n_requests == 21 * n_scored
    own, _ = estimate_both(prepared.spec, prepared.folder, RescoreSource())
    assert own == kept
    published = RescoreSource(
        is_published=True, dataset=DATASET, source=str(tmp_path), archive=tmp_path / "a"
    )
    several, _ = estimate_both(replace(prepared.spec, neurons="7"), folder, published)
    assert several.by_model["openai:rule-1"].n_requests == 7 * 20
    assert len(server.log.entries) == n_asked
    assert not folder.path.exists()
    assert not (tmp_path / "a").exists()


def estimate_both(
    spec: RunSpec, folder: RunFolder, source: RescoreSource
) -> tuple[Estimate, Estimate | None]:
    found = estimate_rescore(spec, folder, source)
    return found.kept, found.new


def test_lists_of_published_neurons_are_scored_on_the_published_windows(
    server: RuleServer, folder: RunFolder, tmp_path: Path
) -> None:
    write_mirror(tmp_path / "mirror", scorable_documents())
    rows = [f"{i.layer_index},{i.neuron_index},the word {word_of(i)},0.5" for i in IDS[:3]]
    table = listing(tmp_path / "list.csv", HEAD, *rows)
    source = of_list(
        table, windows="published", dataset=DATASET, source=str(tmp_path / "mirror"),
        archive=tmp_path / "archive.sqlite",
    )  # fmt: skip
    listener = FakeListener()
    rescored = run_rescore(asking(server), folder, listener, source)
    assert set(scores_of(rescored, folder)) == set(IDS[:3])
    assert all((value or 0) > 0.8 for value in scores_of(rescored, folder).values())
    assert rescored.paired.label == "as listed (kind not said)"
    assert {mover.baseline_value for mover in rescored.paired.movers} == {0.5}
    noted = [note.text for note in listener.heard(Noted) if note.subject == "assumed"]
    assert noted == [
        f"3 explanations do not say their model: taken for {DATASET}",
        "3 explanations do not say their site: taken for mlp_post_act",
    ]


def test_the_best_of_several_explanations_is_scored_beside_its_own_listed_score(
    server: RuleServer, folder: RunFolder, tmp_path: Path
) -> None:
    write_mirror(tmp_path / "mirror", scorable_documents(IDS[:1]))
    at = f"{IDS[0].layer_index},{IDS[0].neuron_index}"
    right = f"the word {word_of(IDS[0])}"
    table = listing(
        tmp_path / "list.csv", HEAD, f"{at},the word umbrella,0.9", f'{at},"{right}",0.4',
        f'{at}," {right}.",0.3',
    )  # fmt: skip
    source = of_list(
        table, windows="published", dataset=DATASET, source=str(tmp_path / "mirror"),
        archive=tmp_path / "archive.sqlite",
    )  # fmt: skip
    rescored = run_rescore(asking(server), folder, ignore, source)
    (unit,) = rescored.compared[0].units
    assert (unit.text, unit.baseline_text, unit.baseline_value) == (right, right, 0.4)
    assert rescored.left_out[REPEATED] == 1
    with Results(folder.results, read_only=True) as results:
        texts = [text for text, _ in results.candidates(rescored.kept, IDS[0])]
    assert texts == [right, "the word umbrella"]


def test_scores_of_another_kind_are_shown_and_not_compared(
    prepared: Prepared, folder: RunFolder, tmp_path: Path
) -> None:
    rows = ({"layer": 0, "neuron": 3, "explanation": "x", "score": 0.8, "score_kind": "detection"},)
    write_lines(tmp_path / "list.jsonl", *rows)
    source = of_list(tmp_path / "list.jsonl", windows=str(prepared.folder.path))
    rescored = run_rescore(prepared.spec, folder, ignore, source)
    assert rescored.paired.label == "as listed (detection)"
    assert rescored.paired.movers == ()
    (unit,) = rescored.compared[0].units
    assert unit.baseline_value == 0.8


def test_what_cannot_be_scored_is_left_out_and_counted(
    prepared: Prepared, folder: RunFolder, tmp_path: Path
) -> None:
    listed = (
        {"model": "bundled", "site": "blocks.{layer}.mlp.hook_post", "polarity": None},
        {"polarity": "negative"},
        {"neuron": 41},
        {"model": "gpt2"},
        {"site": "res-jb"},
        {},
    )
    plain = {"layer": 0, "neuron": 3, "explanation": "a word"}
    write_lines(tmp_path / "list.jsonl", *(plain | one for one in listed))
    source = of_list(tmp_path / "list.jsonl", windows=str(prepared.folder.path))
    rescored = run_rescore(prepared.spec, folder, ignore, source)
    assert set(units_of(folder, rescored.kept)) == {NeuronId(0, 3)}
    assert rescored.left_out == {
        NEGATIVE: 1, NOT_THERE: 1, REPEATED: 1,
        "explanation of another model (gpt2)": 1, "explanation of another site (res-jb)": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"model": "gpt2-xl"}, "of the model gpt2-xl, the records of bundled"),
        ({"site": "res-jb"}, "of the site res-jb, the records of mlp_post_act"),
        ({"neuron": 41}, "no explanation is left to score"),
    ],
)
def test_a_list_of_something_else_is_refused_in_one_line(
    prepared: Prepared, folder: RunFolder, tmp_path: Path, line: dict[str, object], says: str
) -> None:
    plain: dict[str, object] = {"layer": 0, "neuron": 3, "explanation": "a word"}
    write_lines(tmp_path / "list.jsonl", plain | line)
    source = of_list(tmp_path / "list.jsonl", windows=str(prepared.folder.path))
    with pytest.raises(UsageError, match=says):
        run_rescore(prepared.spec, folder, ignore, source)


def test_lists_that_hold_nothing_or_are_damaged_and_runs_without_windows_are_refused(
    prepared: Prepared, folder: RunFolder, tmp_path: Path
) -> None:
    empty = listing(tmp_path / "empty.csv", HEAD)
    broken = listing(tmp_path / "broken.csv", HEAD, "0,three,x,0.5")
    for path, says in ((empty, "no explanation in"), (broken, "broken.csv")):
        with pytest.raises(UsageError, match=says):
            run_rescore(prepared.spec, folder, ignore, of_list(path))
    with pytest.raises(UsageError, match=r"no-list\.csv"):
        run_rescore(prepared.spec, folder, ignore, of_list(tmp_path / "no-list.csv"))
    nowhere = of_list(prepared.table, windows=str(tmp_path / "nowhere"))
    with pytest.raises(StoreError, match=r"no collection in .*nowhere"):
        run_rescore(prepared.spec, folder, ignore, nowhere)
    with pytest.raises(StoreError, match="no collection in"):
        run_rescore(prepared.spec, folder, ignore)
    assert not folder.path.exists()


def test_a_folder_with_windows_of_its_own_takes_no_others(
    prepared: Prepared, tmp_path: Path
) -> None:
    own = RunFolder(Path(shutil.copytree(prepared.folder.path, tmp_path / "own")))
    other = Path(shutil.copytree(prepared.folder.path, tmp_path / "other"))
    with pytest.raises(SpecMismatch, match="holds a collection of its own"):
        run_rescore(prepared.spec, own, ignore, of_list(prepared.table, windows=str(other)))
    rescored = run_rescore(
        replace(prepared.spec, neurons="0:3"), own, ignore,
        of_list(prepared.table, windows=str(own.path)),
    )  # fmt: skip
    assert set(units_of(own, rescored.kept)) == {NeuronId(0, 3)}


def test_published_explanations_are_scored_on_the_windows_of_a_run_over_the_same_model(
    prepared: Prepared, folder: RunFolder, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(prepared.folder.path, tmp_path / "other"))
    manifest = json.loads((other / "store/store.json").read_text("utf-8"))
    ids = [NeuronId(0, 3), NeuronId(1, 7)]
    write_mirror(tmp_path / "mirror", scorable_documents(ids))
    source = RescoreSource(
        is_published=True, dataset="gpt2-small", source=str(tmp_path / "mirror"),
        archive=tmp_path / "archive.sqlite", windows=str(other),
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"is over bundled, .* of gpt2-small"):
        run_rescore(prepared.spec, folder, ignore, source)
    manifest["subject"] = "openai-community/gpt2"
    (other / "store/store.json").write_text(json.dumps(manifest), encoding="utf-8")
    fresh = RunFolder(tmp_path / "fresh")
    rescored = run_rescore(replace(prepared.spec, neurons="0:3,1:7"), fresh, ignore, source)
    assert set(units_of(fresh, rescored.kept)) == set(ids)
    assert rescored.paired.label == "as published"
    assert open_records(fresh).read_neuron(ids[0]) == open_records(RunFolder(other)).read_neuron(
        ids[0]
    )


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"is_published": True, "imported": (Path("x.csv"),)}, "name two origins"),
        ({"is_published": True, "method": "token_lookup"}, "--method is one of a run's"),
        ({"windows": "runs/a"}, "goes with --published or --imported"),
        ({"is_published": True, "windows": "published"}, "by itself"),
        ({"dataset": "gpt2-xl"}, "go with --published"),
        ({"imported": (Path("x.csv"),), "is_offline": True}, "go with --published"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        RescoreSource(**flags)  # type: ignore[arg-type]
