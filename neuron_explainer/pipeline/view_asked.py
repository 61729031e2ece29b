"""The subject that the viewer asks about texts and weights; it is loaded on first use, from this
machine alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from neuron_explainer.errors import UnitNotFound
from neuron_explainer.pipeline.collected import load_collected, open_collected
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.pipeline.text_activations import ReadTokens, TextReader
from neuron_explainer.pipeline.view_hooks import PublishedSubject
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.stores.record_source import RecordSource
from neuron_explainer.subject.model import Subject, load_subject
from neuron_explainer.subject.output_tokens import OutputTokenReader
from neuron_explainer.subject.related_units import WeightedUnit, find_related
from neuron_explainer.subject.source import ActivationSource, SubjectSource
from neuron_explainer.viewer.hooks import (
    AffectedToken,
    AffectedTokens,
    Firing,
    LayersReading,
    ReadText,
    RelatedUnit,
    RelatedUnits,
    UnitReading,
)

N_FIRING = 5
"""Units that are named of a token."""
N_RELATED = 10
TINY = 1e-6
Loaded = tuple[Subject, ActivationSource]


def ask_collected(spec: RunSpec, folder: RunFolder, records: RecordSource) -> AskedSubject:
    """The subject of a run, which reads a text as it read the corpus."""

    def load() -> Loaded:
        subject = load_collected(spec, folder, only_here=True)
        return subject, open_collected(subject, folder)

    return AskedSubject(load, records)


def ask_published(
    spec: RunSpec, published: PublishedSubject, records: RecordSource
) -> AskedSubject:
    """The subject of a published dataset, read as its authors read it."""

    def load() -> Loaded:
        subject = load_subject(
            published.hub_id, dtype=spec.dtype, device=spec.device,
            activation_function=published.activation_function, only_here=True,
        )  # fmt: skip
        return subject, SubjectSource(subject)

    return AskedSubject(load, records)


class AskedSubject:
    """Loads the subject when it is first asked; one thing at a time is computed with it."""

    def __init__(self, load: Callable[[], Loaded], records: RecordSource) -> None:
        self._load = load
        self._records = records
        self._lock = threading.Lock()
        self._maxima: dict[int, Tensor] = {}

    def read_unit(self, neuron_id: NeuronId, text: str) -> UnitReading:
        layer, unit = neuron_id.layer_index, neuron_id.neuron_index
        self._require([neuron_id])
        values: list[float | None] = []

        def receive(_layer: int, activations: Tensor, counted: Tensor | None) -> None:
            row = activations[:, unit].float().tolist()
            is_counted = [True] * len(row) if counted is None else counted.tolist()
            values.extend(a if is_one else None for a, is_one in zip(row, is_counted, strict=True))

        with self._lock:
            tokens = self._reader.read_layers(text, [layer], receive)
        return UnitReading(_as_read(tokens), tuple(values))

    def read_layers(
        self,
        layers: Sequence[int],
        text: str,
        among: Collection[NeuronId] | None,
        by_share: bool,
    ) -> LayersReading:
        """UnitNotFound for a layer or a unit that was not collected."""
        wanted = sorted(set(layers))
        missing = [layer for layer in wanted if layer not in self._records.manifest.layers]
        if missing or not wanted:
            has = ", ".join(map(str, self._records.manifest.layers))
            raise UnitNotFound(f"layer {missing[0] if missing else '?'}: there are layers {has}")
        if among is not None:
            self._require(among)
        with self._lock:
            units = self._units if among is None else _by_layer(among)
            maxima = self._maxima_of(wanted)
            strongest = _Strongest(
                {layer: units.get(layer, []) for layer in wanted},
                maxima,
                by_share=by_share and maxima is not None,
            )
            tokens = self._reader.read_layers(text, wanted, strongest.receive)
        n_units = sum(len(units.get(layer, [])) for layer in wanted)
        return LayersReading(
            _as_read(tokens), tuple(wanted), n_units, strongest.by_share, strongest.of_tokens()
        )

    def output_tokens(self, neuron_id: NeuronId) -> AffectedTokens:
        with self._lock:
            found = self._output_reader.read(neuron_id.layer_index, neuron_id.neuron_index)
        return AffectedTokens(
            tuple(map(AffectedToken, found.promoted, found.raised_by)),
            tuple(map(AffectedToken, found.suppressed, found.lowered_by)),
        )

    def related(self, neuron_id: NeuronId) -> RelatedUnits:
        with self._lock:
            found = find_related(
                self._subject, neuron_id.layer_index, neuron_id.neuron_index, N_RELATED
            )
            return RelatedUnits(
                *map(self._as_related, (*found.upstream, *found.downstream)),
            )

    @cached_property
    def _loaded(self) -> Loaded:
        return self._load()

    @property
    def _subject(self) -> Subject:
        return self._loaded[0]

    @cached_property
    def _reader(self) -> TextReader:
        subject, source = self._loaded
        return TextReader(source, subject.tokenizer, self._records.manifest.n_ctx)

    @cached_property
    def _output_reader(self) -> OutputTokenReader:
        return OutputTokenReader(self._subject, N_RELATED)

    @cached_property
    def _units(self) -> dict[int, list[int]]:
        """By layer, ascending; those of the collection."""
        return _by_layer(self._records.neuron_ids())

    def _maxima_of(self, layers: Sequence[int]) -> dict[int, Tensor] | None:
        """By layer (number of the unit,), 0 where none is on record; None: only a collection of
        one's own can tell all at once."""
        if not isinstance(self._records, NeuronStore):
            return None
        for layer in layers:
            if layer not in self._maxima:
                units = torch.tensor(self._units[layer])
                of_layer = torch.zeros(self._subject.d_mlp)
                of_layer[units] = torch.from_numpy(self._records.read_maxima(layer))
                self._maxima[layer] = of_layer
        return {layer: self._maxima[layer] for layer in layers}

    @cached_property
    def _unit_sets(self) -> Mapping[int, frozenset[int]]:
        return {layer: frozenset(units) for layer, units in self._units.items()}

    def _require(self, neuron_ids: Iterable[NeuronId]) -> None:
        for neuron_id in neuron_ids:
            if not self._has(neuron_id):
                raise UnitNotFound(f"neuron {neuron_id} was not collected")

    def _has(self, neuron_id: NeuronId) -> bool:
        return neuron_id.neuron_index in self._unit_sets.get(neuron_id.layer_index, frozenset())

    def _as_related(self, units: Iterable[WeightedUnit]) -> tuple[RelatedUnit, ...]:
        ids = ((NeuronId(layer, neuron), weight) for layer, neuron, weight in units)
        return tuple(RelatedUnit(one, weight, self._has(one)) for one, weight in ids)


class _Strongest:
    """Keeps the most active units of each token, layer by layer; the activations go."""

    def __init__(
        self,
        units: Mapping[int, Sequence[int]],
        maxima: Mapping[int, Tensor] | None,
        *,
        by_share: bool,
    ) -> None:
        """units: by layer, those to look among. maxima: by layer (unit,), on record; 0: none."""
        self.by_share = by_share
        self._units = units
        self._maxima = maxima
        self._layers: list[_Top] = []
        self._counted: Tensor | None = None  # (token,) in any layer

    def receive(self, layer: int, activations: Tensor, counted: Tensor | None) -> None:
        units = torch.tensor(self._units[layer], dtype=torch.long, device=activations.device)
        chosen = activations.index_select(1, units).float()  # (token, unit)
        is_counted = torch.ones_like(activations[:, 0], dtype=torch.bool)
        if counted is not None:
            is_counted = counted
            chosen = chosen.masked_fill(~counted[:, None], -torch.inf)
        shares = self._shares(layer, units, chosen)
        rank_by = shares if shares is not None and self.by_share else chosen
        places = rank_by.topk(min(N_FIRING, chosen.shape[1]), dim=1).indices  # (token, place)
        taken = None if shares is None else shares.gather(1, places).tolist()
        values = chosen.gather(1, places).tolist()
        self._layers.append(_Top(layer, units[places].tolist(), values, taken))
        before = self._counted
        self._counted = is_counted.cpu() if before is None else before | is_counted.cpu()

    def of_tokens(self) -> tuple[tuple[Firing, ...] | None, ...]:
        assert self._counted is not None
        return tuple(
            self._of_token(token) if is_counted else None
            for token, is_counted in enumerate(self._counted.tolist())
        )

    def _shares(self, layer: int, units: Tensor, chosen: Tensor) -> Tensor | None:
        """(token, unit) of the largest on record; 0 where there is none, or nothing is active."""
        if self._maxima is None:
            return None
        most = self._maxima[layer].to(chosen.device)[units]  # (unit,)
        return torch.where((chosen > 0) & (most > 0), chosen / most.clamp(min=TINY), 0.0)

    def _of_token(self, token: int) -> tuple[Firing, ...]:
        found = [one for top in self._layers for one in top.of_token(token)]

        def place(one: Firing) -> tuple[float, float, NeuronId]:
            share = one.share or 0.0 if self.by_share else 0.0
            return (-share, -one.activation, one.neuron_id)

        return tuple(sorted(found, key=place)[:N_FIRING])


class _Top(NamedTuple):
    """The most active units of a layer, (token, place) each."""

    layer: int
    units: list[list[int]]
    values: list[list[float]]
    shares: list[list[float]] | None

    def of_token(self, token: int) -> Iterator[Firing]:
        """Those that are above 0."""
        for place, (unit, value) in enumerate(
            zip(self.units[token], self.values[token], strict=True)
        ):
            if value > 0:
                share = None if self.shares is None else self.shares[token][place] or None
                yield Firing(NeuronId(self.layer, unit), value, share)


def _as_read(tokens: ReadTokens) -> ReadText:
    return ReadText(tokens.tokens, tokens.n_left_out)


def _by_layer(neuron_ids: Iterable[NeuronId]) -> dict[int, list[int]]:
    by_layer: dict[int, list[int]] = {}
    for neuron_id in neuron_ids:
        by_layer.setdefault(neuron_id.layer_index, []).append(neuron_id.neuron_index)
    return by_layer
