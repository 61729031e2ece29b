"""Published explanations are scored anew on the published windows, beside their published scores.

The server answers by rule: it explains by the strongest tokens it is shown, and simulates high
values where the explanation's words stand.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import pytest

from neuron_explainer.errors import SpecMismatch, StoreError, UnitNotFound, UsageError
from neuron_explainer.notebook import open_run
from neuron_explainer.pipeline.events import StageFinished, UnitExplained, ignore
from neuron_explainer.pipeline.export import ExportFormat, export_run
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.records import open_records
from neuron_explainer.pipeline.rescore import Rescored, run_rescore
from neuron_explainer.pipeline.rescore_source import RescoreSource
from neuron_explainer.pipeline.run import estimate_run, report, run_explain
from neuron_explainer.pipeline.run_lookup import run_lookup
from neuron_explainer.pipeline.run_state import check_run
from neuron_explainer.pipeline.summary import summarize_method
from neuron_explainer.published.locations import DocumentId, Kind
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import TOP_AND_RANDOM
from neuron_explainer.records.splits import Split, split_records
from neuron_explainer.stores.comparison import TIE
from neuron_explainer.stores.results import Results
from tests.fakes import FakeListener
from tests.llm.rule_options import ServerOptions
from tests.llm.rule_server import RuleServer, rule_server
from tests.pipeline.rescoring import asking, everything, units_of, value_of
from tests.published.mirror import Reply, mirror_server, write_mirror
from tests.published.scorable import (
    DATASET,
    IDS,
    PUBLISHED_SCORE,
    scorable_documents,
    word_of,
)

NEURONS = ",".join(map(str, IDS))
WRONG = (IDS[0], IDS[4])
NOWHERE = NeuronId(11, 20)


class Finished(NamedTuple):
    """A rescoring with a new explainer, which is never written to."""

    folder: RunFolder
    rescored: Rescored
    source: RescoreSource


@pytest.fixture(scope="module")
def server() -> Iterator[RuleServer]:
    with rule_server(ServerOptions()) as server:
        yield server


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("mirror")
    write_mirror(folder, scorable_documents(wrong=WRONG))
    return str(folder)


@pytest.fixture(scope="module")
def finished(server: RuleServer, mirror: str, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    path = tmp_path_factory.mktemp("finished")
    folder, source = RunFolder(path / "run"), published(mirror, path)
    spec = asking(server, neurons=NEURONS, explainer="openai:rule-1")
    return Finished(folder, run_rescore(spec, folder, ignore, source), source)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def published(mirror: str, tmp_path: Path, **more: object) -> RescoreSource:
    choices = {"dataset": DATASET, "archive": tmp_path / "archive.sqlite", **more}
    return RescoreSource(is_published=True, source=mirror, **choices)  # type: ignore[arg-type]


def test_kept_explanations_are_scored_on_the_published_splits_beside_their_published_scores(
    finished: Finished,
) -> None:
    folder, rescored, _ = finished
    records = open_records(folder)
    kept = units_of(folder, rescored.kept)
    assert set(kept) == set(IDS)
    _, now_against_published = rescored.compared
    with Results(folder.results, read_only=True) as results:
        for neuron_id in IDS:
            valid = split_records(records.read_neuron(neuron_id), Split.VALID)
            word = "umbrella" if neuron_id in WRONG else word_of(neuron_id)
            assert kept[neuron_id].text == f"the word {word}."  # without the space before it
            for method in (rescored.kept, now_against_published.before.fingerprint):
                windows = results.windows(method, neuron_id)
                scored = [(w.simulation.tokens, w.true_activations) for w in windows]
                assert scored == [(w.tokens, w.activations) for w in (*valid.top, *valid.random)]
    for unit in now_against_published.units:
        assert unit.baseline_value == PUBLISHED_SCORE
        if unit.neuron_id in WRONG:  # its word is nowhere
            assert (unit.value, unit.reason) == (None, "constant prediction")
        else:
            assert unit.value is not None
            assert unit.value > 0.8


def test_the_paired_table_is_that_of_a_computation_by_hand(finished: Finished) -> None:
    folder, rescored, _ = finished
    assert rescored.new is not None
    new_against_kept, now_against_published = rescored.compared
    assert new_against_kept.paired.label == "kept explanations"
    assert now_against_published.paired.label == "as published"
    new, kept = units_of(folder, rescored.new), units_of(folder, rescored.kept)
    pairs = {}
    for neuron_id in IDS:
        mine, its = value_of(new[neuron_id]), value_of(kept[neuron_id])
        if mine is not None and its is not None:
            pairs[neuron_id] = (mine, its)
    assert set(pairs) == set(IDS) - set(WRONG)
    compared = new_against_kept.paired.compare()
    assert compared is not None
    differences = [mine - its for mine, its in pairs.values()]
    assert compared.n_units == len(pairs)
    assert compared.mean == pytest.approx(sum(mine for mine, _ in pairs.values()) / len(pairs))
    assert compared.difference == pytest.approx(sum(differences) / len(pairs))
    assert compared.n_same == sum(abs(d) < TIE for d in differences)
    for layer, found in new_against_kept.paired.by_layer().items():
        of_layer = [m - i for n, (m, i) in pairs.items() if n.layer_index == layer]
        assert found.difference == pytest.approx(sum(of_layer) / len(of_layer))
    assert new_against_kept.paired.left_out == {"kept explanations: constant prediction": 2}


def test_each_side_says_what_made_it(finished: Finished) -> None:
    folder, rescored, _ = finished
    new_against_kept, now_against_published = rescored.compared
    assert new_against_kept.now.made_by == ("token_activation by openai:rule-1",)
    assert new_against_kept.now.prompt_versions == ("token_activation/1",)
    assert new_against_kept.before.made_by == now_against_published.before.made_by == ("published",)
    assert new_against_kept.before == now_against_published.now
    assert now_against_published.before.simulators == ("published",)
    assert now_against_published.now.simulators == ("structured openai:rule-1",)
    assert now_against_published.now.scorers == ("simulation",)
    by_id = {unit.neuron_id: unit for unit in new_against_kept.units}
    assert by_id[WRONG[0]].baseline_text == "the word umbrella."
    assert by_id[WRONG[0]].baseline_reason == "constant prediction"
    new = units_of(folder, rescored.new or "")
    assert new_against_kept.as_json()["units"][0]["text"] == new[IDS[0]].text


def test_a_rescoring_without_a_score_says_why(
    server: RuleServer, finished: Finished, folder: RunFolder
) -> None:
    assert finished.rescored.why_nothing is None
    rescored = run_rescore(asking(server, neurons=str(WRONG[0])), folder, ignore, finished.source)
    assert rescored.why_nothing == "constant prediction 1"
    own = run_rescore(asking(server, neurons=str(NOWHERE)), folder, ignore)
    assert own.why_nothing == "no explanation to keep 1"


def test_the_units_that_moved_most_are_told_to_a_program(finished: Finished) -> None:
    _, now_against_published = finished.rescored.compared
    plain = now_against_published.as_json()
    gains = now_against_published.paired.gains(99)
    assert [one["neuron_id"] for one in plain["gains"]] == [asdict(m.neuron_id) for m in gains]
    assert plain["gains"][0]["difference"] == pytest.approx(gains[0].value - PUBLISHED_SCORE)
    assert plain["losses"] == []


def test_the_same_command_again_asks_nothing_and_says_the_same(
    server: RuleServer, folder: RunFolder, tmp_path: Path
) -> None:
    spec = asking(server, neurons=NEURONS, explainer="openai:rule-1")
    with mirror_server(scorable_documents()) as mirror:
        source = published(mirror.address, tmp_path)
        first = run_rescore(spec, folder, ignore, source)
        before = everything(folder)
        n_asked, n_fetched = len(server.log.entries), mirror.asked.total()
        assert n_fetched == 2 * len(IDS)  # explanations and records, of just these
        again = run_rescore(spec, folder, ignore, source)
        assert again == first
        assert mirror.asked.total() == n_fetched
        assert [e for e in server.log.entries[n_asked:] if e.usage is not None] == []
    assert everything(folder) == before
    offline = published(mirror.address, tmp_path, is_offline=True)
    assert run_rescore(spec, folder, ignore, offline) == first


def test_a_stopped_rescoring_goes_on_to_the_same_results(
    server: RuleServer, finished: Finished, folder: RunFolder
) -> None:
    spec = asking(server, neurons=NEURONS, explainer="openai:rule-1")
    source = finished.source
    for n_heard in (3, 6):
        with pytest.raises(KeyboardInterrupt):
            run_rescore(spec, folder, FakeListener((UnitExplained, n_heard)), source)
    assert run_rescore(spec, folder, ignore, source) == finished.rescored
    assert everything(folder) == everything(finished.folder)


def test_the_same_seed_and_number_choose_the_same_units_of_the_whole_model(
    server: RuleServer, folder: RunFolder, tmp_path: Path
) -> None:
    everyone = [NeuronId(layer, unit) for layer in range(12) for unit in range(3072)]
    random.Random(3).shuffle(everyone)
    with mirror_server(scorable_documents(everyone[:2])) as mirror:
        spec = asking(server, neurons="2", seed=3)
        run_rescore(spec, folder, ignore, published(mirror.address, tmp_path))
        wanted = {
            DocumentId(DATASET, kind, neuron_id).path
            for neuron_id in everyone[:2]
            for kind in (Kind.EXPLANATIONS, Kind.ACTIVATIONS)
        }
        assert set(mirror.asked) == wanted


def test_units_can_be_named_in_a_file(
    server: RuleServer, mirror: str, folder: RunFolder, tmp_path: Path
) -> None:
    (tmp_path / "neurons.txt").write_text(f"{IDS[1]}\n{IDS[2]}\n")
    spec = asking(server, neurons=str(tmp_path / "neurons.txt"))
    rescored = run_rescore(spec, folder, ignore, published(mirror, tmp_path))
    assert set(units_of(folder, rescored.kept)) == {IDS[1], IDS[2]}


def test_what_is_absent_or_cannot_be_had_is_a_reason_and_never_the_end(
    server: RuleServer, folder: RunFolder, tmp_path: Path
) -> None:
    documents = scorable_documents(IDS[:4])
    del documents[DocumentId(DATASET, Kind.EXPLANATIONS, IDS[1]).path]
    del documents[DocumentId(DATASET, Kind.ACTIVATIONS, IDS[2]).path]
    broken = DocumentId(DATASET, Kind.ACTIVATIONS, IDS[3]).path

    def refuse(path: str, _n_before: int) -> Reply | None:
        return Reply(403) if path == broken else None

    spec = asking(server, neurons=",".join(map(str, IDS[:4])), explainer="openai:rule-1")
    listener = FakeListener()
    with mirror_server(documents, refuse) as mirror:
        rescored = run_rescore(spec, folder, listener, published(mirror.address, tmp_path))
    fetched = next(e for e in listener.heard(StageFinished) if e.stage == "fetch")
    assert "1 failed (HTTP 403: 1)" in fetched.summary
    assert rescored.left_out["not fetched"] == 1
    assert "no published record" not in rescored.left_out  # the unit's own result says so
    kept, new = units_of(folder, rescored.kept), units_of(folder, rescored.new or "")
    assert IDS[3] not in kept  # it is tried again the next time
    assert kept[IDS[1]].reason == "no explanation to keep"
    assert new[IDS[1]].text is not None
    assert value_of(new[IDS[1]]) is not None
    assert (kept[IDS[2]].reason or "").startswith("no published record")
    with mirror_server(documents | scorable_documents(IDS[3:4])) as mirror:
        source = published(mirror.address, tmp_path)
        with pytest.raises(SpecMismatch, match="use --run with another folder"):
            run_rescore(spec, folder, ignore, source)  # of another source


def test_a_damaged_archive_leaves_out_the_damaged_units_alone(
    server: RuleServer, finished: Finished, folder: RunFolder, tmp_path: Path
) -> None:
    assert finished.source.archive is not None
    archive = tmp_path / "archive.sqlite"
    shutil.copy(finished.source.archive, archive)
    connection = sqlite3.connect(archive)
    with connection:
        connection.execute(
            "UPDATE documents SET document = x'00' WHERE layer_index = ? AND neuron_index = ?",
            (IDS[1].layer_index, IDS[1].neuron_index),
        )
    connection.close()
    spec = asking(server, neurons=f"{IDS[1]},{IDS[2]}")
    source = replace(finished.source, archive=archive, is_offline=True)
    rescored = run_rescore(spec, folder, ignore, source)
    assert rescored.left_out["damaged in the archive"] == 1
    assert set(units_of(folder, rescored.kept)) == {IDS[2]}


def test_nothing_to_work_on_is_said_in_one_line(
    server: RuleServer, mirror: str, folder: RunFolder, tmp_path: Path
) -> None:
    offline = published(mirror, tmp_path, is_offline=True)
    spec = asking(server, neurons=NEURONS)
    with pytest.raises(StoreError, match=r"no archive .*archive.sqlite"):
        run_rescore(spec, folder, ignore, offline)
    with pytest.raises(UnitNotFound, match="12:0"):
        run_rescore(asking(server, neurons="12:0"), folder, ignore, published(mirror, tmp_path))
    with pytest.raises(UsageError, match="--explainer-prompt token_space"):
        run_rescore(
            asking(server, neurons=NEURONS, explainer="openai:rule-1",
                   explainer_prompt="token_space"),
            folder, ignore, published(mirror, tmp_path),
        )  # fmt: skip
    with pytest.raises(UsageError, match="no published dataset 'gpt3'"):
        source = published(mirror, tmp_path, dataset="gpt3")
        run_rescore(spec, folder, ignore, source)


def test_every_reader_opens_such_a_folder(finished: Finished, tmp_path: Path) -> None:
    folder = RunFolder(Path(shutil.copytree(finished.folder.path, tmp_path / "run")))
    new = units_of(folder, finished.rescored.new or "")
    assert open_run(folder.path).neuron(9, 1).explanation == new[NeuronId(9, 1)].text
    folder.report.unlink()
    report(folder)
    page = folder.report.read_text("utf-8")
    assert DATASET in page
    assert "kept explanations" in page
    exported = export_run(folder, tmp_path / "export", ExportFormat.OPENAI)
    assert exported.n_explanations == len(IDS)
    for neuron_id in IDS:  # a mirror of the published dataset, in the folder of its model
        found = run_lookup(
            DATASET, neuron_id, source=str(tmp_path / "export"), archive=tmp_path / "a.sqlite"
        )
        assert found.record is not None
        assert found.results is not None
        assert found.results.explanations[0].text == new[neuron_id].text
    checks = {check.name: check for check in check_run(folder)}
    assert {check.status for check in checks.values()} == {"ok"}
    assert DATASET in checks["records"].found
    with Results(folder.results, read_only=True) as results:
        assert summarize_method(results).overall.n_scored == len(IDS)


def test_explain_goes_on_over_published_records_without_a_lookup_table(
    server: RuleServer, mirror: str, folder: RunFolder, tmp_path: Path
) -> None:
    run_rescore(asking(server, neurons=str(IDS[0])), folder, ignore, published(mirror, tmp_path))
    with pytest.raises(UsageError, match="--explainer token_lookup"):
        lookup_only = asking(server, explainer="token_lookup", simulator="token_lookup")
        run_explain(lookup_only, folder, ignore)
    with pytest.raises(UsageError, match="--explainer patterns reads"):
        run_explain(asking(server, simulator="auto"), folder, ignore)
    more = f"{IDS[0]},{IDS[1]},{NOWHERE}"
    spec = asking(server, neurons=more, explainer="openai:rule-1", explainer_prompt="summary")
    assert estimate_run(spec, folder).n_units == 3  # it fetches nothing
    run_explain(spec, folder, ignore)
    with Results(folder.results, read_only=True) as results:
        method = results.current_method()
        assert "baseline" not in results.choices(method)
    units = units_of(folder, method)
    assert {i for i, unit in units.items() if value_of(unit) is not None} == {IDS[0], IDS[1]}
    assert (units[NOWHERE].reason or "").startswith("no published record")
    assert units[IDS[1]].headline == TOP_AND_RANDOM
