"""Explanations of the units of language models, with scores of how well they predict them."""

from neuron_explainer.errors import NeuronExplainerError
from neuron_explainer.notebook import Neuron, Run, open_run
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
    "Neuron",
    "NeuronExplainerError",
    "NeuronId",
    "NeuronRecord",
    "Run",
    "Score",
    "ScoredSimulation",
    "ScoredWindow",
    "SequenceSimulation",
    "Stratum",
    "TokenLookupTable",
    "open_run",
]
