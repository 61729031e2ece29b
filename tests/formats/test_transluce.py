"""Transluce's descriptions: a unit has one for each polarity, and keeps both."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.formats.transluce import read_transluce
from neuron_explainer.records.listed import ListedExplanation, ListedScore, Polarity
from neuron_explainer.records.neuron import NeuronId

MODEL = "meta-llama/Meta-Llama-3.1-8B-Instruct"


def read(path: Path) -> tuple[list[ListedExplanation], Counter[str]]:
    left_out: Counter[str] = Counter()
    return list(read_transluce(path, left_out)), left_out


def written(folder: Path, rows: list[str]) -> Path:
    path = folder / "descriptions.csv"
    path.write_text("\n".join(["neuron_id,polarity,description,version,score,summary", *rows]))
    return path


def test_both_polarities_of_a_neuron_are_kept(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        [f"{MODEL}_3_17_None,1,names of rivers,v2,0.5,rivers", f"{MODEL}_3_17_None,-1,seas,,,"],
    )
    explanations, left_out = read(path)
    assert explanations == [
        ListedExplanation(
            NeuronId(3, 17), "names of rivers", "transluce", MODEL, None, Polarity.POSITIVE,
            "transluce v2", scores=(ListedScore(0.5),),
        ),
        ListedExplanation(
            NeuronId(3, 17), "seas", "transluce", MODEL, None, Polarity.NEGATIVE, "transluce"
        ),
    ]  # fmt: skip
    assert left_out == {"column 'summary'": 1}


@pytest.mark.parametrize(
    ("text", "neuron_id", "model", "site"),
    [
        (f"{MODEL}_3_17_None", NeuronId(3, 17), MODEL, None),
        (f"{MODEL}_3_17_2", NeuronId(3, 17), MODEL, "expert-2"),
        (f"{MODEL}_3_17", NeuronId(3, 17), MODEL, None),
        ("a_model_3_17_None", NeuronId(3, 17), "a_model", None),
    ],
)
def test_the_id_names_the_unit(
    tmp_path: Path, text: str, neuron_id: NeuronId, model: str, site: str | None
) -> None:
    (explanation,), _ = read(written(tmp_path, [f"{text},1,rivers,,,"]))
    assert (explanation.neuron_id, explanation.model, explanation.site) == (neuron_id, model, site)


def test_what_a_row_lacks_is_counted(tmp_path: Path) -> None:
    rows = [",1,rivers,,,", f"{MODEL}_1_2_None,,rivers,,,", f"{MODEL}_1_2_None,1,,,nan,"]
    assert read(written(tmp_path, rows)) == (
        [],
        Counter({
            "explanation without a unit": 1,
            "explanation without a polarity": 1,
            "explanation without text": 1,
        }),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("model,1,rivers,,,", "'model' is not MODEL_LAYER_NEURON_EXPERT"),
        (f"m_{'9' * 30}_1_None,1,rivers,,,", "is not the number of a layer"),
        ("m_1_2_None,2,rivers,,,", "'2' is not a polarity"),
        ("m_1_2_None,1,rivers,,high,", "'high' is not a score"),
    ],
)
def test_what_cannot_be_meant_names_the_line(tmp_path: Path, row: str, reason: str) -> None:
    with pytest.raises(RecordFormatError, match=r"descriptions\.csv: line 2: ") as raised:
        read(written(tmp_path, [row]))
    assert reason in str(raised.value)


def test_a_row_without_its_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "descriptions.jsonl"
    path.write_text('{"neuron_id": "m_1_2_None"}')
    with pytest.raises(RecordFormatError, match="line 1: lacks description, polarity"):
        read(path)


@settings(
    max_examples=80, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    row=st.dictionaries(
        st.sampled_from(["neuron_id", "polarity", "description", "version", "score"]),
        st.sampled_from([None, "", "m_1_2_None", 1, -1, "1", 0.5, "rivers", [], True, "a\0"]),
        max_size=5,
    )
)
def test_random_rows_are_refused_or_read(tmp_path: Path, row: dict[str, object]) -> None:
    path = tmp_path / "descriptions.jsonl"
    path.write_text(json.dumps(row))
    try:
        read(path)
    except RecordFormatError as error:
        assert "line 1: " in str(error)
