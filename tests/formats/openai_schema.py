"""What OpenAI's own loader demands of a document, written down from the published classes.

`fast_dataclasses`: an object names its class first, a field that the class has not is refused, as
is one without a default that is missing. No number may be NaN or infinite: orjson takes none.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

SCORES = ("ev_correlation_score", "rsquared_score", "absolute_dev_explained_score")
FIELDS: dict[str, tuple[str, ...]] = {
    "NeuronId": ("layer_index", "neuron_index"),
    "ActivationRecord": ("tokens", "activations"),
    "NeuronRecord": (
        "neuron_id", "random_sample", "random_sample_by_quantile", "quantile_boundaries",
        "mean", "variance", "skewness", "kurtosis", "most_positive_activation_records",
    ),
    "SequenceSimulation": (
        "tokens", "expected_activations", "activation_scale", "distribution_values",
        "distribution_probabilities", "uncalibrated_simulation",
    ),
    "ScoredSequenceSimulation": ("simulation", "true_activations", *SCORES),
    "ScoredSimulation": ("scored_sequence_simulations", *SCORES),
    "ScoredExplanation": ("explanation", "scored_simulation"),
    "NeuronSimulationResults": ("neuron_id", "scored_explanations"),
    "TokenLookupTableSummaryOfNeuron": ("tokens", "average_activations"),
    "TokensAndWeights": ("tokens", "strengths"),
    "WeightBasedSummaryOfNeuron": (
        "input_positive", "input_negative", "output_positive", "output_negative",
    ),
}  # fmt: skip


def assert_loadable(document: bytes) -> None:
    """Of one line, compact, and of the right classes throughout; related neurons name none."""
    text = document.decode()
    assert len(text.splitlines()) == 1
    plain = json.loads(text, parse_constant=_refuse)
    assert len(text.rstrip("\n")) <= len(json.dumps(plain, separators=(",", ":")))
    _assert_classes(plain)


def _assert_classes(plain: Any) -> None:
    if isinstance(plain, list):
        for item in plain:
            _assert_classes(item)
    elif isinstance(plain, float):
        assert math.isfinite(plain)
    elif isinstance(plain, dict):
        keys = list(plain)
        if not ({"c_fc", "top_positive_neurons"} & set(keys)):
            assert keys[0] == "dataclass_name"
            assert set(keys[1:]) == set(FIELDS[plain["dataclass_name"]])
        for value in plain.values():
            _assert_classes(value)


def _refuse(literal: str) -> NoReturn:
    raise AssertionError(f"{literal} is no JSON")
