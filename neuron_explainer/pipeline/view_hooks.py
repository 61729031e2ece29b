"""What the viewer asks a subject, a simulator and a run folder, each loaded when it is first asked.

Nothing heavy is imported: who makes the hooks hands in what imports it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, Protocol, TypeVar

from neuron_explainer.errors import NeuronExplainerError
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.pipeline.view_live import read_live
from neuron_explainer.pipeline.view_published import PublishedWeights
from neuron_explainer.pipeline.view_spec import spec_of_own
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.viewer.hooks import (
    AffectedTokens,
    Hooks,
    LayersReading,
    LiveStatus,
    OwnCost,
    OwnScore,
    RelatedUnits,
    UnitReading,
)

T = TypeVar("T")
OWN = ("cost_of_own", "score_own")


class PublishedSubject(NamedTuple):
    """What published records are of."""

    hub_id: str
    activation_function: str


class Subject(Protocol):
    """`view_asked.AskedSubject`"""

    def read_unit(self, neuron_id: NeuronId, text: str, /) -> UnitReading: ...
    def read_layers(
        self, layers: Sequence[int], text: str, among: Collection[NeuronId] | None,
        by_share: bool, /,
    ) -> LayersReading: ...  # fmt: skip
    def output_tokens(self, neuron_id: NeuronId, /) -> AffectedTokens: ...
    def related(self, neuron_id: NeuronId, /) -> RelatedUnits: ...


class Scorer(Protocol):
    """`view_own.OwnScorer`"""

    def cost(self, neuron_id: NeuronId, text: str, /) -> OwnCost: ...
    def score(self, neuron_id: NeuronId, text: str, /) -> OwnScore: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Makers:
    """Of a run's subject, and of its scorer with the choices of `spec_of_own`; each called once."""

    subject: Callable[[], Subject]
    scorer: Callable[[RunSpec], Scorer]


@contextmanager
def open_run_hooks(spec: RunSpec, folder: RunFolder, makers: Makers) -> Iterator[Hooks]:
    """Of a run, whatever it is at. spec: how models are reached, the device, the budget."""
    subject = _OnFirstUse(makers.subject)
    try:
        own_spec = spec_of_own(spec, folder)
    except NeuronExplainerError as error:
        yield _hooks(subject, None, lambda: read_live(folder), dict.fromkeys(OWN, str(error)))
        return
    scorer = _OnFirstUse(lambda: makers.scorer(own_spec))
    try:
        yield _hooks(subject, scorer, lambda: read_live(folder), {})
    finally:
        if scorer.made is not None:
            scorer.made.close()


def published_hooks(make_subject: Callable[[], Subject], weights: PublishedWeights) -> Hooks:
    """Of a published dataset; the subject tells what is not published of its weights."""
    no_run = "these are published records; start the viewer with --run for a run over them"
    reasons = dict.fromkeys((*OWN, "status"), no_run)
    subject = _OnFirstUse(make_subject)
    return replace(
        _hooks(subject, None, None, reasons),
        output_tokens=lambda unit: weights.output_tokens(unit) or subject().output_tokens(unit),
        related=lambda unit: weights.related(unit) or subject().related(unit),
    )


class _OnFirstUse(Generic[T]):
    """Made once, however many ask at the same time; tried again where it could not be made."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self.made: T | None = None

    def __call__(self) -> T:
        with self._lock:
            if self.made is None:
                self.made = self._make()
            return self.made


def _hooks(
    subject: _OnFirstUse[Subject],
    scorer: _OnFirstUse[Scorer] | None,
    status: Callable[[], LiveStatus] | None,
    reasons: dict[str, str],
) -> Hooks:
    return Hooks(
        read_unit=lambda neuron_id, text: subject().read_unit(neuron_id, text),
        read_layers=lambda layers, text, among, by_share: subject().read_layers(
            layers, text, among, by_share
        ),
        output_tokens=lambda neuron_id: subject().output_tokens(neuron_id),
        related=lambda neuron_id: subject().related(neuron_id),
        cost_of_own=None if scorer is None else lambda unit, text: scorer().cost(unit, text),
        score_own=None if scorer is None else lambda unit, text: scorer().score(unit, text),
        status=status,
        reasons=reasons,
    )
