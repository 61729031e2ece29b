"""An order is a permutation: nobody is left out, and those that matter come first."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuron_explainer.errors import UsageError
from neuron_explainer.pipeline.order import order_neurons
from neuron_explainer.records.neuron import NeuronId
from tests.pipeline.test_summary import UNITS

IDS = [unit.neuron_id for unit in UNITS]


def test_the_best_by_lookup_come_first_and_the_unscored_last() -> None:
    ordered = order_neurons("lookup", IDS[::-1], UNITS)
    assert [i.neuron_index for i in ordered] == [4, 3, 2, 1, 0, 5, 9, 8, 7]
    assert order_neurons("random", IDS, UNITS) == IDS


def test_listed_ones_come_first_as_listed(tmp_path: Path) -> None:
    path = tmp_path / "first.txt"
    path.write_text("1:3\n 0:7\n5:5\n")
    ordered = order_neurons(str(path), IDS, [])
    assert ordered[:2] == [NeuronId(1, 3), NeuronId(0, 7)]
    assert sorted(ordered) == sorted(IDS)
    assert ordered[2:] == [i for i in IDS if i not in ordered[:2]]


@pytest.mark.parametrize("text", [None, "1:3 x", "\u00e9"])
def test_what_is_no_order_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "first.txt"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError):
        order_neurons(str(path), IDS, [])
