"""Which units are recorded, and which are explained: what `--units` and `--neurons` name."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable
from pathlib import Path

from neuron_explainer.errors import RecordFormatError, UnitNotFound, UsageError
from neuron_explainer.formats.neuron_lists import read_neuron_list
from neuron_explainer.pipeline.spec import RunSpec, parse_layers
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.units import Units
from neuron_explainer.subject.model import Subject, SubjectShape


def resolve_units(spec: RunSpec, subject: Subject | SubjectShape) -> Units:
    """What a collection records: every unit of the layers, or those that `--units` names.

    UnitNotFound for a unit that the subject has not, UsageError for one that `--layers` leaves out.
    """
    layers = parse_layers(spec.layers, subject.n_layers)
    if spec.units is None:
        return Units(tuple(layers), subject.d_mlp)
    found = read_named(spec.units, "--units")
    everyone = Units(tuple(range(subject.n_layers)), subject.d_mlp)
    for neuron_id in found:
        if neuron_id not in everyone:
            raise UnitNotFound(
                f"--units: no neuron {neuron_id} in {subject.name}, which has layers "
                f"0..{subject.n_layers - 1} of neurons 0..{subject.d_mlp - 1} each"
            )
        if neuron_id.layer_index not in layers:
            raise UsageError(
                f"--units names {neuron_id}, and --layers {spec.layers} leaves its layer out; give "
                "one of the two"
            )
    return Units.choose(found, subject.d_mlp)


def choose_neurons(text: str | None, units: Iterable[NeuronId], seed: int) -> list[NeuronId]:
    """The units that `--neurons` means of those that there are, in a random order.

    units: ascending. A list is taken in its own order; UnitNotFound for one that is not there.
    """
    if text is not None and names_neurons(text):
        return _require(read_named(text, "--neurons"), set(units))
    everyone = list(units)
    random.Random(seed).shuffle(everyone)
    return everyone[: count_neurons(text)]


def count_neurons(text: str | None) -> int | None:
    """How many units `--neurons` means at most; None: all. UsageError for what it cannot mean."""
    if text is None:
        return None
    if names_neurons(text):
        return len(read_named(text, "--neurons"))
    if not text.strip().isdecimal() or int(text) < 1:
        raise UsageError(
            f"--neurons {text!r:.80}: write a number, all, a list such as 0:3,2:417, or the name "
            "of a file with one"
        )
    return int(text)


def count_wanted(spec: RunSpec) -> int | None:
    """How many units will be explained at most, before anything is collected; None: all."""
    wanted = count_neurons(spec.neurons_wanted)
    if spec.units is None:
        return wanted
    n_recorded = len(read_named(spec.units, "--units"))
    return n_recorded if wanted is None else min(wanted, n_recorded)


def names_neurons(text: str) -> bool:
    """Whether it is a list of neurons or a file of one, and no number of them."""
    return not text.strip().isdecimal() and (_is_list(text) or _is_file(text))


def read_named(text: str, flag: str) -> list[NeuronId]:
    """The neurons of a list such as `0:3,2:417`, or of a file of them, as listed and each once.

    UsageError for what is neither, RecordFormatError for a file that cannot be read.
    """
    if _is_list(text):
        listed = [NeuronId.parse(part) for part in text.split(",") if part.strip()]
    elif _is_file(text):
        listed = read_neuron_list(Path(text))
    else:
        raise UsageError(
            f"{flag} {text!r:.80}: write a list such as 0:3,2:417, or the name of a file with "
            "LAYER:NEURON, one a line, or of a table with columns layer and neuron"
        )
    if not listed:
        raise RecordFormatError(text, f"names no neuron; {flag} takes LAYER:NEURON, one a line")
    return list(dict.fromkeys(listed))


def _is_list(text: str) -> bool:
    return ":" in text and not _is_file(text)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:  # a name that no file can have
        return False


def _require(listed: list[NeuronId], units: Collection[NeuronId]) -> list[NeuronId]:
    for neuron_id in listed:
        if neuron_id not in units:
            raise UnitNotFound(
                f"no neuron {neuron_id} in this collection: {_describe(units, neuron_id)}"
            )
    return listed


def _describe(units: Collection[NeuronId], missing: NeuronId) -> str:
    """What there is in the layer of the missing one, or which layers there are."""
    beside = sorted(unit for unit in units if unit.layer_index == missing.layer_index)
    if beside:
        return f"it has {len(beside):,} of this layer, {beside[0]} to {beside[-1]}"
    return f"it has layers {', '.join(map(str, sorted({unit.layer_index for unit in units})))}"
