"""A search of a run finds what the run says now, whatever it said before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from neuron_explainer.errors import StoreError
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.own_explanations import open_with_own
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import Score, ScoredSimulation
from neuron_explainer.stores.results import Results

UNITS = [NeuronId(0, 0), NeuronId(0, 1), NeuronId(2, 0)]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def write(folder: RunFolder, method: str, text: str, units: list[NeuronId] = UNITS) -> None:
    scores = {"all": Score("m", 0.5, 10)}
    with Results(folder.results) as results:
        results.use_method(method, {})
        for neuron_id in units:
            explanation = Explanation(neuron_id, text, method)
            scored = ScoredSimulation("simulation", "s", scores, (), "all")
            results.add_explained(method, explanation, scored)


def find(folder: RunFolder, words: str) -> set[NeuronId]:
    with open_with_own(folder) as library:
        return {hit.neuron_id for hit in library.search(words).hits}


def test_another_method_that_says_as_much_is_found_too(folder: RunFolder) -> None:
    write(folder, "one", "names of rivers")
    assert find(folder, "rivers") == set(UNITS)
    write(folder, "two", "days of the week")
    assert find(folder, "week") == set(UNITS)


def test_what_comes_later_is_found_and_what_is_there_is_read_once(folder: RunFolder) -> None:
    write(folder, "one", "names of rivers", UNITS[:1])
    assert find(folder, "rivers") == set(UNITS[:1])
    write(folder, "one", "names of rivers", UNITS[1:])
    assert find(folder, "rivers") == set(UNITS)
    times = folder.results.stat()
    folder.results.write_bytes(b"not read again")
    os.utime(folder.results, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert find(folder, "rivers") == set(UNITS)


def test_results_without_a_method_are_searched_in_vain(folder: RunFolder) -> None:
    with pytest.raises(StoreError, match="nothing to search"):
        find(folder, "rivers")
    Results(folder.results).close()
    assert find(folder, "rivers") == set()


def test_results_that_are_damaged_are_named(folder: RunFolder) -> None:
    write(folder, "one", "names of rivers")
    folder.results.write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="cannot be used as results"):
        find(folder, "rivers")
