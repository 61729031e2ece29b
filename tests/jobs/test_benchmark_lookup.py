"""The benchmark of look-ups times every step, on documents of the published shape."""

from __future__ import annotations

from pathlib import Path

from jobs.benchmark_lookup import measure
from jobs.made_dataset import MadeDataset
from neuron_explainer.published.documents import read_content
from neuron_explainer.published.locations import DATASETS, Kind, documents_of


def test_every_step_is_timed(tmp_path: Path) -> None:
    answer = measure(tmp_path / "a.sqlite", n_neurons=2, n_rounds=2, seed=0)
    steps = {"read five documents", "look_up", "look_up_many, a neuron"}
    assert answer["median_ms"].keys() == steps | {f"parse {kind}" for kind in Kind}
    assert all(ms > 0 for ms in answer["median_ms"].values())


def test_made_documents_read_back_equal_and_are_the_same_each_time() -> None:
    for which in documents_of(DATASETS["gpt2-xl"], [3], tuple(Kind), 2):
        made, again = MadeDataset(1), MadeDataset(1)
        reading = read_content(which, made.document(which))
        assert (reading.value, reading.left_out) == (again.content(which), {})
