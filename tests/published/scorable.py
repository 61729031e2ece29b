"""Made-up documents of the published dataset with as many windows as scoring takes.

Each unit fires on one word; its published explanation names the word, or with `wrong` another one.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import Any

from neuron_explainer.published.locations import DocumentId, Kind
from neuron_explainer.records.neuron import NeuronId
from tests.formats.openai_documents import encode, plain_id, plain_results

DATASET = "gpt2-small"
IDS = tuple(NeuronId(layer, unit) for layer, unit in ((0, 1), (0, 5), (3, 1), (9, 1), (9, 6)))
N_TOP = N_RANDOM = 20
N_TOKENS = 8
PUBLISHED_SCORE = 0.25
WORDS = ("river", "Tuesday", "walking", "blue", "garden", "music", "silver", "winter", "planet")


def word_of(neuron_id: NeuronId) -> str:
    return WORDS[(neuron_id.layer_index + neuron_id.neuron_index) % len(WORDS)]


def plain_scorable(neuron_id: NeuronId) -> dict[str, Any]:
    """A record: 20 top windows, of which each has the word, 20 random ones, no bands."""
    rng = random.Random(str(neuron_id))
    top = [_window(rng, neuron_id, peak=5.0 - 0.1 * place) for place in range(N_TOP)]
    sample = [_window(rng, neuron_id, peak=rng.uniform(1.0, 3.0)) for _ in range(N_RANDOM)]
    return {
        "dataclass_name": "NeuronRecord",
        "neuron_id": plain_id(neuron_id),
        "most_positive_activation_records": top,
        "random_sample": sample,
        "mean": -0.05, "variance": 0.02, "skewness": 9.1, "kurtosis": 150.0,
    }  # fmt: skip


def plain_explained(neuron_id: NeuronId, text: str) -> dict[str, Any]:
    """One explanation with its score, over the valid split of the record."""
    record = plain_scorable(neuron_id)
    windows = [
        *record["most_positive_activation_records"][2::4],
        *record["random_sample"][1:15:3],
    ]
    results = plain_results(neuron_id, text)
    simulation = results["scored_explanations"][0]["scored_simulation"]
    simulation["ev_correlation_score"] = PUBLISHED_SCORE
    simulation["scored_sequence_simulations"] = [_scored(window) for window in windows]
    return results


def scorable_documents(
    neuron_ids: Sequence[NeuronId] = IDS, wrong: Collection[NeuronId] = ()
) -> dict[str, bytes]:
    """Path -> document: the records, and explanations with a space before and a period behind."""
    documents = {}
    for neuron_id in neuron_ids:
        word = "umbrella" if neuron_id in wrong else word_of(neuron_id)
        for kind, plain in (
            (Kind.ACTIVATIONS, plain_scorable(neuron_id)),
            (Kind.EXPLANATIONS, plain_explained(neuron_id, f" the word {word}.")),
        ):
            documents[DocumentId(DATASET, kind, neuron_id).path] = encode(plain)
    return documents


def _window(rng: random.Random, neuron_id: NeuronId, peak: float) -> dict[str, Any]:
    """One token has the peak; the others are about zero."""
    mine = word_of(neuron_id)
    words = [rng.choice([word for word in WORDS if word != mine]) for _ in range(N_TOKENS)]
    words[rng.randrange(N_TOKENS)] = mine
    activations = [peak if word == mine else round(rng.uniform(-0.1, 0.05), 4) for word in words]
    return {
        "dataclass_name": "ActivationRecord",
        "tokens": [f" {word}" for word in words],
        "activations": activations,
    }


def _scored(window: dict[str, Any]) -> dict[str, Any]:
    n_tokens = len(window["tokens"])
    return {
        "dataclass_name": "ScoredSequenceSimulation",
        "simulation": {
            "dataclass_name": "SequenceSimulation",
            "tokens": window["tokens"],
            "expected_activations": [float(i % 3) for i in range(n_tokens)],
            "activation_scale": "simulated_normalized_activations",
            "distribution_values": [],
            "distribution_probabilities": [],
            "uncalibrated_simulation": None,
        },
        "true_activations": window["activations"],
        "ev_correlation_score": 0.5,
        "rsquared_score": None,
        "absolute_dev_explained_score": None,
    }
