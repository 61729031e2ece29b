"""Explanations of the units of language models, with scores of how well they predict them."""

from neuron_explainer.errors import NeuronExplainerError
from neuron_explainer.records.explanation import Explanation, TokenLookupTable
from neuron_explainer.records.neuron import (
    ActivationRecord,
    Moments,
    NeuronId,
    NeuronRecord,
    Stratum,
)
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.score import Score, ScoredSimulation, ScoredWindow
from neuron_explainer.records.simulation import SequenceSimulation

__all__ = [
    "ActivationRecord",
    "ActivationScale",
    "Explanation",
    "Moments",
    "NeuronExplainerError",
    "NeuronId",
    "NeuronRecord",
    "Score",
    "ScoredSimulation",
    "ScoredWindow",
    "SequenceSimulation",
    "Stratum",
    "TokenLookupTable",
]
