"""What the published dataset says of one unit, as its files say it (Bills et al. 2023).

The files do not say some of what our own records hold (how many windows fall in a band, how many
tokens the moments are over), and hold some of what ours do not (distributions, two more scores).
None is what a file gives as null or leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from neuron_explainer.records.neuron import ActivationRecord, NeuronId
from neuron_explainer.records.simulation import SequenceSimulation

Values: TypeAlias = tuple[float | None, ...]

RSQUARED_AS_FOUND = "rsquared_as_found"
"""Name of a score: 1 − mean((r − p)²) / mean(r²) of the activations that a file holds."""
ABSOLUTE_DEV_AS_FOUND = "absolute_dev_explained_as_found"
"""Name of a score: 1 − mean(|r − p|) / mean(|r|) of the activations that a file holds.

Published simulations are on the scale 0 to 10 and not calibrated, which makes both meaningless.
"""


@dataclass(frozen=True, slots=True)
class PublishedRecord:
    """A unit's windows and moments: the class `NeuronRecord` of the files."""

    neuron_id: NeuronId
    top: tuple[ActivationRecord, ...]
    """In the file's order, by the largest activation, descending."""
    random: tuple[ActivationRecord, ...]
    bands: tuple[tuple[ActivationRecord, ...], ...] = ()
    """Samples of windows by their largest activation, lowest band first."""
    boundaries: Values = ()
    """Where the bands begin, and where the last one ends: one more than there are bands.

    None: unbounded at either end, not said in between.
    """
    mean: float | None = None
    variance: float | None = None
    skewness: float | None = None
    kurtosis: float | None = None

    def __post_init__(self) -> None:
        if self.bands and len(self.boundaries) != len(self.bands) + 1:
            raise ValueError(f"{len(self.boundaries)} boundaries for {len(self.bands)} bands")
        if self.boundaries and not self.bands:
            raise ValueError("boundaries of no bands")


class Distribution(NamedTuple):
    """What a simulator thinks of one token."""

    values: Values
    """Activations, on the simulation's scale."""
    probabilities: Values
    """As many as there are values."""


@dataclass(frozen=True, slots=True)
class PublishedSimulation:
    """Predicted activations of one window: the class `SequenceSimulation` of the files."""

    predicted: SequenceSimulation
    distributions: tuple[Distribution, ...] = ()
    """One a token, or none at all."""
    uncalibrated: PublishedSimulation | None = None
    """What it was before calibration."""


@dataclass(frozen=True, slots=True)
class PublishedWindow:
    """One scored window: the class `ScoredSequenceSimulation` of the files."""

    simulation: PublishedSimulation
    true_activations: Values
    """Raw; as many as there are tokens."""
    ev_correlation_score: float | None
    rsquared_score: float | None = None
    absolute_dev_explained_score: float | None = None


@dataclass(frozen=True, slots=True)
class PublishedExplanation:
    """A text and its scores: the classes `ScoredExplanation` and `ScoredSimulation` of the files.

    The scores are over the tokens of all windows together.
    """

    text: str
    """As the model wrote it: most begin with a space and end with a period."""
    windows: tuple[PublishedWindow, ...]
    """Published: five top windows, then five random ones."""
    ev_correlation_score: float | None = None
    rsquared_score: float | None = None
    absolute_dev_explained_score: float | None = None


@dataclass(frozen=True, slots=True)
class PublishedResults:
    """A unit's explanations, best known first: the class `NeuronSimulationResults` of the files."""

    neuron_id: NeuronId
    explanations: tuple[PublishedExplanation, ...]


class TokenValue(NamedTuple):
    """A token, and its mean activation or its weight."""

    token: str
    value: float | None


@dataclass(frozen=True, slots=True)
class TokensByActivation:
    """Tokens with the largest mean activation, descending."""

    tokens: tuple[TokenValue, ...]


@dataclass(frozen=True, slots=True)
class TokensByWeight:
    """Tokens by how strongly a unit's weights read or write them, context left aside."""

    input_positive: tuple[TokenValue, ...]
    input_negative: tuple[TokenValue, ...]
    output_positive: tuple[TokenValue, ...]
    output_negative: tuple[TokenValue, ...]


class RelatedNeuron(NamedTuple):
    """Another unit, and the weight between the two."""

    neuron_id: NeuronId
    weight: float | None


@dataclass(frozen=True, slots=True)
class NeuronsByWeight:
    """The units of one direction, strongest first."""

    positive: tuple[RelatedNeuron, ...]
    negative: tuple[RelatedNeuron, ...]


@dataclass(frozen=True, slots=True)
class RelatedNeurons:
    """Units before and behind a unit, by the product of their weights; None: there are none."""

    upstream: NeuronsByWeight | None
    """Those it reads: `c_fc` of the files."""
    downstream: NeuronsByWeight | None
    """Those that read it: `c_proj` of the files."""
