"""A download that is killed again and again gets everything, and nothing twice."""

from __future__ import annotations

from pathlib import Path

from jobs.kill_downloads import measure
from jobs.made_dataset import MadeDataset
from neuron_explainer.published.downloads import N_AT_ONCE


def test_everything_is_there_after_kills(tmp_path: Path) -> None:
    made = MadeDataset(size=0.02)
    outcome = measure(tmp_path, n_layers=2, n_neurons=12, n_kills=2, made=made, seed=0)
    assert (outcome.n_kills, outcome.n_runs) == (2, 3)
    assert outcome.n_equal == outcome.n_documents == 2 * 12 * 5
    assert outcome.n_delivered_twice == 0
    assert outcome.n_delivered_again_after_a_kill <= 2 * N_AT_ONCE
    assert outcome.is_as_it_should_be
