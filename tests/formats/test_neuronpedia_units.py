"""Neuronpedia's activations are windows by unit, its features what we have a word for."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.formats.neuronpedia_units import (
    NO_ACTIVATION,
    OTHER_MAXIMUM,
    PlacedUnit,
    UnitFacts,
    UnitWindows,
    read_neuronpedia_activations,
    read_neuronpedia_features,
)
from neuron_explainer.records.neuron import ActivationRecord, NeuronId
from neuron_explainer.records.published import TokenValue

UNIT = {"modelId": "gpt2-small", "layer": "6-res-jb", "index": "17"}
PLACED = PlacedUnit(NeuronId(6, 17), "res-jb", "gpt2-small")
FEATURE = UNIT | {
    "maxActApprox": 4.5, "pos_str": [" two", "2"], "pos_values": [1.5, None],
    "neg_str": [], "neg_values": [], "frac_nonzero": 0.001, "hookName": "blocks.6.hook_resid_pre",
    "correlated_neurons_indices": [],
}  # fmt: skip


def window(*values: Any, **more: Any) -> dict[str, Any]:
    tokens = [f" t{i}" for i in range(len(values))]
    return {**UNIT, "tokens": tokens, "values": [*values], "maxValueTokenIndex": 0, **more}


def written(folder: Path, *objects: Any) -> Path:
    path = folder / "batch-0.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(o) + "\n" for o in objects).encode()))
    return path


def windows_of(path: Path) -> tuple[list[UnitWindows], Counter[str]]:
    left_out: Counter[str] = Counter()
    return [*read_neuronpedia_activations(path, left_out)], left_out


def facts_of(path: Path) -> tuple[list[UnitFacts], Counter[str]]:
    left_out: Counter[str] = Counter()
    return [*read_neuronpedia_features(path, left_out)], left_out


def test_windows_are_gathered_by_unit_the_strongest_first(tmp_path: Path) -> None:
    other = window(0.5) | {"index": "3"}
    found, left_out = windows_of(
        written(tmp_path, window(1, 2.0, maxValue=2), other, window(0.0, 5.5, None, maxValue=5.5))
    )
    assert found == [
        UnitWindows(
            PLACED,
            (
                ActivationRecord((" t0", " t1", " t2"), (0.0, 5.5, None)),
                ActivationRecord((" t0", " t1"), (1.0, 2.0)),
            ),
        ),
        UnitWindows(
            PlacedUnit(NeuronId(6, 3), "res-jb", "gpt2-small"),
            (ActivationRecord((" t0",), (0.5,)),),
        ),
    ]
    assert left_out == {}


def test_what_has_no_place_is_counted(tmp_path: Path) -> None:
    found, left_out = windows_of(
        written(
            tmp_path,
            window(1.0, dataSource="pile", binMin=0, dfaValues=[]),
            window(None, float("nan")),
            window(1.0, maxValue=9.0),
            window(1.0) | {"index": None},
        )
    )
    assert [len(unit.windows) for unit in found] == [2]
    assert left_out == {
        "field 'dataSource'": 1, "field 'binMin'": 1, NO_ACTIVATION: 1, OTHER_MAXIMUM: 1,
        "window without a layer or a unit": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ({"values": [1.0]}, "1 values for 2 tokens"),
        ({"values": [1.0, "x"]}, "one of values is no number"),
        ({"values": [1.0, True]}, "one of values is no number"),
        ({"values": "1.0"}, "values is no list"),
        ({"tokens": None}, "tokens is no list"),
        ({"layer": "six"}, "is not a layer"),
    ],
)
def test_a_damaged_window_is_refused_by_line(
    tmp_path: Path, damage: dict[str, Any], says: str
) -> None:
    path = written(tmp_path, window(1.0, 2.0), window(1.0, 2.0) | damage)
    with pytest.raises(RecordFormatError, match=f"batch-0.jsonl.gz: line 2: .*{says}"):
        windows_of(path)


def test_facts_with_a_place_are_read_and_the_others_counted(tmp_path: Path) -> None:
    found, left_out = facts_of(written(tmp_path, FEATURE, UNIT | {"maxActApprox": None}))
    promoted = (TokenValue(" two", 1.5), TokenValue("2", None))
    assert found == [UnitFacts(PLACED, 4.5, promoted, ()), UnitFacts(PLACED, None, (), ())]
    assert left_out == {"field 'frac_nonzero'": 1, "field 'hookName'": 1}


def test_tokens_without_their_values_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordFormatError, match="line 1: 0 neg_values for 1 neg_str"):
        facts_of(written(tmp_path, FEATURE | {"neg_str": ["a"]}))
