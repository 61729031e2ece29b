"""What the viewer asks of others: a subject that reads text, a simulator, how a run is doing.

The viewer starts without torch. Who starts it hands in callables, one `Hooks` for each source; what
they need is loaded when they are first called. Each may raise a NeuronExplainerError, whose message
the page shows. They are called from threads, also from several at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields

from neuron_explainer.records.cost import UnitCost
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import ScoredSimulation
from neuron_explainer.records.unit_result import UnitResult


@dataclass(frozen=True, slots=True)
class ReadText:
    """A text as the subject reads it: as much of it as fits a window of the collection."""

    tokens: tuple[str, ...]
    """Display strings; the separator before the text is none of them."""
    n_left_out: int
    """Tokens at the end that did not fit."""


@dataclass(frozen=True, slots=True)
class UnitReading:
    """What one unit does on a text."""

    text: ReadText
    activations: tuple[float | None, ...]
    """Raw, one a token; None: the position does not count."""


@dataclass(frozen=True, slots=True)
class Firing:
    """A unit that is active on a token."""

    neuron_id: NeuronId
    activation: float
    """Raw, more than 0."""
    share: float | None
    """Of the unit's largest activation on record; None: there is none above 0, or it is not known
    without reading every record."""


@dataclass(frozen=True, slots=True)
class LayersReading:
    """What the units of some layers do on a text."""

    text: ReadText
    layers: tuple[int, ...]
    """Those that were read, ascending."""
    n_units: int
    """Among which the strongest were looked for."""
    by_share: bool
    """Whether the units were ranked by `Firing.share`, one without coming last; else by
    activation."""
    firing: tuple[tuple[Firing, ...] | None, ...]
    """One a token: the most active units, the strongest first; empty: none is above 0; None: the
    position does not count in any of the layers."""


@dataclass(frozen=True, slots=True)
class AffectedToken:
    """A token whose logit a unit's output weights change."""

    token: str
    """Display string."""
    effect: float
    """Change of the logit for one unit of activation, times what the final norm divides by."""


@dataclass(frozen=True, slots=True)
class AffectedTokens:
    """Those that are changed most, the strongest first."""

    promoted: tuple[AffectedToken, ...]
    suppressed: tuple[AffectedToken, ...]


@dataclass(frozen=True, slots=True)
class RelatedUnit:
    """A unit of another layer, by weights alone."""

    neuron_id: NeuronId
    weight: float
    """Change of the later one's input for one unit of the earlier one's activation, times what
    the norm between them divides by."""
    is_collected: bool
    """Whether the source has it, so that it has a page."""


@dataclass(frozen=True, slots=True)
class RelatedUnits:
    """The strongest by weight among all units of the subject; the strongest first."""

    upstream_positive: tuple[RelatedUnit, ...]
    upstream_negative: tuple[RelatedUnit, ...]
    downstream_positive: tuple[RelatedUnit, ...]
    downstream_negative: tuple[RelatedUnit, ...]


@dataclass(frozen=True, slots=True)
class OwnCost:
    """What it takes to score an explanation, before anybody is asked."""

    simulator: str
    """Which would predict from it, such as `openai:gpt-4o-mini`."""
    asked: str
    """Requests, tokens and dollars at most, for a person."""
    cost_usd: float | None
    """At most; None: the price of the model is not known."""
    left_usd: float | None
    """Of the budget; None: there is no limit."""

    @property
    def fits(self) -> bool:
        """Whether it is known to go beyond no budget; a price that is not known fits none."""
        return self.left_usd is None or (
            self.cost_usd is not None and self.cost_usd <= self.left_usd
        )


@dataclass(frozen=True, slots=True)
class OwnScore:
    """An explanation that somebody wrote, scored as those of the run are."""

    scored: ScoredSimulation
    cost: UnitCost
    """What was asked for it; an answer that was known already costs nothing."""


@dataclass(frozen=True, slots=True)
class LiveStatus:
    """What a run is at."""

    is_running: bool
    stage: str | None
    """Under way, or last; None: none has begun."""
    unit: str
    """What the stage counts: tokens, neurons."""
    n_done: int
    n_total: int
    rate: str | None
    """`12 neurons/min`; None: not known, or nobody goes on with it."""
    left: str | None
    """`3.5 h` until the stage is done at this rate; None: not known, or nobody goes on with it."""
    spent_usd: float | None
    """On language models for all that was ever asked in the run; None: some of it has no known
    price."""
    cost: UnitCost | None
    """Of the units that have a result; None: no language model was asked."""
    n_scored: int
    mean_score: float | None
    """None: nothing is scored yet."""
    unscored: Mapping[str, int]
    """Reason -> units, the most frequent first."""
    newest: tuple[UnitResult, ...]
    """The last results, the newest first."""
    notes: tuple[str, ...] = ()
    """More of it, a line each: shards, batches at a provider."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """Of one source. A hook that is None has its reason, by its name, in `reasons`."""

    read_unit: Callable[[NeuronId, str], UnitReading] | None = None
    """(unit, text)"""
    read_layers: (
        Callable[[Sequence[int], str, Collection[NeuronId] | None, bool], LayersReading] | None
    ) = None
    """(layers, text, units to look among; None: all of these layers that the source has; whether
    to rank by share, where that is known)"""
    output_tokens: Callable[[NeuronId], AffectedTokens] | None = None
    related: Callable[[NeuronId], RelatedUnits] | None = None
    cost_of_own: Callable[[NeuronId, str], OwnCost] | None = None
    """(unit, explanation)"""
    score_own: Callable[[NeuronId, str], OwnScore] | None = None
    """The same; BudgetExceeded before anybody is asked where the cost does not fit."""
    status: Callable[[], LiveStatus] | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        absent = {name for name in HOOKS if getattr(self, name) is None}
        if absent != set(self.reasons):
            raise ValueError(f"{sorted(absent ^ set(self.reasons))}: a hook or a reason, not both")


HOOKS = tuple(f.name for f in fields(Hooks) if f.name != "reasons")


def no_hooks(reason: str) -> Hooks:
    """For a source of which nothing can be asked."""
    return Hooks(reasons=dict.fromkeys(HOOKS, reason))
