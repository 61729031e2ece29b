"""Explanations of the units of language models, with scores of how well they predict them."""

from importlib import import_module
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from neuron_explainer.notebook import Neuron, Run, open_run
    from neuron_explainer.pipeline.lookup_frame import look_up_many

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
    "look_up_many",
    "open_run",
]
_HOME_OF = {
    **dict.fromkeys(("Neuron", "Run", "open_run"), "neuron_explainer.notebook"),
    "look_up_many": "neuron_explainer.pipeline.lookup_frame",
}
"""Loaded when they are first used: they need numpy, which a command's start does not wait for."""

if not TYPE_CHECKING:  # or any name would pass for one of the package's

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOME_OF[name]), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
