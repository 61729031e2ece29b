"""What the report shows: one row for each neuron, and a few neurons in full."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.patterns import Pattern
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.score import (
    ABSOLUTE_DEV_EXPLAINED,
    BY_CHANCE,
    EXPLAINED_VARIANCE,
    FULL_DISTRIBUTION,
    RANDOM_ONLY,
    TOP_AND_RANDOM,
    TOP_ONLY,
    Score,
    reason_kind,
)
from neuron_explainer.stores.comparison import PairedScores
from neuron_explainer.stores.makers import Makers

SCORE_LABELS: Mapping[str, str] = {
    TOP_AND_RANDOM: "top-and-random",
    FULL_DISTRIBUTION: "full-distribution",
    RANDOM_ONLY: "random-only",
    TOP_ONLY: "top-only",
    BY_CHANCE: "by chance",
    EXPLAINED_VARIANCE: "explained variance",
    ABSOLUTE_DEV_EXPLAINED: "absolute deviation explained",
}
"""Name of a score -> how the page calls it, in the order it shows them."""


@dataclass(frozen=True, slots=True)
class ReportWindow:
    """One held-out window: what the neuron does and what was predicted, token by token."""

    subset: str
    """`top` or `random`."""
    tokens: tuple[str, ...]
    """Display strings."""
    real: tuple[float | None, ...]
    """Raw activations, negative ones included; None where the position does not count."""
    simulated: tuple[float | None, ...]
    """In the units of the neuron's `simulated_scale`; None where there is no prediction."""
    score: Score
    """Agreement on this window alone."""

    def __post_init__(self) -> None:
        if not len(self.tokens) == len(self.real) == len(self.simulated):
            raise ValueError(
                f"{len(self.tokens)} tokens, {len(self.real)} real activations and "
                f"{len(self.simulated)} simulated ones do not go together"
            )
        # What filter drops, None and 0, is fine.
        if not all(map(math.isfinite, filter(None, (*self.real, *self.simulated)))):
            raise ValueError("an activation is not finite; a missing prediction is None")


@dataclass(frozen=True, slots=True)
class ReportStratum:
    """How many windows have their largest activation in one band."""

    low: float | None
    """The band starts here; None: unbounded below."""
    high: float | None
    """The band ends before this; None: unbounded above."""
    population: int | None


@dataclass(frozen=True, slots=True)
class ReportNeuron:
    """One neuron shown in full, as a card."""

    neuron_id: NeuronId
    text: str
    """The explanation."""
    makers: Makers
    scores: Mapping[str, Score]
    """By the names of `SCORE_LABELS`; an absent name is not shown."""
    max_activation: float
    """The largest raw activation on record: full colour."""
    windows: tuple[ReportWindow, ...]
    """All are embedded; the first of each subset is open, the others are folded away."""
    simulated_scale: ActivationScale = ActivationScale.NEURON
    """Raw predictions share the colours of reality; normalized ones are coloured from 0 to 10."""
    baselines: Mapping[str, Score] = field(default_factory=dict)
    """Headline scores by other methods, by their display name."""
    strata: tuple[ReportStratum, ...] = ()
    density: float | None = None
    """Share of the recorded tokens on which the neuron is above 0; None: not counted."""
    patterns: tuple[Pattern, ...] = ()
    """Behind the explanation, where it was made of some."""


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One neuron in the table of all."""

    neuron_id: NeuronId
    text: str | None
    """The explanation; None where there is none."""
    scores: Mapping[str, Score] = field(default_factory=dict)
    """By the names of `SCORE_LABELS`; those of the summary are counted from here."""
    reason: str | None = None
    """Why there is no explanation or no score; None: what the headline score says."""

    @property
    def value(self) -> float | None:
        """The headline score."""
        return self.scores[TOP_AND_RANDOM].value if TOP_AND_RANDOM in self.scores else None

    @property
    def unscored_reason(self) -> str | None:
        """None exactly where there is a headline score."""
        if self.value is not None:
            return None
        if self.reason is None and TOP_AND_RANDOM in self.scores:
            return self.scores[TOP_AND_RANDOM].reason
        return self.reason or "not scored"


@dataclass(frozen=True, slots=True)
class ReportBaseline:
    """Another method's scores of the same neurons, shown beside those of the explanations."""

    label: str
    values: tuple[float, ...]
    """Its headline scores, one for each neuron that it scores."""


@dataclass(frozen=True, slots=True)
class ReportSide:
    """What one of two methods says of a neuron."""

    text: str
    """The explanation."""
    score: Score
    makers: Makers
    scale: ActivationScale | None
    """Of its predictions; None: there are no windows to show."""


@dataclass(frozen=True, slots=True)
class PairedWindow:
    """One held-out window, as it is and as two methods predict it."""

    this: ReportWindow
    other: ReportWindow

    def __post_init__(self) -> None:
        if (self.this.tokens, self.this.real) != (self.other.tokens, self.other.real):
            raise ValueError("two windows of other tokens or activations cannot be paired")


@dataclass(frozen=True, slots=True)
class ReportMover:
    """A neuron that the two methods score differently, with what both say of it."""

    neuron_id: NeuronId
    difference: float
    this: ReportSide
    other: ReportSide
    max_activation: float
    """The largest raw activation on record: full colour."""
    windows: tuple[PairedWindow, ...]
    """Empty where the two were scored on other windows."""


@dataclass(frozen=True, slots=True)
class ReportComparison:
    """The scores beside another method's, neuron by neuron."""

    paired: PairedScores
    makers: tuple[Makers, ...]
    """All that this method's scores came from, each once."""
    other_makers: tuple[Makers, ...]
    gains: tuple[ReportMover, ...]
    """The largest first."""
    losses: tuple[ReportMover, ...]
    """The largest first."""


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything on the page; the same data gives the same bytes."""

    title: str
    subject: str
    """The model that is explained, in a few words."""
    facts: tuple[tuple[str, str], ...]
    """What was run, as terms and values: model, corpus, tokens, seed, date, version."""
    rows: tuple[ReportRow, ...]
    """Every neuron of the run once, scored or not."""
    best: tuple[ReportNeuron, ...] = ()
    middle: tuple[ReportNeuron, ...] = ()
    worst: tuple[ReportNeuron, ...] = ()
    notice: str | None = None
    """A sentence that must not be missed, such as that this is a preview."""
    makers: tuple[Makers, ...] = ()
    """All that the scores of the rows came from, each once."""
    baselines: tuple[ReportBaseline, ...] = ()
    comparison: ReportComparison | None = None
    """None: the scores are read beside no other method."""

    def __post_init__(self) -> None:
        repeated = [i for i, n in Counter(row.neuron_id for row in self.rows).items() if n > 1]
        if repeated:
            raise ValueError(
                f"{len(repeated)} neurons are in more than one row, such as {repeated[0]}"
            )

    @property
    def unscored(self) -> Mapping[str, int]:
        """Reason -> neurons, most frequent first; a reason counts by its part before a colon."""
        reasons = (row.unscored_reason for row in self.rows)
        counts = Counter(reason_kind(reason) for reason in reasons if reason is not None)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def label_of(name: str) -> str:
    return SCORE_LABELS.get(name, name.replace("_", " "))


def score_names(rows: Iterable[ReportRow]) -> list[str]:
    """Names that any row has, the headline always; in the order of `SCORE_LABELS`, others last."""
    present = {TOP_AND_RANDOM}.union(*(row.scores for row in rows))
    known = [name for name in SCORE_LABELS if name in present]
    return known + sorted(present.difference(known))


def score_values(rows: Iterable[ReportRow], name: str) -> list[float]:
    """The values there are, in the order of the rows."""
    scores = (row.scores.get(name) for row in rows)
    return [score.value for score in scores if score is not None and score.value is not None]
