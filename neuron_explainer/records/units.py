"""Which units of a site there are: every one of some layers, or those that were chosen."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from neuron_explainer.records.neuron import NeuronId


@dataclass(frozen=True, slots=True)
class Units:
    """Units of the layers of one model; iterating gives their ids, ascending."""

    layers: tuple[int, ...]
    """Those with a unit, ascending."""
    n_a_layer: int
    """Units that a layer of the model has."""
    chosen: tuple[tuple[int, ...], ...] | None = None
    """Numbers of the units of each of `layers`, ascending; None: every unit."""

    @classmethod
    def choose(cls, neuron_ids: Iterable[NeuronId], n_a_layer: int) -> Units:
        """These alone, each once, in any order."""
        found: defaultdict[int, set[int]] = defaultdict(set)
        for neuron_id in neuron_ids:
            found[neuron_id.layer_index].add(neuron_id.neuron_index)
        layers = tuple(sorted(found))
        return cls(layers, n_a_layer, tuple(tuple(sorted(found[layer])) for layer in layers))

    def __iter__(self) -> Iterator[NeuronId]:
        for layer in self.layers:
            for unit in self.of_layer(layer):
                yield NeuronId(layer, unit)

    def __len__(self) -> int:
        if self.chosen is None:
            return len(self.layers) * self.n_a_layer
        return sum(map(len, self.chosen))

    def __contains__(self, neuron_id: NeuronId) -> bool:
        return self.row_of(neuron_id) is not None

    def of_layer(self, layer: int) -> Sequence[int]:
        """Numbers of a layer's units, ascending; none of a layer that is not among `layers`."""
        place = _find(self.layers, layer)
        if place is None:
            return ()
        return range(self.n_a_layer) if self.chosen is None else self.chosen[place]

    def row_of(self, neuron_id: NeuronId) -> int | None:
        """The unit's place among those of its layer; None: it is not among them."""
        return _find(self.of_layer(neuron_id.layer_index), neuron_id.neuron_index)

    def sentence(self) -> str:
        """`4 layers of 3,072 neurons each`, or `50 chosen neurons of 3 layers`"""
        n_layers = f"{len(self.layers)} layer{'s' if len(self.layers) != 1 else ''}"
        if self.chosen is None:
            return f"{n_layers} of {self.n_a_layer:,} neurons each"
        return f"{len(self):,} chosen neuron{'s' if len(self) != 1 else ''} of {n_layers}"


def _find(ascending: Sequence[int], number: int) -> int | None:
    place = bisect_left(ascending, number)
    return place if place < len(ascending) and ascending[place] == number else None
