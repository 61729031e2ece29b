"""delphi's folders: texts and judged examples; what it could not read is no explanation."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.formats.delphi import is_delphi, read_delphi
from neuron_explainer.records.listed import ListedExplanation, ListedScore
from neuron_explainer.records.neuron import NeuronId

NAME = "layers.5.mlp_latent17.txt"


def read(folder: Path) -> tuple[list[ListedExplanation], Counter[str]]:
    left_out: Counter[str] = Counter()
    return list(read_delphi(folder, left_out)), left_out


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "run" / "explanations" / NAME, "names of rivers")
    return tmp_path / "run"


def judged(is_active: bool, prediction: object) -> dict[str, object]:
    return {"str_tokens": ["a"], "activating": is_active, "prediction": prediction}


def test_a_text_is_read_with_the_unit_of_its_name_and_the_runs_models(folder: Path) -> None:
    write(folder / "run_config.json", {"model": "EleutherAI/pythia-70m", "explainer_model": "ll"})
    expected = ListedExplanation(
        NeuronId(5, 17), "names of rivers", "run", "EleutherAI/pythia-70m", "layers.{layer}.mlp",
        explainer="delphi", explainer_model="ll",
    )  # fmt: skip
    assert read(folder) == ([expected], Counter())
    assert is_delphi(folder)
    assert not is_delphi(folder / "explanations")


def test_the_score_of_a_classifier_is_the_balanced_accuracy(folder: Path) -> None:
    examples = [
        judged(True, True), judged(True, 1), judged(True, 0.4), judged(False, False),
        judged(False, None), judged(True, -1), judged(False, math.nan), judged(True, math.inf),
    ]  # fmt: skip
    write(folder / "scores" / "fuzz" / NAME, examples)
    older = [{"ground_truth": True, "prediction": 1}, {"ground_truth": False, "prediction": 1}]
    write(folder / "scores" / "detection" / NAME, older)
    (explanation,), left_out = read(folder)
    assert explanation.scores == (
        ListedScore(0.5, "balanced_accuracy", "detection"),
        ListedScore((2 / 3 + 1) / 2, "balanced_accuracy", "fuzz"),
    )
    assert left_out == {"example that the judge of fuzz failed on": 4}


@pytest.mark.parametrize("examples", [[], [judged(True, 1)], [judged(True, 1), judged(False, -1)]])
def test_a_classifier_without_both_classes_has_no_score(
    folder: Path, examples: list[dict[str, object]]
) -> None:
    write(folder / "scores" / "fuzz" / NAME, examples)
    (explanation,), left_out = read(folder)
    assert explanation.scores == ()
    assert any(reason.startswith("score of fuzz, ") for reason in left_out)


def test_the_score_of_a_simulation_is_that_of_all_examples(folder: Path) -> None:
    groups = [{"distance": 1, "ev_correlation_score": 0.9}]
    whole = {"distance": -1, "ev_correlation_score": 0.6}
    write(folder / "scores" / "simulation" / NAME, [*groups, whole])
    write(folder / "scores" / "embedding" / NAME, [{"distance": 1, "similarity": 0.1}])
    (explanation,), left_out = read(folder)
    assert explanation.scores == (ListedScore(0.6, "ev_correlation_score", "simulation"),)
    assert left_out == {"score of embedding, of no known form": 1}


def test_a_constant_simulation_has_no_score(folder: Path) -> None:
    write(
        folder / "scores" / "simulation" / NAME, [{"distance": -1, "ev_correlation_score": "nan"}]
    )
    (explanation,), left_out = read(folder)
    assert explanation.scores == ()
    assert left_out == {"score that is no number": 1}


def test_what_delphi_could_not_read_is_no_explanation(folder: Path) -> None:
    write(folder / "explanations" / NAME, "Explanation could not be parsed.")
    write(folder / "explanations" / "layers.5.mlp_latent18.txt", "")
    write(folder / "scores" / "fuzz" / "layers.5.mlp_latent19.txt", [])
    (folder / "explanations" / "notes.txt").write_text("not of delphi")
    assert read(folder) == (
        [],
        Counter({
            "explanation that delphi could not read": 1,
            "explanation without text": 1,
            "score of fuzz without an explanation": 1,
            "file that is not called HOOKPOINT_latentNUMBER.txt": 1,
        }),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        (f"explanations/{NAME}", "plain text", "no JSON"),
        (f"explanations/{NAME}", "3", "an explanation is 3, not a text"),
        ("explanations/mlp_latent1.txt", '"rivers"', "'mlp' is not a layer"),
        (f"scores/fuzz/{NAME}", '{"a": 1}', "not a list of objects"),
        (f"scores/fuzz/{NAME}", "[1]", "not a list of objects"),
        (f"scores/fuzz/{NAME}", '[{"prediction": 1}]', "neither active nor silent"),
        (f"scores/fuzz/{NAME}", '[{"activating": true, "prediction": "a"}]', "not a prediction"),
        (f"scores/fuzz/{NAME}", '[{"distance": -1, "ev_correlation_score": "a"}]', "not a score"),
        ("run_config.json", "[]", "list, not an object"),
        ("run_config.json", '{"model": 3}', "model is 3, not a text"),
    ],
)
def test_a_damaged_file_is_named(folder: Path, path: str, content: str, reason: str) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(content)
    with pytest.raises(RecordFormatError) as raised:
        read(folder)
    assert str(folder / path) in str(raised.value)
    assert reason in str(raised.value)


@pytest.mark.parametrize("path", [f"explanations/{NAME}", f"scores/fuzz/{NAME}", "run_config.json"])
@settings(
    max_examples=60, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    content=st.binary(max_size=60)
    | st.lists(
        st.dictionaries(
            st.sampled_from(["prediction", "activating", "distance", "ev_correlation_score"]),
            st.sampled_from([None, True, False, -1, 0.5, "nan", "a", [], 10**400]),
        ),
        max_size=3,
    ).map(lambda examples: json.dumps(examples).encode())
)
def test_random_content_is_refused_or_read(folder: Path, path: str, content: bytes) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(content)
    try:
        read(folder)
    except RecordFormatError as error:
        assert path in str(error)
