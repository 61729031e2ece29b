"""What is known of one unit: its id, windows of text with its activations, and its moments."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from operator import index
from typing import SupportsFloat, SupportsIndex

from neuron_explainer.errors import UsageError

MOST_SHOWN = 60
"""Letters of what is no neuron."""
DEAD_UNIT = "dead unit: never active on the recorded text"
"""Why such a unit has neither an explanation nor a score."""


@dataclass(frozen=True, slots=True, order=True)
class NeuronId:
    """Which unit of the store's site; both numbers from 0. Written `9:6236`."""

    layer_index: int
    neuron_index: int

    def __str__(self) -> str:
        return f"{self.layer_index}:{self.neuron_index}"

    @classmethod
    def parse(cls, text: str) -> NeuronId:
        """`"9:6236"` -> `NeuronId(9, 6236)`; UsageError for anything else."""
        match = re.fullmatch(r"\s*(\d{1,18}):(\d{1,18})\s*", text)
        if match is None:
            shown = repr(text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…")
            raise UsageError(f"{shown} is not a neuron; write LAYER:NEURON, such as 2:417")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def of(cls, layer_index: object, neuron_index: object) -> NeuronId:
        """Of whole numbers of any kind, numpy's and 9.0 too; UsageError for anything else."""
        return cls(_whole(layer_index), _whole(neuron_index))


@dataclass(frozen=True, slots=True)
class ActivationRecord:
    """One window of text and the unit's raw activation on each of its tokens."""

    tokens: tuple[str, ...]
    """Display strings, one a token."""
    activations: tuple[float | None, ...]
    """Raw activations, negative ones included; None: the position does not count.

    As many as there are tokens, at least one of them a number.
    """

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.activations):
            raise ValueError(f"{len(self.activations)} activations for {len(self.tokens)} tokens")

    @property
    def max_activation(self) -> float:
        return max(activation for activation in self.activations if activation is not None)


@dataclass(frozen=True, slots=True)
class Stratum:
    """A band of the per-window maximum, with a uniform sample of the windows that fall in it."""

    low: float | None
    """Smallest per-window maximum in the band; None: unbounded below."""
    high: float | None
    """The band ends before this maximum; None: unbounded above."""
    population: int | None
    """How many record windows fall in the band, the unit's top windows left out; None: not said."""
    records: tuple[ActivationRecord, ...]


@dataclass(frozen=True, slots=True)
class Moments:
    """Moments of the activation over all tokens of the record documents.

    The variance is the population's; a normal distribution has kurtosis 3. Skewness and kurtosis
    are None for a unit that is constant. In a record of others any may be None: they do not say.
    """

    n_tokens: int | None
    mean: float | None
    variance: float | None
    skewness: float | None
    kurtosis: float | None


@dataclass(frozen=True, slots=True)
class NeuronRecord:
    """Everything collected about one unit."""

    neuron_id: NeuronId
    top: tuple[ActivationRecord, ...]
    """The windows with the largest maximum, descending; ties by window id."""
    strata: tuple[Stratum, ...]
    """Bands of the per-window maximum, lowest first."""
    random: tuple[ActivationRecord, ...]
    """Windows drawn without a look at the unit; those also in top or a stratum are left out."""
    moments: Moments
    density: float | None = None
    """Share of the recorded tokens on which the activation is above 0; None: not counted."""

    @property
    def max_activation(self) -> float:
        """The largest activation ever recorded for the unit."""
        return self.top[0].max_activation

    @property
    def n_windows_beside_top(self) -> int | None:
        """Windows of the record text that are not among the top ones; None: not said."""
        populations = [stratum.population for stratum in self.strata]
        known = [n for n in populations if n is not None]
        return sum(known) if known and len(known) == len(populations) else None

    @property
    def is_dead(self) -> bool:
        """Whether there are windows and the unit is positive in none of them."""
        in_strata = (window for stratum in self.strata for window in stratum.records)
        windows = [*self.top, *in_strata, *self.random]
        return bool(windows) and all(window.max_activation <= 0 for window in windows)


def _whole(number: object) -> int:
    with suppress(TypeError):  # an array, which has one only if it has one element
        if isinstance(number, SupportsIndex):
            return index(number)
        if isinstance(number, SupportsFloat) and float(number).is_integer():
            return int(number)  # type: ignore[call-overload, no-any-return]
    raise UsageError(
        f"{number!r:.80} numbers no layer and no neuron; give whole numbers, both from 0"
    )
