"""Which units are asked about first: a run that is stopped early has then done the best of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from neuron_explainer.errors import StoreError, UsageError
from neuron_explainer.pipeline.unit_choice import names_neurons, read_named
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.unit_result import UnitResult

RANDOM, LOOKUP, DENSITY = "random", "lookup", "density"


def order_neurons(
    order: str,
    neuron_ids: Sequence[NeuronId],
    lookup: Iterable[UnitResult],
    density_of: Callable[[NeuronId], float | None],
) -> list[NeuronId]:
    """The same units in another order; ties stay in the order they came.

    random: as they come. lookup: by the token lookup table's score, the best first, those without
    a score last. density: the sparsest first, which are the most specific, and the dead last;
    StoreError where the records do not say. Anything else is a list or a file that names units;
    they come first, as listed. UsageError when it is none of these, RecordFormatError when a line
    of the file is no unit.
    """
    if order == RANDOM:
        return list(neuron_ids)
    if order == LOOKUP:
        values = {unit.neuron_id: _value(unit) for unit in lookup}
        return sorted(neuron_ids, key=lambda i: -values.get(i, float("-inf")))
    if order == DENSITY:
        return sorted(neuron_ids, key=lambda i: _sparsity(density_of(i)))
    listed = {neuron_id: place for place, neuron_id in enumerate(_read_listed(order))}
    return sorted(neuron_ids, key=lambda i: listed.get(i, len(listed)))


def check_order(order: str) -> None:
    """The errors of `order_neurons` for what is no order, before there are any units."""
    if order not in (RANDOM, LOOKUP, DENSITY):
        _read_listed(order)


def _read_listed(order: str) -> list[NeuronId]:
    if not names_neurons(order):
        raise UsageError(
            f"--order {order!r:.300} is not random, lookup or density, nor a list of neurons such "
            "as 0:3,2:417, nor a file of one"
        )
    return read_named(order, "--order")


def _sparsity(density: float | None) -> tuple[bool, float]:
    """To sort by: a unit that is never active comes after all that are."""
    if density is None:
        raise StoreError(
            "--order density: the records do not say how often a neuron is active; collect them "
            "again, with --fresh or another --run"
        )
    return density == 0, density


def _value(unit: UnitResult) -> float:
    score = unit.score
    return float("-inf") if score is None or score.value is None else score.value
