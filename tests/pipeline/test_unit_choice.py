"""Which units `--units` and `--neurons` mean, and what is said of those that there are not."""

from __future__ import annotations

import random
from pathlib import Path

import pandas as pd
import pytest

from neuron_explainer.errors import NeuronExplainerError, UnitNotFound, UsageError
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.pipeline.unit_choice import (
    choose_neurons,
    count_neurons,
    count_wanted,
    names_neurons,
    read_named,
    resolve_units,
)
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.units import Units
from tests.tiny_models import tiny_subject

COLLECTED = Units((1, 3), 50)
SOME = Units.choose([NeuronId(0, 7), NeuronId(3, 1), NeuronId(3, 40)], 50)
LISTED = [NeuronId(3, 2), NeuronId(1, 0)]


def test_all_neurons_are_chosen_once_in_an_order_that_mixes_the_layers() -> None:
    chosen = choose_neurons(None, COLLECTED, seed=0)
    assert sorted(chosen) == [NeuronId(layer, unit) for layer in (1, 3) for unit in range(50)]
    assert {neuron_id.layer_index for neuron_id in chosen[:10]} == {1, 3}


def test_a_seed_means_the_same_neurons_for_ever() -> None:
    everyone = [NeuronId(layer, unit) for layer in (1, 3) for unit in range(50)]
    random.Random(5).shuffle(everyone)
    assert choose_neurons("20", COLLECTED, seed=5) == everyone[:20]


def test_a_larger_sample_begins_with_the_smaller_one() -> None:
    everyone = choose_neurons(None, COLLECTED, seed=0)
    for n in (1, 7, 100, 1000):
        assert choose_neurons(f" {n} ", COLLECTED, seed=0) == everyone[:n]
    assert choose_neurons("7", COLLECTED, seed=1) != everyone[:7]


def test_of_a_part_of_a_collection_only_what_is_there_is_chosen() -> None:
    assert sorted(choose_neurons("100", SOME, seed=0)) == list(SOME)
    assert choose_neurons("3:40,0:7", SOME, seed=0) == [NeuronId(3, 40), NeuronId(0, 7)]


def write_list(path: Path) -> str:
    frame = pd.DataFrame({"layer": [3, 1, 3], "neuron": [2, 0, 2]})
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        path.write_text("3:2\n1:0\n3:2\n")
    return str(path)


@pytest.mark.parametrize("name", [None, "a.csv", "a.parquet", "a.txt", "a"])
def test_listed_neurons_come_as_listed_and_once(tmp_path: Path, name: str | None) -> None:
    text = "3:2, 1:0,3:2," if name is None else write_list(tmp_path / name)
    assert read_named(text, "--units") == LISTED
    assert choose_neurons(text, COLLECTED, seed=0) == LISTED
    assert count_neurons(text) == 2
    assert names_neurons(text)
    assert resolve_units(RunSpec(units=text), tiny_subject(n_layer=4)) == Units.choose(LISTED, 64)


@pytest.mark.parametrize("text", ["0", "-3", "many", "", "1.5", "²", "none.csv"])
def test_what_is_no_number_of_neurons_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="write a number, all, a list such as 0:3,2:417, or the"):
        choose_neurons(text, COLLECTED, seed=0)


@pytest.mark.parametrize("text", ["", "5", "all", "none.csv", "x" * 3000])
def test_what_names_no_unit_is_refused_with_what_would(text: str) -> None:
    with pytest.raises(UsageError, match=r"--units '.*: write a list such as 0:3,2:417") as raised:
        read_named(text, "--units")
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "text", ["0:3,x", "0:3;1:7", ":", "0:3 1:7", ",".join(["0:3"] * 3000) + ",0-7"]
)
def test_what_is_no_unit_of_a_list_is_named(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not a neuron; write LAYER:NEURON") as raised:
        read_named(text, "--units")
    assert len(str(raised.value)) < 100


@pytest.mark.parametrize("text", ["", "x", "0:3 0-7"])
def test_a_file_that_names_no_unit_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(NeuronExplainerError, match=r"a\.txt: "):
        read_named(str(tmp_path / "a.txt"), "--units")


@pytest.mark.parametrize(
    ("units", "text", "says"),
    [
        (COLLECTED, "1:50", "no neuron 1:50 in this collection: it has 50 of this layer, 1:0 to 1"),
        (COLLECTED, "2:0", "no neuron 2:0 in this collection: it has layers 1, 3"),
        (SOME, "0:7,3:2", "no neuron 3:2 in this collection: it has 2 of this layer, 3:1 to 3:40"),
    ],
)
def test_a_neuron_that_is_not_collected_is_refused_with_what_is(
    units: Units, text: str, says: str
) -> None:
    with pytest.raises(UnitNotFound, match=says):
        choose_neurons(text, units, seed=0)


def test_without_units_a_collection_has_every_one_of_its_layers() -> None:
    subject = tiny_subject(n_layer=3)
    assert resolve_units(RunSpec(), subject) == Units((0, 1, 2), 64)
    assert resolve_units(RunSpec(layers="0,2"), subject) == Units((0, 2), 64)


def test_units_that_the_model_has_not_or_that_layers_leave_out_are_refused() -> None:
    subject = tiny_subject(n_layer=3)
    for text in ("0:3,3:0", "1:64"):
        with pytest.raises(UnitNotFound, match=r"has layers 0\.\.2 of neurons 0\.\.63 each"):
            resolve_units(RunSpec(units=text), subject)
    both = RunSpec(units="0:3,2:1", layers="0-1")
    with pytest.raises(UsageError, match="--units names 2:1, and --layers 0-1 leaves its layer ou"):
        resolve_units(both, subject)
    within = RunSpec(units="0:3", layers="0-1")
    assert resolve_units(within, subject) == Units((0,), 64, ((3,),))


def test_before_a_collection_as_many_are_counted_as_will_be_explained() -> None:
    assert count_wanted(RunSpec()) is None
    assert count_wanted(RunSpec(units="0:3,2:1")) == 2
    assert count_wanted(RunSpec(units="0:3,2:1", neurons="1")) == 1
    assert count_wanted(RunSpec(units="0:3,2:1", neurons="9")) == 2
    assert count_wanted(RunSpec(neurons="9")) == 9
