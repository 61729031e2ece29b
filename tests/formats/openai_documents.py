"""Documents as the published dataset has them, made up; each call gives a new one to change."""

from __future__ import annotations

import json
from typing import Any

from neuron_explainer.formats.openai_json import Reading
from neuron_explainer.published.documents import Content, read_content
from neuron_explainer.published.locations import DocumentId, Kind
from neuron_explainer.records.neuron import NeuronId

ID = NeuronId(3, 17)


def encode(plain: Any) -> bytes:
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()


def read(kind: Kind, plain: Any) -> Reading[Any]:
    """`plain`: what the document says, or its bytes."""
    document = plain if isinstance(plain, bytes) else encode(plain)
    reading: Reading[Content] = read_content(which(kind), document)
    return reading


def which(kind: Kind, neuron_id: NeuronId = ID) -> DocumentId:
    return DocumentId("gpt2-xl", kind, neuron_id)


def plain_id(neuron_id: NeuronId = ID) -> dict[str, Any]:
    return {
        "dataclass_name": "NeuronId",
        "layer_index": neuron_id.layer_index,
        "neuron_index": neuron_id.neuron_index,
    }


def plain_window(*activations: float | None, name: str = "t") -> dict[str, Any]:
    return {
        "dataclass_name": "ActivationRecord",
        "tokens": [f" {name}{i}" for i in range(len(activations))],
        "activations": list(activations),
    }


def plain_record(neuron_id: NeuronId = ID) -> dict[str, Any]:
    """Two top windows, two random ones, a window in each of five bands."""
    return {
        "dataclass_name": "NeuronRecord",
        "neuron_id": plain_id(neuron_id),
        "random_sample": [plain_window(-0.1, 0.02), plain_window(0.0, -0.163, 0.4)],
        "random_sample_by_quantile": [[plain_window(0.1 + b, -0.02)] for b in range(5)],
        "quantile_boundaries": [None, 0.5, 1.5, 2.5, 3.5, None],
        "mean": -0.05, "variance": 0.02, "skewness": 9.1, "kurtosis": 150.0,
        "most_positive_activation_records": [plain_window(-0.1, 5.25, 1), plain_window(4.5, 0.0)],
    }  # fmt: skip


def plain_simulation(*expected: float | None) -> dict[str, Any]:
    return {
        "dataclass_name": "SequenceSimulation",
        "tokens": [f" t{i}" for i in range(len(expected))],
        "expected_activations": list(expected),
        "activation_scale": "simulated_normalized_activations",
        "distribution_values": [[0.0, 10.0] for _ in expected],
        "distribution_probabilities": [[0.25, 0.75] for _ in expected],
        "uncalibrated_simulation": None,
    }


def plain_scored_window(*true: float | None) -> dict[str, Any]:
    return {
        "dataclass_name": "ScoredSequenceSimulation",
        "simulation": plain_simulation(*(float(i) for i in range(len(true)))),
        "true_activations": list(true),
        "ev_correlation_score": 0.5, "rsquared_score": -3.5, "absolute_dev_explained_score": -1.0,
    }  # fmt: skip


def plain_explanation(text: str | None = " numbers below ten.") -> dict[str, Any]:
    windows = [plain_scored_window(0.1 * i, 2.0, -0.125) for i in range(10)]
    return {
        "dataclass_name": "ScoredExplanation",
        "explanation": text,
        "scored_simulation": {
            "dataclass_name": "ScoredSimulation",
            "scored_sequence_simulations": windows,
            "ev_correlation_score": 0.75, "rsquared_score": -8.25,
            "absolute_dev_explained_score": None,
        },
    }  # fmt: skip


def plain_results(neuron_id: NeuronId = ID, *texts: str | None) -> dict[str, Any]:
    return {
        "dataclass_name": "NeuronSimulationResults",
        "neuron_id": plain_id(neuron_id),
        "scored_explanations": [plain_explanation(t) for t in texts or (" numbers below ten.",)],
    }


def plain_tokens_by_activation() -> dict[str, Any]:
    return {
        "dataclass_name": "TokenLookupTableSummaryOfNeuron",
        "tokens": [" two", " half", "\ufffd"],
        "average_activations": [2.125, 1.5, None],
    }


def plain_tokens_by_weight() -> dict[str, Any]:
    lists: dict[str, tuple[list[str], list[float | None]]] = {
        "input_positive": ([" two"], [3.5]),
        "input_negative": ([" cat", "\n"], [-1.0, None]),
        "output_positive": ([], []),
        "output_negative": ([" so"], [-0.5]),
    }
    return {
        "dataclass_name": "WeightBasedSummaryOfNeuron",
        **{
            name: {"dataclass_name": "TokensAndWeights", "tokens": tokens, "strengths": strengths}
            for name, (tokens, strengths) in lists.items()
        },
    }


def plain_related_neurons() -> dict[str, Any]:
    return {
        "c_fc": None,
        "c_proj": {
            "top_positive_neurons": ["4_17", "11_0"], "top_positive_weights": [1.25, None],
            "top_negative_neurons": ["5_2"], "top_negative_weights": [-1.0],
        },
    }  # fmt: skip


def plain_document(kind: Kind, neuron_id: NeuronId = ID) -> dict[str, Any]:
    match kind:
        case Kind.ACTIVATIONS:
            return plain_record(neuron_id)
        case Kind.EXPLANATIONS:
            return plain_results(neuron_id)
        case Kind.TOKENS_BY_ACTIVATION:
            return plain_tokens_by_activation()
        case Kind.TOKENS_BY_WEIGHT:
            return plain_tokens_by_weight()
        case Kind.RELATED_NEURONS:
            return plain_related_neurons()
