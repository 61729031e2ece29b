"""A whole run on a tiny model: complete, resumable to the same results, never mixed."""

from __future__ import annotations

import json
import math
import random
import shutil
import sqlite3
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neuron_explainer.errors import NeuronExplainerError, SpecMismatch, StoreError, UsageError
from neuron_explainer.pipeline import refreshing
from neuron_explainer.pipeline import run as run_module
from neuron_explainer.pipeline.events import (
    Event,
    ReportWritten,
    StageAdvanced,
    StageStarted,
    UnitExplained,
)
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.run import estimate_run, run, run_collect, run_explain
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import ScoredWindow
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.stores.results import Results
from tests.fakes import FakeListener
from tests.tiny_models import save_tiny_model
from tests.tiny_stores import files_digest

N_UNITS = 64
Everything = list[tuple[UnitResult, tuple[ScoredWindow, ...]]]


def make_spec(base: Path, **choices: Any) -> RunSpec:
    """Of a tiny model and a corpus, which are put there."""
    write_corpus(base / "corpus.jsonl", n_documents=250)
    tiny = RunSpec(
        model=str(save_tiny_model(base / "model", n_embd=8)), corpus=str(base / "corpus.jsonl"),
        device="cpu", n_tokens=12_000, n_ctx=16, n_boundary_windows=60, n_resamples=20,
    )  # fmt: skip
    return replace(tiny, **choices)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> RunSpec:
    return make_spec(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def finished(spec: RunSpec, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """An undisturbed run; it is never written to."""
    folder = RunFolder(tmp_path_factory.mktemp("undisturbed") / "run")
    run(spec, folder, FakeListener())
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


@pytest.fixture
def copy(finished: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(shutil.copytree(finished.path, tmp_path / "copy"))


def write_corpus(path: Path, n_documents: int) -> None:
    rng = random.Random(0)
    words = ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(1, 7))) for _ in range(60)]
    texts = (" ".join(rng.choices(words, k=rng.randint(3, 40))) for _ in range(n_documents))
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def everything(folder: RunFolder) -> Everything:
    """Every result of the current method, with its windows."""
    with Results(folder.results, read_only=True) as results:
        name = results.current_method()
        return [(unit, results.windows(name, unit.neuron_id)) for unit in results.units(name)]


def n_rows(folder: RunFolder) -> list[int]:
    connection = sqlite3.connect(folder.results)
    tables = ("explanations", "scores", "scored_windows")
    counts = [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]
    connection.close()
    return counts


def changed_times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_every_neuron_has_a_result_and_the_page_is_final(finished: RunFolder) -> None:
    units = [unit for unit, _ in everything(finished)]
    assert [unit.neuron_id for unit in units] == list(NeuronStore(finished.store).neuron_ids())
    assert len(units) == N_UNITS
    for unit in units:
        assert (unit.text is None) == (unit.reason is not None)
        assert unit.text is None or unit.score is not None
    assert sum(unit.score is not None and unit.score.value is not None for unit in units) > 32
    page = finished.report.read_text("utf-8")
    assert f"{N_UNITS} " in page
    assert "A first look" not in page
    assert "still being explained" not in page
    assert not finished.preview.path.exists()


def test_a_second_run_computes_nothing_again(spec: RunSpec, copy: RunFolder) -> None:
    before = files_digest(copy.store), changed_times(copy.store), n_rows(copy), everything(copy)
    page = copy.report.read_bytes()
    listener = FakeListener()
    run(spec, copy, listener)
    assert (
        files_digest(copy.store), changed_times(copy.store), n_rows(copy), everything(copy),
    ) == before  # fmt: skip
    assert copy.report.read_bytes() == page
    assert listener.heard(UnitExplained) == []
    assert [event.stage for event in listener.heard(StageStarted)] == ["baseline", "explain"]
    (written,) = listener.heard(ReportWritten)
    assert written.is_final


def test_the_same_spec_gives_the_same_results_in_another_folder(
    spec: RunSpec, finished: RunFolder, folder: RunFolder
) -> None:
    run(spec, folder, FakeListener())
    assert files_digest(folder.store) == files_digest(finished.store)
    assert everything(folder) == everything(finished)
    assert folder.report.read_bytes() == finished.report.read_bytes()


@pytest.mark.parametrize("n_before", [1, 40, N_UNITS])
def test_a_run_interrupted_while_explaining_goes_on_to_the_same_results(
    spec: RunSpec, finished: RunFolder, copy: RunFolder, n_before: int
) -> None:
    copy.results.unlink()
    listener = FakeListener(fail_at=(UnitExplained, n_before))
    with pytest.raises(KeyboardInterrupt):
        run(spec, copy, listener)
    assert len(everything(copy)) == n_before
    listener = FakeListener()
    run(spec, copy, listener)
    assert len(listener.heard(UnitExplained)) == N_UNITS - n_before
    assert everything(copy) == everything(finished)
    assert n_rows(copy) == n_rows(finished)
    assert copy.report.read_bytes() == finished.report.read_bytes()


@pytest.mark.parametrize(("stage", "nth"), [("tokenise", 30), ("collect", 5)])
def test_a_run_interrupted_while_collecting_goes_on_to_the_same_store(
    spec: RunSpec, finished: RunFolder, folder: RunFolder, stage: str, nth: int
) -> None:
    listener = FakeListener()

    def listen(event: Event) -> None:
        listener(event)
        advanced = [event for event in listener.heard(StageAdvanced) if event.stage == stage]
        if len(advanced) == nth:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_collect(spec, folder, listen)
    with pytest.raises(StoreError, match="no collection"):
        NeuronStore(folder.store)
    run_collect(spec, folder, FakeListener())
    assert files_digest(folder.store) == files_digest(finished.store)


def test_the_stages_one_by_one_give_what_they_give_together(
    spec: RunSpec, folder: RunFolder, tmp_path: Path
) -> None:
    seeded = replace(spec, seed=5, neurons="9")
    together = RunFolder(tmp_path / "together")
    run(seeded, together, FakeListener())
    run_collect(seeded, folder, FakeListener())
    assert not folder.results.exists()
    later = RunSpec(neurons="9", n_resamples=spec.n_resamples)  # the seed is the folder's
    run_explain(later, folder, FakeListener())
    assert everything(folder) == everything(together)
    assert folder.report.read_bytes() == together.report.read_bytes()


def test_some_neurons_first_and_then_all_give_what_all_at_once_give(
    spec: RunSpec, finished: RunFolder, copy: RunFolder
) -> None:
    copy.results.unlink()
    run(replace(spec, neurons="1:3,0:5"), copy, FakeListener())
    assert [unit.neuron_id for unit, _ in everything(copy)] == [NeuronId(0, 5), NeuronId(1, 3)]
    run(spec, copy, FakeListener())
    assert everything(copy) == everything(finished)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"seed": 1}, "seed was 0, now 1"),
        ({"n_tokens": 11_000}, "tokens was 12000, now 11000"),
        ({"layers": "1"}, r"layers was \[0, 1\], now \[1\]"),
        ({"dtype": "bfloat16"}, "dtype was float32, now bfloat16"),
    ],
)
def test_another_spec_is_refused_and_the_folder_stays_as_it_was(
    spec: RunSpec, finished: RunFolder, copy: RunFolder, changes: dict[str, object], difference: str
) -> None:
    with pytest.raises(SpecMismatch, match=difference):
        run(replace(spec, **changes), copy, FakeListener())
    assert files_digest(copy.store) == files_digest(finished.store)
    assert everything(copy) == everything(finished)


def test_other_text_or_weights_behind_the_same_names_are_refused(
    spec: RunSpec, copy: RunFolder, tmp_path: Path
) -> None:
    write_corpus(tmp_path / "other.jsonl", n_documents=249)
    with pytest.raises(SpecMismatch, match="corpus was"):
        run(replace(spec, corpus=str(tmp_path / "other.jsonl")), copy, FakeListener())
    model = save_tiny_model(tmp_path / "model", n_embd=8, seed=1)
    with pytest.raises(SpecMismatch, match="model-content was"):
        run(replace(spec, model=str(model)), copy, FakeListener())


def test_the_same_text_at_another_path_is_the_same_run(
    spec: RunSpec, finished: RunFolder, copy: RunFolder, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere" / "corpus.jsonl"
    moved.parent.mkdir()
    shutil.copy(spec.corpus, moved)
    run(replace(spec, corpus=str(moved)), copy, FakeListener())
    assert everything(copy) == everything(finished)


def test_another_method_is_added_to_the_folder(
    spec: RunSpec, finished: RunFolder, copy: RunFolder
) -> None:
    run(replace(spec, n_per_split=4), copy, FakeListener())
    assert n_rows(copy)[0] == 2 * n_rows(finished)[0]
    assert len(everything(copy)) == N_UNITS
    run(spec, copy, FakeListener())  # the first method again: its results, and its page
    assert n_rows(copy)[0] == 2 * n_rows(finished)[0]
    assert everything(copy) == everything(finished)
    assert copy.report.read_bytes() == finished.report.read_bytes()


def test_a_cleared_folder_is_filled_anew_beside_what_is_not_the_runs(
    spec: RunSpec, finished: RunFolder, copy: RunFolder
) -> None:
    (copy.path / "notes.md").write_text("mine")
    copy.clear()
    assert {path.name for path in copy.path.iterdir()} == {".lock", "notes.md"}
    run(spec, copy, FakeListener())
    assert everything(copy) == everything(finished)
    assert (copy.path / "notes.md").read_text() == "mine"


def test_windows_longer_than_the_model_reads_are_refused(spec: RunSpec, folder: RunFolder) -> None:
    with pytest.raises(UsageError, match=r"--n-ctx 65: .* reads at most 64 tokens"):
        run(replace(spec, n_ctx=65), folder, FakeListener())
    assert folder.read_choices() is None


def test_a_large_run_shows_a_first_page_and_comes_to_the_same_results(
    spec: RunSpec, finished: RunFolder, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "PREVIEW_TOKENS", (5000, 5000))
    monkeypatch.setattr(run_module, "PREVIEW_NEURONS", 9)
    pages: list[str] = []

    def listen(event: Event) -> None:
        listener(event)
        if isinstance(event, ReportWritten):
            pages.append(folder.report.read_text("utf-8"))

    listener = FakeListener()
    run(spec, folder, listen)
    written = listener.heard(ReportWritten)
    assert [(event.is_preview, event.is_final) for event in written] == [
        (True, False),
        (False, False),
        (False, True),
    ]
    assert "A first look, from 5,000 of 12,000 tokens" in pages[0]
    assert "9 chosen neurons of 2 layers" in pages[0]  # no more is recorded for it
    assert "Patterns are being found" in pages[1]
    assert pages[2] == finished.report.read_text("utf-8")
    previews = [event for event in listener.heard(UnitExplained) if event.is_preview]
    assert len(previews) == 9
    assert listener.events.index(previews[-1]) < listener.events.index(written[0])
    assert everything(folder) == everything(finished)
    assert not folder.preview.path.exists()


def test_a_preview_of_long_documents_has_text_for_both_parts(
    spec: RunSpec, folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "PREVIEW_TOKENS", (2000, 2000))
    rng = random.Random(0)
    texts = (" ".join(f"{rng.random()}" for _ in range(150)) for _ in range(40))  # ~2,900 tokens
    corpus = tmp_path / "long.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    listener = FakeListener()
    run(replace(spec, corpus=str(corpus), neurons="3"), folder, listener)
    assert [event.is_preview for event in listener.heard(ReportWritten)] == [True, False, False]


def test_the_page_is_rewritten_while_neurons_are_explained(
    spec: RunSpec, copy: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refreshing, "EVERY_S", 0.0)
    monkeypatch.setattr(refreshing, "MAX_SHARE", math.inf)
    copy.results.unlink()
    listener = FakeListener()
    run(replace(spec, neurons="0:0,0:1,0:2"), copy, listener)
    assert [event.is_final for event in listener.heard(ReportWritten)] == [False] * 3 + [True]
    assert "still being explained" not in copy.report.read_text("utf-8")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"layers": "9"}, "the model has layers"),
        ({"neurons": "9:9"}, "no neuron 9:9"),
        ({"neurons": "many"}, "write a number"),
        ({"corpus": "absent.jsonl"}, "absent"),
        ({"n_per_split": 6}, "--top-k 20 is too few for --n-per-split 6"),
    ],
)
def test_a_fresh_run_that_cannot_start_leaves_the_old_one(
    spec: RunSpec, finished: RunFolder, copy: RunFolder, changes: dict[str, str], says: str
) -> None:
    with pytest.raises(NeuronExplainerError, match=says):
        run(replace(spec, **changes), RunFolder(copy.path, fresh=True), FakeListener())
    assert everything(copy) == everything(finished)


def test_a_fresh_run_replaces_the_old_one(spec: RunSpec, copy: RunFolder) -> None:
    run(replace(spec, seed=3), RunFolder(copy.path, fresh=True), FakeListener())
    choices = copy.read_choices()
    assert choices is not None
    assert choices["seed"] == 3
    assert len(everything(copy)) == N_UNITS


@pytest.mark.parametrize(
    "changes",
    [{"seed": -1}, {"n_resamples": -4}, {"token_means_gb": float("nan")}, {"token_means_gb": -1.0}],
)
def test_choices_that_cannot_be_meant_are_refused(spec: RunSpec, changes: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        replace(spec, **changes)


@pytest.mark.parametrize("explainer", ["patterns", "token_lookup"])
def test_evidence_without_a_reader_is_refused_before_anything_starts(
    spec: RunSpec, tmp_path: Path, explainer: str
) -> None:
    asked = replace(spec, explainer=explainer, evidence="patterns")
    for start in (run, run_collect, run_explain):
        with pytest.raises(UsageError, match="--explainer openai:MODEL"):
            start(asked, RunFolder(tmp_path / "run"), FakeListener())
    with pytest.raises(UsageError, match="--explainer openai:MODEL"):
        estimate_run(asked, RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run" / "store").exists()
