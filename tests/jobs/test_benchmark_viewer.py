"""The benchmark of the viewer makes a run of a size and asks for every kind of page."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from jobs.benchmark_search import made_texts
from jobs.benchmark_viewer import measure
from jobs.made_run import METHODS, MadeRun
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.stores.results import Results

N_LAYERS, N_UNITS = 3, 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "run"
    texts = made_texts(random.Random(0), n_texts=50, n_words=100)
    MadeRun(N_LAYERS, N_UNITS, n_different_layers=2).write(RunFolder(path), texts)
    return path


def test_every_kind_of_page_is_timed(folder: Path) -> None:
    answer = measure(folder, n_requests=16, n_clients=4, seed=0)
    assert answer.n_units == N_LAYERS * N_UNITS
    assert {*answer.requests} == {"home", "unit page", "search", "table", "csv head"}
    for times in answer.requests.values():
        assert times.n_requests == 16
        assert 0 < times.median_ms <= times.p99_ms <= times.worst_ms
        assert times.median_kb > 0
    assert 0 < answer.start_s < 60


def test_a_made_run_is_whole(folder: Path) -> None:
    """All units have a record; each method has said something of each, with a reason if not."""
    store = NeuronStore(folder / "store")
    for neuron_id in (NeuronId(0, 0), NeuronId(N_LAYERS - 1, N_UNITS - 1)):
        record = store.read_neuron(neuron_id)
        assert len(record.top) == 20
        assert len(record.strata) == 5
    with Results(folder / "results.sqlite", read_only=True) as results:
        assert len(results.method_uses()) == len(METHODS)
        for use in results.method_uses():
            tally = results.tally(use.fingerprint)
            assert tally.n_units == N_LAYERS * N_UNITS
            assert tally.n_scored + sum(tally.unscored.values()) == tally.n_units


def test_a_made_run_is_the_same_for_the_same_seed(folder: Path, tmp_path: Path) -> None:
    texts = made_texts(random.Random(0), n_texts=50, n_words=100)
    MadeRun(N_LAYERS, N_UNITS, n_different_layers=2).write(RunFolder(tmp_path / "again"), texts)
    assert scores_of(tmp_path / "again") == scores_of(folder)


def scores_of(folder: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / "results.sqlite")) as file:
        return file.execute("SELECT * FROM scores ORDER BY explanation_id, name").fetchall()
