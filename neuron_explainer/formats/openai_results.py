"""Explanations, simulations and scores of the published dataset, both ways (Bills et al. 2023).

    NeuronSimulationResults  {layer}/{neuron}.jsonl   one line: a unit's explanations

Read and written as `openai.py` says; an explanation without a text is left out and counted.
"""

from __future__ import annotations

from typing import Any

from neuron_explainer.formats.openai import parse_id, plain_id
from neuron_explainer.formats.openai_json import (
    CLASS,
    Damaged,
    LeftOut,
    Reading,
    Shape,
    Written,
    check_lengths,
    read_document,
    read_list,
    read_number,
    read_number_lists,
    read_numbers,
    read_text,
    read_texts,
    take,
    write_document,
)
from neuron_explainer.records.published import (
    Distribution,
    PublishedExplanation,
    PublishedResults,
    PublishedSimulation,
    PublishedWindow,
)
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.simulation import SequenceSimulation

NO_TEXT = "explanation without a text"
SCORES = ("ev_correlation_score", "rsquared_score", "absolute_dev_explained_score")

RESULTS = Shape(
    "NeuronSimulationResults",
    ("neuron_id", "scored_explanations"),
    older_fields={"scored_explanation_or_baseline_list": "scored_explanations"},
)
SCORED_EXPLANATION = Shape(
    "ScoredExplanation",
    ("explanation", "scored_simulation"),
    older_fields={"explanation_or_baseline": "explanation"},
    older_names=("ScoredExplanationOrBaseline",),
)
SCORED_SIMULATION = Shape("ScoredSimulation", ("scored_sequence_simulations",), SCORES)
SCORED_WINDOW = Shape(
    "ScoredSequenceSimulation",
    ("simulation", "true_activations"),
    SCORES,
    older_fields={"sequence_simulation": "simulation"},
)
SIMULATION = Shape(
    "SequenceSimulation",
    ("tokens", "expected_activations", "activation_scale"),
    ("distribution_values", "distribution_probabilities", "uncalibrated_simulation"),
    older_fields={"unit": "activation_scale"},
)


def read_results(document: bytes, path: object) -> Reading[PublishedResults]:
    """The one line of a `NeuronSimulationResults`; RecordFormatError when it is none."""
    return read_document(document, path, _parse_results)


def read_claims(document: bytes, path: object) -> Reading[PublishedResults]:
    """`read_results` without the windows, which are not looked at: half the time."""
    return read_document(document, path, _parse_claims)


def write_results(results: PublishedResults) -> Written:
    """One line with its end."""
    return write_document(
        {
            CLASS: RESULTS.name,
            "neuron_id": plain_id(results.neuron_id),
            "scored_explanations": [_plain_explanation(e) for e in results.explanations],
        },
        end="\n",
    )


def _parse_claims(raw: Any, left_out: LeftOut) -> PublishedResults:
    return _parse_results(raw, left_out, with_windows=False)


def _parse_results(raw: Any, left_out: LeftOut, *, with_windows: bool = True) -> PublishedResults:
    fields = take(raw, RESULTS, left_out)
    parsed = [
        _parse_explanation(one, left_out, with_windows)
        for one in read_list(fields["scored_explanations"], "scored_explanations")
    ]
    return PublishedResults(
        parse_id(fields["neuron_id"], left_out),
        tuple(explanation for explanation in parsed if explanation is not None),
    )


def _parse_explanation(
    raw: Any, left_out: LeftOut, with_windows: bool
) -> PublishedExplanation | None:
    """None when it has no text: then there is nothing that the scores would be of."""
    fields = take(raw, SCORED_EXPLANATION, left_out)
    scored = take(fields["scored_simulation"], SCORED_SIMULATION, left_out)
    raw_windows = read_list(scored["scored_sequence_simulations"], "scored_sequence_simulations")
    windows = tuple(
        _parse_scored_window(window, left_out) for window in (raw_windows if with_windows else ())
    )
    text = fields["explanation"]
    if text is None or not read_text(text, "explanation").strip():
        left_out[NO_TEXT] += 1
        return None
    return PublishedExplanation(text, windows, *_parse_scores(scored))


def _parse_scored_window(raw: Any, left_out: LeftOut) -> PublishedWindow:
    fields = take(raw, SCORED_WINDOW, left_out)
    simulation = _parse_simulation(fields["simulation"], left_out)
    true = read_numbers(fields["true_activations"], "true_activations")
    check_lengths(len(simulation.predicted.tokens), true_activations=len(true))
    return PublishedWindow(simulation, true, *_parse_scores(fields))


def _parse_scores(fields: dict[str, Any]) -> list[float | None]:
    return [read_number(fields.get(name), name) for name in SCORES]


def _parse_simulation(
    raw: Any, left_out: LeftOut, *, is_uncalibrated: bool = False
) -> PublishedSimulation:
    fields = take(raw, SIMULATION, left_out)
    tokens = read_texts(fields["tokens"], "tokens")
    expected = read_numbers(fields["expected_activations"], "expected_activations")
    check_lengths(len(tokens), expected_activations=len(expected))
    uncalibrated = fields.get("uncalibrated_simulation")
    if uncalibrated is not None and is_uncalibrated:
        raise Damaged("an uncalibrated_simulation has another one")
    return PublishedSimulation(
        SequenceSimulation(tokens, expected, _parse_scale(fields["activation_scale"])),
        _parse_distributions(fields, len(tokens)),
        None
        if uncalibrated is None
        else _parse_simulation(uncalibrated, left_out, is_uncalibrated=True),
    )


def _parse_scale(raw: Any) -> ActivationScale:
    name = read_text(raw, "activation_scale")
    try:
        return ActivationScale(name)
    except ValueError as error:
        raise Damaged(f"activation_scale is neither {' nor '.join(ActivationScale)}") from error


def _parse_distributions(fields: dict[str, Any], n_tokens: int) -> tuple[Distribution, ...]:
    """Null or empty where the simulator gives none."""
    values, probabilities = (
        () if fields.get(name) is None else read_number_lists(fields[name], name)
        for name in ("distribution_values", "distribution_probabilities")
    )
    if not values and not probabilities:
        return ()
    check_lengths(
        n_tokens, distribution_values=len(values), distribution_probabilities=len(probabilities)
    )
    if list(map(len, values)) != list(map(len, probabilities)):
        raise Damaged("a distribution has not as many probabilities as values")
    return tuple(map(Distribution, values, probabilities))


def _plain_explanation(explanation: PublishedExplanation) -> dict[str, Any]:
    scored = {
        CLASS: SCORED_SIMULATION.name,
        "scored_sequence_simulations": [_plain_scored(w) for w in explanation.windows],
        **_plain_scores(explanation),
    }
    return {
        CLASS: SCORED_EXPLANATION.name,
        "explanation": explanation.text,
        "scored_simulation": scored,
    }


def _plain_scored(window: PublishedWindow) -> dict[str, Any]:
    return {
        CLASS: SCORED_WINDOW.name,
        "simulation": _plain_simulation(window.simulation),
        "true_activations": window.true_activations,
        **_plain_scores(window),
    }


def _plain_scores(scored: PublishedExplanation | PublishedWindow) -> dict[str, Any]:
    return {name: getattr(scored, name) for name in SCORES}


def _plain_simulation(simulation: PublishedSimulation) -> dict[str, Any]:
    predicted, uncalibrated = simulation.predicted, simulation.uncalibrated
    return {
        CLASS: SIMULATION.name,
        "tokens": predicted.tokens,
        "expected_activations": predicted.expected_activations,
        "activation_scale": predicted.scale,
        "distribution_values": [d.values for d in simulation.distributions],
        "distribution_probabilities": [d.probabilities for d in simulation.distributions],
        "uncalibrated_simulation": None
        if uncalibrated is None
        else _plain_simulation(uncalibrated),
    }
