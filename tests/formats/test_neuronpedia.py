"""Neuronpedia's layout: explanations with their scores, both ways."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuron_explainer.errors import RecordFormatError, UsageError
from neuron_explainer.formats.neuronpedia import (
    EXPLANATIONS_A_FILE,
    find_batches,
    read_neuronpedia,
    write_neuronpedia,
)
from neuron_explainer.records.listed import ListedExplanation, ListedScore
from neuron_explainer.records.neuron import NeuronId
from tests.listed import FULL, LISTED, PLAIN

EXPORTED = {
    "id": "clxyz", "modelId": "gpt2-small", "layer": "6-res-jb", "index": "17",
    "authorId": "somebody", "description": " names of rivers", "embedding": "[0.1]",
    "typeName": "oai_token-act-pair", "explanationModelName": "gpt-4o-mini", "umap_x": None,
}  # fmt: skip
EXPECTED = ListedExplanation(
    NeuronId(6, 17), " names of rivers", "neuronpedia", "gpt2-small", "res-jb",
    explainer="oai_token-act-pair", explainer_model="gpt-4o-mini",
)  # fmt: skip


def read(path: Path, **more: Any) -> tuple[list[ListedExplanation], Counter[str]]:
    left_out: Counter[str] = Counter()
    return list(read_neuronpedia(path, left_out, **more)), left_out


def written(folder: Path, *objects: Any) -> Path:
    path = folder / "batch-0.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(o) + "\n" for o in objects).encode()))
    return path


def test_an_exported_explanation_is_read_and_other_fields_are_counted(tmp_path: Path) -> None:
    assert read(written(tmp_path, EXPORTED)) == (
        [EXPECTED],
        Counter({"field 'authorId'": 1, "field 'embedding'": 1}),
    )


def test_a_neuron_has_a_layer_without_a_site(tmp_path: Path) -> None:
    (explanation,), _ = read(written(tmp_path, EXPORTED | {"layer": "6"}))
    assert (explanation.neuron_id, explanation.site) == (NeuronId(6, 17), None)


def test_a_unit_with_several_explanations_gives_each_with_its_scores(tmp_path: Path) -> None:
    scores = [
        {"value": 0.8, "explanationScoreTypeName": "eleuther_fuzz",
         "explanationScoreModelName": "gemini", "jsonDetails": "[]"},
        {"value": None, "explanationScoreTypeName": "recall_alt"},
    ]  # fmt: skip
    unit = {
        "modelId": "gpt2-small", "layer": "6-res-jb", "index": 17, "maxActApprox": 3.5,
        "explanations": [
            {k: EXPORTED[k] for k in ("description", "typeName", "explanationModelName")}
            | {"scores": scores},
            {"description": ""},
        ],
    }  # fmt: skip
    explanations, left_out = read(written(tmp_path, unit))
    score = ListedScore(0.8, "eleuther_fuzz", "gemini")
    assert explanations == [replace(EXPECTED, scores=(score,))]
    assert left_out == {"field 'maxActApprox'": 1, "explanation without text": 1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"index": "x"}, "'x' is not the number of a unit"),
        ({"layer": "res-jb"}, "'res-jb' is not a layer"),
        ({"description": 3}, "an explanation is 3, not a text"),
        ({"scores": {}}, "scores are dict, not a list"),
        ({"scores": [3]}, "a score is int, not an object"),
        ({"scores": [{"value": "high"}]}, "'high' is not a score"),
        ({"explanations": 3}, "explanations are int, not a list"),
        ({"explanations": [3]}, "an explanation is int, not an object"),
        ({"notes": '{"polarity": "up"}'}, "'up' is not a polarity"),
    ],
)
def test_what_cannot_be_meant_names_the_line(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    path = written(tmp_path, EXPORTED, EXPORTED | change)
    with pytest.raises(RecordFormatError, match=r"batch-0\.jsonl\.gz: line 2: ") as raised:
        read(path)
    assert reason in str(raised.value)


@pytest.mark.parametrize("notes", ["a note", "[1]", '{"a": 1}', "[" * 100_000])
def test_notes_of_others_are_counted(tmp_path: Path, notes: str) -> None:
    explanations, left_out = read(written(tmp_path, EXPORTED | {"notes": notes}))
    assert explanations == [EXPECTED]
    assert left_out["field 'notes'"] == 1


def test_what_has_no_unit_or_no_layer_is_counted(tmp_path: Path) -> None:
    path = written(tmp_path, EXPORTED | {"index": None}, EXPORTED | {"layer": None})
    explanations, left_out = read(path)
    assert explanations == []
    assert left_out["explanation without a unit"] == left_out["explanation without a layer"] == 1


def test_an_export_has_a_folder_for_each_model_and_layer(tmp_path: Path) -> None:
    units = [replace(FULL, neuron_id=NeuronId(9, n)) for n in range(EXPLANATIONS_A_FILE + 1)]
    paths = write_neuronpedia(tmp_path, [*units, replace(PLAIN, model="..", site="../x")])
    folder = tmp_path / "openai--gpt2-xl" / "9-res-jb" / "explanations"
    last = tmp_path / "--" / "0-..--x" / "explanations"
    names = [folder / "batch-0.jsonl.gz", folder / "batch-1.jsonl.gz", last / "batch-0.jsonl.gz"]
    assert paths == names
    assert find_batches(tmp_path / "openai--gpt2-xl") == names[:2]
    assert [e for path in names[:2] for e in read(path)[0]] == units


def test_batches_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "explanations").mkdir()
    (tmp_path / "features").mkdir()
    (tmp_path / "others").mkdir()
    for n in (10, 9, 0):
        (tmp_path / "explanations" / f"batch-{n}.jsonl").touch()
        (tmp_path / "others" / f"batch-{n}.jsonl").touch()
    (tmp_path / "features" / "batch-3.jsonl").touch()
    assert [path.name for path in find_batches(tmp_path)] == [
        "batch-0.jsonl", "batch-9.jsonl", "batch-10.jsonl", "batch-3.jsonl",
    ]  # fmt: skip


@settings(
    max_examples=60, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(explanation=LISTED, number=st.integers(0, 10**9))
def test_any_explanation_reads_back_equal(
    tmp_path: Path, explanation: ListedExplanation, number: int
) -> None:
    explanation = replace(explanation, model=explanation.model or "gpt2")
    paths = write_neuronpedia(tmp_path / str(number) / explanation.digest().hex(), [explanation])
    assert [read(path) for path in paths] == [([explanation], Counter())]
    for path in paths:
        path.unlink()


def test_the_same_explanations_give_the_same_bytes(tmp_path: Path) -> None:
    (one,), (other,) = (write_neuronpedia(tmp_path / name, [FULL]) for name in "ab")
    assert one.read_bytes() == other.read_bytes()


def test_an_explanation_that_names_no_model_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"0:0 of a list\.csv has none"):
        write_neuronpedia(tmp_path, [PLAIN])
    assert not any(tmp_path.iterdir())


def test_new_explanations_are_not_mixed_with_older_ones(tmp_path: Path) -> None:
    write_neuronpedia(tmp_path, [FULL])
    with pytest.raises(UsageError, match="holds explanations already"):
        write_neuronpedia(tmp_path, [FULL])
