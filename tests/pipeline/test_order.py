"""An order is a permutation: nobody is left out, and those that matter come first."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuron_explainer.errors import RecordFormatError, StoreError, UsageError
from neuron_explainer.pipeline.methods import check_method
from neuron_explainer.pipeline.order import order_neurons
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.records.neuron import NeuronId
from tests.pipeline.test_summary import UNITS

IDS = [unit.neuron_id for unit in UNITS]


def not_said(_neuron_id: NeuronId) -> float | None:
    """Of a store from before density was counted."""
    return None


def test_the_best_by_lookup_come_first_and_the_unscored_last() -> None:
    ordered = order_neurons("lookup", IDS[::-1], UNITS, not_said)
    assert [i.neuron_index for i in ordered] == [4, 3, 2, 1, 0, 5, 9, 8, 7]
    assert order_neurons("random", IDS, UNITS, not_said) == IDS


def test_the_sparsest_come_first_the_dead_last_and_ties_stay() -> None:
    density = dict(zip(IDS, [0.5, 0.0, 0.01, 0.5, 0.0, 1e-6, 1.0, 0.01, 0.2], strict=True))
    ordered = order_neurons("density", IDS, [], density.__getitem__)
    assert [density[i] for i in ordered] == [1e-6, 0.01, 0.01, 0.2, 0.5, 0.5, 1.0, 0.0, 0.0]
    places = [IDS.index(i) for i in ordered]
    assert places == [5, 2, 7, 8, 0, 3, 6, 1, 4]


def test_an_order_by_density_needs_records_that_say_it() -> None:
    with pytest.raises(StoreError, match="do not say how often a neuron is active; collect them"):
        order_neurons("density", IDS, [], not_said)


def test_listed_ones_come_first_as_listed(tmp_path: Path) -> None:
    path = tmp_path / "first.txt"
    path.write_text("1:3\n 0:7\n5:5\n")
    ordered = order_neurons(str(path), IDS, [], not_said)
    assert ordered[:2] == [NeuronId(1, 3), NeuronId(0, 7)]
    assert sorted(ordered) == sorted(IDS)
    assert ordered[2:] == [i for i in IDS if i not in ordered[:2]]


@pytest.mark.parametrize("text", [None, "1:3 x", "\u00e9"])
def test_what_is_no_order_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "first.txt"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    error = UsageError if text is None else RecordFormatError
    with pytest.raises(error, match=r"first\.txt"):
        order_neurons(str(path), IDS, [], not_said)
    with pytest.raises(error, match=r"first\.txt"):
        check_method(RunSpec(order=str(path)))


@pytest.mark.parametrize("order", ["random", "lookup", "density", "0:3,1:7"])
def test_what_is_an_order_passes_before_there_are_units(order: str) -> None:
    check_method(RunSpec(order=order))
