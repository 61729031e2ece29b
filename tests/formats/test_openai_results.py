"""Published explanations with their simulations and scores."""

from __future__ import annotations

import json
from typing import Any

import pytest

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.formats.openai_results import NO_TEXT, read_results, write_results
from neuron_explainer.published.locations import Kind
from neuron_explainer.records.published import Distribution, PublishedResults
from neuron_explainer.records.scale import ActivationScale
from tests.formats.openai_documents import (
    ID,
    encode,
    plain_explanation,
    plain_results,
    plain_scored_window,
    plain_simulation,
    read,
    which,
)
from tests.formats.openai_schema import assert_loadable

PATH = which(Kind.EXPLANATIONS).path


def results(plain: dict[str, Any]) -> PublishedResults:
    found: PublishedResults = read(Kind.EXPLANATIONS, plain).value
    return found


def with_simulation(**changes: Any) -> dict[str, Any]:
    """Results of one window, whose simulation differs."""
    window = plain_scored_window(0.5, 1.0)
    window["simulation"] |= changes
    explanation = plain_explanation()
    explanation["scored_simulation"]["scored_sequence_simulations"] = [window]
    return plain_results() | {"scored_explanations": [explanation]}


def test_every_field_is_taken_over() -> None:
    (explanation,) = results(plain_results()).explanations
    assert explanation.text == " numbers below ten."
    assert explanation.ev_correlation_score == 0.75
    assert explanation.rsquared_score == -8.25
    assert explanation.absolute_dev_explained_score is None
    assert len(explanation.windows) == 10
    window = explanation.windows[3]
    assert window.true_activations == (0.1 * 3, 2.0, -0.125)
    assert (window.ev_correlation_score, window.rsquared_score) == (0.5, -3.5)
    predicted = window.simulation.predicted
    assert predicted.tokens == (" t0", " t1", " t2")
    assert predicted.expected_activations == (0, 1, 2)
    assert predicted.scale is ActivationScale.NORMALIZED
    assert window.simulation.distributions[2] == Distribution((0.0, 10.0), (0.25, 0.75))


def test_all_explanations_of_a_unit_are_kept_in_order() -> None:
    found = results(plain_results(ID, " first.", "second"))
    assert [explanation.text for explanation in found.explanations] == [" first.", "second"]


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_an_explanation_without_a_text_is_left_out_and_counted(text: str | None) -> None:
    reading = read(Kind.EXPLANATIONS, plain_results(ID, text, "second"))
    assert [explanation.text for explanation in reading.value.explanations] == ["second"]
    assert reading.left_out == {NO_TEXT: 1}


def test_older_names_are_read() -> None:
    text = encode(plain_results()).decode()
    for name, older in {
        '"scored_explanations"': '"scored_explanation_or_baseline_list"',
        '"ScoredExplanation"': '"ScoredExplanationOrBaseline"',
        '"explanation"': '"explanation_or_baseline"',
        '"activation_scale"': '"response":"gone","unit"',
        '"simulation"': '"sequence_simulation"',
    }.items():
        assert name in text
        text = text.replace(name, older)
    reading = read(Kind.EXPLANATIONS, text.encode())
    assert reading.value == results(plain_results())
    assert reading.left_out == {"SequenceSimulation.response": 10}


def test_objects_need_not_name_their_class() -> None:
    def without_class(plain: Any) -> Any:
        match plain:
            case dict():
                return {k: without_class(v) for k, v in plain.items() if k != "dataclass_name"}
            case list():
                return list(map(without_class, plain))
        return plain

    assert results(without_class(plain_results())) == results(plain_results())


def test_scores_may_be_null_or_nan() -> None:
    plain = plain_results()
    window = plain_scored_window(None, 1.0) | {"ev_correlation_score": float("nan")}
    scored = plain["scored_explanations"][0]["scored_simulation"]
    scored |= {"scored_sequence_simulations": [window], "ev_correlation_score": None}
    del scored["rsquared_score"]
    (explanation,) = results(plain).explanations
    assert (explanation.ev_correlation_score, explanation.rsquared_score) == (None, None)
    assert explanation.windows[0].ev_correlation_score is None
    assert explanation.windows[0].true_activations == (None, 1.0)


@pytest.mark.parametrize("nothing", [None, []])
def test_a_simulator_may_give_no_distributions(nothing: Any) -> None:
    plain = with_simulation(distribution_values=nothing, distribution_probabilities=nothing)
    (explanation,) = results(plain).explanations
    assert explanation.windows[0].simulation.distributions == ()


def test_a_token_may_have_an_empty_distribution() -> None:
    empty = {"distribution_values": [[], [1.0]], "distribution_probabilities": [[], [1.0]]}
    (explanation,) = results(with_simulation(**empty)).explanations
    assert explanation.windows[0].simulation.distributions[0] == Distribution((), ())


def test_the_simulation_before_calibration_is_kept() -> None:
    plain = with_simulation(
        activation_scale="neuron_activations", uncalibrated_simulation=plain_simulation(7.0, 8.0)
    )
    simulation = results(plain).explanations[0].windows[0].simulation
    assert simulation.predicted.scale is ActivationScale.NEURON
    assert simulation.uncalibrated is not None
    assert simulation.uncalibrated.predicted.expected_activations == (7, 8)


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_the_one_line_is_read_whatever_its_end(end: str) -> None:
    found = read_results(b"\xef\xbb\xbf" + encode(plain_results()) + end.encode(), PATH).value
    assert found == results(plain_results())


@pytest.mark.parametrize(
    ("plain", "why"),
    [
        (plain_results() | {"scored_explanations": {}}, "scored_explanations is an object"),
        (plain_results(ID, "a") | {"neuron_id": None}, "a NeuronId is null"),
        (with_simulation(tokens=["a"]), "2 expected_activations for 1 tokens"),
        (with_simulation(expected_activations=[1.0, "2"]), "is a text, not a number"),
        (with_simulation(activation_scale="percent"), "activation_scale is neither"),
        (with_simulation(activation_scale=None), "activation_scale is null"),
        (with_simulation(distribution_values=[[1.0]]), "1 distribution_values for 2 tokens"),
        (with_simulation(distribution_values=None), "0 distribution_values for 2 tokens"),
        (with_simulation(distribution_values=[[1.0], [1.0]]), "as many probabilities as values"),
        (
            with_simulation(
                uncalibrated_simulation=plain_simulation(1.0)
                | {"uncalibrated_simulation": plain_simulation(1.0)}
            ),
            "an uncalibrated_simulation has another one",
        ),
    ],
)
def test_a_damaged_document_is_refused_with_the_reason(plain: Any, why: str) -> None:
    with pytest.raises(RecordFormatError) as caught:
        read(Kind.EXPLANATIONS, plain)
    assert caught.value.path == PATH
    assert why in caught.value.reason


def test_two_lines_are_refused() -> None:
    line = encode(plain_results())
    with pytest.raises(RecordFormatError, match="line 2"):
        read_results(line + b"\n" + line + b"\n", PATH)


def test_what_is_written_is_one_line_that_openais_loader_takes() -> None:
    document = write_results(results(plain_results(ID, " a.", "b\n\u2028c"))).document
    assert_loadable(document)
    assert document.endswith(b"\n")
    assert b'"simulation":' in document
    assert json.loads(document) == plain_results(ID, " a.", "b\n\u2028c")
