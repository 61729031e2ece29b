"""Real windows, simulations and scores of the published dataset go through our records unharmed."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from neuron_explainer.formats.openai import read_record
from neuron_explainer.formats.openai_mapping import (
    from_published_explanation,
    from_published_record,
)
from neuron_explainer.formats.openai_results import read_results, write_results
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import ScoredSimulation
from neuron_explainer.records.splits import Split, split_records
from neuron_explainer.scoring.metrics import absolute_dev_explained, correlation, rsquared
from tests.formats.openai_documents import encode, plain_id, plain_window
from tests.records.published import read_published_records

pytestmark = pytest.mark.shared_data


class Scores(NamedTuple):
    """Over the four windows at hand, by the original functions."""

    ev_correlation: float
    rsquared: float | None = None
    absolute_dev: float | None = None


SCORES = {
    NeuronId(6, 3251): Scores(0.914840, -0.6321, -0.9138),
    NeuronId(13, 979): Scores(0.746847),
    NeuronId(19, 1763): Scores(0.586193),
    NeuronId(0, 816): Scores(0.216964),
    NeuronId(16, 518): Scores(-0.045498),
}
PUBLISHED_SCORES = {
    NeuronId(6, 3251): 0.86378, NeuronId(13, 979): 0.53577, NeuronId(19, 1763): 0.44794,
    NeuronId(0, 816): 0.33667, NeuronId(16, 518): 0.00949,
}  # fmt: skip


def test_the_splits_of_a_published_record_are_the_published_ones(shared_data: Path) -> None:
    raw = json.loads((shared_data / "published/gpt2xl_9_6236_records.json").read_text("utf-8"))
    train, valid = raw["train_split_n5"], raw["valid_split_n5"]
    record = {
        "dataclass_name": "NeuronRecord",
        "neuron_id": raw["neuron_id"],
        "most_positive_activation_records": _interleave(train, valid),
        "random_sample": _random_sample(raw["random_sample_first3"], valid[5:]),
        "mean": -0.06, "variance": 0.01,
    }  # fmt: skip
    published = read_record(encode(record), "9/6236.json").value
    reading = from_published_record(published)
    known = read_published_records(shared_data)
    assert reading.left_out == {}
    assert reading.value.neuron_id == NeuronId(9, 6236)
    assert reading.value.max_activation == 4.0117
    assert split_records(reading.value, Split.TRAIN) == (tuple(known.train), ())
    found = split_records(reading.value, Split.VALID)
    assert found == (tuple(known.valid[:5]), tuple(known.valid[5:]))
    assert [len(window.tokens) for window in found.top] == [64, 64, 64, 58, 64]
    assert found.random[0] == known.random[1]


def test_published_simulations_give_the_published_scores(shared_data: Path) -> None:
    raw = json.loads((shared_data / "published/gpt2xl_simulated_5.json").read_text("utf-8"))
    assert len(raw) == len(SCORES)
    for neuron in raw:
        neuron_id = NeuronId(neuron["layer"], neuron["neuron"])
        document = encode(_results(neuron, neuron_id))
        results = read_results(document, neuron_id).value
        assert read_results(write_results(results).document, neuron_id).value == results
        (published,) = results.explanations
        explanation, scored = from_published_explanation(published, results.neuron_id).value
        assert explanation.neuron_id == neuron_id
        assert explanation.text == neuron["explanation"]
        assert scored.score.value == pytest.approx(PUBLISHED_SCORES[neuron_id], abs=5e-6)
        assert_scores(scored, SCORES[neuron_id])


def assert_scores(scored: ScoredSimulation, known: Scores) -> None:
    windows = scored.windows
    real = [[x for x in w.true_activations if x is not None] for w in windows]
    predicted = [[x for x in w.simulation.expected_activations if x is not None] for w in windows]
    assert sum(map(len, predicted)) == scored.score.n_tokens == 256
    assert correlation(real, predicted) == pytest.approx(known.ev_correlation, abs=5e-7)
    if known.rsquared is not None:
        assert rsquared(real, predicted) == pytest.approx(known.rsquared, abs=5e-5)
        assert absolute_dev_explained(real, predicted) == pytest.approx(
            known.absolute_dev, abs=5e-5
        )


def _interleave(train: list[Any], valid: list[Any]) -> list[Any]:
    """20 top windows in order; those of the two splits that are not at hand are made up."""
    at_hand = [w for pair in zip(train, valid[:5], strict=True) for w in pair]
    maxima = [*(max(w["activations"]) for w in at_hand), 3.1]
    between = [plain_window((high + low) / 2) for high, low in pairwise(maxima)]
    return [w for pair in zip(at_hand, between, strict=True) for w in pair]


def _random_sample(first: list[Any], valid: list[Any]) -> list[Any]:
    """15 random windows; those that are not at hand are made up."""
    sample = [plain_window(0.01 * i) for i in range(15)]
    sample[:3] = first
    sample[1::3] = valid
    return sample


def _results(neuron: dict[str, Any], neuron_id: NeuronId) -> dict[str, Any]:
    """As its file has them; without distributions and the scores of single windows."""
    windows = [
        {
            "simulation": {
                "tokens": [t["token"] for t in window["simulated"]],
                "expected_activations": [t["strength"] for t in window["simulated"]],
                "activation_scale": "simulated_normalized_activations",
            },
            "true_activations": [t["strength"] for t in window["actual"]],
        }
        for window in neuron["score_sequences"]
    ]
    simulation = {
        "scored_sequence_simulations": windows,
        "ev_correlation_score": neuron["score"],
    }
    explanation = {"explanation": neuron["explanation"], "scored_simulation": simulation}
    return {"neuron_id": plain_id(neuron_id), "scored_explanations": [explanation]}
