"""Which units are asked about first: a run that is stopped early has then done the best of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from neuron_explainer.errors import UsageError
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.results import UnitResult

RANDOM, LOOKUP = "random", "lookup"


def order_neurons(
    order: str, neuron_ids: Sequence[NeuronId], lookup: Iterable[UnitResult]
) -> list[NeuronId]:
    """The same units in another order; ties stay in the order they came.

    random: as they come. lookup: by the token lookup table's score, the best first, those without
    a score last. Anything else is a file that names units, one a line; they come first, as listed.
    UsageError when there is no such file, or a line of it is no unit.
    """
    if order == RANDOM:
        return list(neuron_ids)
    if order == LOOKUP:
        values = {unit.neuron_id: _value(unit) for unit in lookup}
        return sorted(neuron_ids, key=lambda i: -values.get(i, float("-inf")))
    listed = {neuron_id: place for place, neuron_id in enumerate(_read(Path(order)))}
    return sorted(neuron_ids, key=lambda i: listed.get(i, len(listed)))


def _read(path: Path) -> list[NeuronId]:
    try:
        lines = path.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--order {str(path)!r} is neither random nor lookup, nor a file that can be read: "
            f"{error}"
        ) from error
    return [NeuronId.parse(line) for line in lines]


def _value(unit: UnitResult) -> float:
    score = unit.score
    return float("-inf") if score is None or score.value is None else score.value
