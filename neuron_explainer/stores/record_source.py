"""Units with their windows of text, wherever they come from: what the explain stage reads.

A store that the collector made (`NeuronStore`), or the windows of a published dataset.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeAlias

from neuron_explainer.records.explanation import TokenLookupTable
from neuron_explainer.records.neuron import NeuronId, NeuronRecord
from neuron_explainer.records.units import Units

Facts: TypeAlias = tuple[tuple[str, str], ...]
"""Label and sentence, for a person."""


class Manifest(Protocol):
    """What its records are of."""

    @property
    def fingerprint(self) -> str:
        """The same fingerprint, the same windows and activations."""

    @property
    def subject(self) -> str: ...

    @property
    def site(self) -> str: ...

    @property
    def layers(self) -> Sequence[int]:
        """Those that it has units of, ascending."""

    @property
    def units(self) -> Units:
        """Those that it has records of."""

    @property
    def n_ctx(self) -> int:
        """Longest window, in tokens."""

    def size(self) -> str:
        """`4 layers of 3,072 neurons each`"""

    def facts(self) -> Facts:
        """What a page tells of it."""


class RecordSource(Protocol):
    """Any number of readers; nothing is written."""

    @property
    def manifest(self) -> Manifest: ...

    def neuron_ids(self) -> Iterator[NeuronId]:
        """All of them, ascending."""

    def read_neuron(self, neuron_id: NeuronId) -> NeuronRecord:
        """UnitNotFound for a unit that is not there."""

    def read_density(self, neuron_id: NeuronId) -> float | None:
        """`NeuronRecord.density` without the rest of the record."""

    def read_token_lookup(self, neuron_id: NeuronId) -> TokenLookupTable:
        """Mean activation by token; CannotExplain where there is none."""
