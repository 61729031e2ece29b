"""A run read in a few lines: a neuron that shows itself, scores as a frame."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import neuron_explainer
from neuron_explainer.errors import StoreError, UnitNotFound, UsageError
from neuron_explainer.records.neuron import ActivationRecord
from neuron_explainer.records.patterns import Pattern
from neuron_explainer.stores.results import Results
from tests.page import Page


def test_a_frame_has_a_row_a_neuron_with_the_scores_of_the_results(finished_run: Path) -> None:
    run = neuron_explainer.open_run(finished_run)
    frame = run.scores()
    assert isinstance(frame, pd.DataFrame)
    units = list(run.results())
    assert len(frame) == len(units) == 6
    for row, unit in zip(frame.itertuples(), units, strict=True):
        assert (row.layer, row.neuron) == (unit.neuron_id.layer_index, unit.neuron_id.neuron_index)
        assert row.explanation == unit.text
        value = unit.score and unit.score.value
        assert pd.isna(row.score) if value is None else row.score == value
        assert (row.reason is None or pd.isna(row.reason)) == (unit.unscored_reason is None)


def test_a_neuron_is_found_by_the_numbers_of_a_frame(finished_run: Path) -> None:
    run = neuron_explainer.open_run(finished_run)
    best = run.scores().sort_values("score", ascending=False).iloc[0]
    mixed = run.scores()[["layer", "neuron", "score"]].loc[best.name]
    assert mixed.layer.dtype == float
    for layer, neuron in ((best.layer, best.neuron), (mixed.layer, mixed.neuron)):
        assert run.neuron(layer, neuron).explanation == best.explanation
    with pytest.raises(UsageError, match="whole numbers"):
        run.neuron("0", 1)


def test_a_run_and_a_neuron_are_short_where_they_are_printed(finished_run: Path) -> None:
    run = neuron_explainer.open_run(finished_run)
    neuron = run.neuron(0, 1)
    assert repr(run) == f"Run({str(finished_run)!r})"
    assert repr(neuron).startswith("Neuron(0:1, ")
    assert len(repr(neuron)) < 200


def test_a_neuron_shows_its_words_and_its_text(finished_run: Path) -> None:
    run = neuron_explainer.open_run(finished_run)
    unit = next(unit for unit in run.results() if unit.text)
    neuron = run.neuron(unit.neuron_id.layer_index, unit.neuron_id.neuron_index)
    assert (neuron.explanation, neuron.score) == (unit.text, unit.score and unit.score.value)
    page = Page(neuron._repr_html_())
    assert unit.text in page.text
    for token in neuron.record.top[0].tokens:
        assert token.strip() in page.text
    shares = [float(x) for x in re.findall(r"rgba\([0-9, ]+, ([0-9.]+)\)", neuron._repr_html_())]
    assert max(shares) == 1.0
    assert min(shares) == 0.0


def test_nothing_in_a_corpus_runs_in_a_notebook(finished_run: Path) -> None:
    neuron = neuron_explainer.open_run(finished_run).neuron(0, 0)
    hostile = ActivationRecord(("<script>alert(1)</script>", '"><img src=x>'), (1.0, None))
    record = replace(neuron.record, top=(hostile,))
    pattern = Pattern((frozenset(hostile.tokens), None), 1.0, 1, 0.5, 1.0, hostile.tokens)
    shown = replace(neuron, record=record, result=None, patterns=(pattern,))
    page = Page(shown._repr_html_())
    assert {name for name, _ in page.tags} <= {"b", "br", "code", "div", "i", "span"}
    assert page.text.count("<script>") == 2


def test_a_neuron_has_the_patterns_behind_its_words(finished_run: Path) -> None:
    run = neuron_explainer.open_run(finished_run)
    neurons = [
        run.neuron(unit.neuron_id.layer_index, unit.neuron_id.neuron_index)
        for unit in run.results()
        if unit.text
    ]
    assert any(neuron.patterns for neuron in neurons)
    for neuron in neurons:
        text = Page(neuron._repr_html_()).text
        assert text.count("of the activation") == len(neuron.patterns)
        shares = [pattern.share for pattern in neuron.patterns]
        assert shares == sorted(shares, reverse=True)


def test_what_is_not_there_is_said(finished_run: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        neuron_explainer.open_run(tmp_path)
    run = neuron_explainer.open_run(finished_run)
    with pytest.raises(UnitNotFound):
        run.neuron(99, 0)
    shutil.copytree(finished_run / "store", tmp_path / "collected/store")
    collected = neuron_explainer.open_run(tmp_path / "collected")
    assert collected.neuron(0, 1).explanation is None
    with pytest.raises(StoreError, match="run `explain` first"):
        collected.scores()


def test_a_run_is_read_while_another_process_writes(finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    run = neuron_explainer.open_run(tmp_path / "run")
    n_before = len(run.scores())
    with Results(tmp_path / "run/results.sqlite") as results:
        results.use_method("another", {})
        assert len(run.scores()) == 0 != n_before
