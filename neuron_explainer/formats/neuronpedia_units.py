"""What Neuronpedia's export says of units besides explanations: windows of text, and facts.

    MODEL/6-res-jb/activations/batch-0.jsonl.gz   {"modelId", "layer", "index", "tokens", "values",
                                                   "maxValue", …}: one window a line
    MODEL/6-res-jb/features/batch-0.jsonl.gz      {"modelId", "layer", "index", "maxActApprox",
                                                   "pos_str", "pos_values", "neg_str", …}: one unit

Whatever else a line says has no place in our records, and is counted by its field.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.formats.rows import read_rows
from neuron_explainer.formats.spellings import parse_place, parse_score, parse_text, parse_unit
from neuron_explainer.records.neuron import ActivationRecord, NeuronId
from neuron_explainer.records.published import TokenValue

T = TypeVar("T")
NO_UNIT = "without a layer or a unit"
NO_ACTIVATION = "window without an activation"
OTHER_MAXIMUM = "maxValue that is not the largest value"
_UNIT = frozenset(("modelId", "layer", "index"))
_WINDOW = _UNIT | {"id", "tokens", "values", "maxValue", "maxValueTokenIndex"}
"""What is read, and what only says again what the values say."""
_FEATURE = _UNIT | {"maxActApprox", "pos_str", "pos_values", "neg_str", "neg_values"}


class PlacedUnit(NamedTuple):
    """Which unit of which model."""

    neuron_id: NeuronId
    site: str | None
    """Such as `res-jb`; None: of the MLP, or not said."""
    model: str | None


@dataclass(frozen=True, slots=True)
class UnitWindows:
    """The windows of one unit that a file holds."""

    unit: PlacedUnit
    windows: tuple[ActivationRecord, ...]
    """By the largest activation, descending."""


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """What a line of features says of a unit, as far as we have a word for it."""

    unit: PlacedUnit
    max_activation: float | None
    """As it is approximately; None: it is not said."""
    promoted: tuple[TokenValue, ...]
    """Tokens that the unit's output weights favour most, with the change of their logits."""
    suppressed: tuple[TokenValue, ...]


def is_neuronpedia_activation(fields: Mapping[str, Any]) -> bool:
    return {*_UNIT, "tokens", "values"} <= fields.keys()


def is_neuronpedia_feature(fields: Mapping[str, Any]) -> bool:
    return {*_UNIT, "maxActApprox"} <= fields.keys() and "explanations" not in fields


def read_neuronpedia_activations(path: Path, left_out: Counter[str]) -> Iterator[UnitWindows]:
    """Each unit of a file of activations, in the order in which they come first.

    A window without a single number is left out and counted. RecordFormatError names what is wrong
    and where.
    """
    windows: defaultdict[PlacedUnit, list[ActivationRecord]] = defaultdict(list)
    for unit, window in _parse_rows(path, left_out, _WINDOW, "window", _parse_window):
        if window is not None:
            windows[unit].append(window)
    for unit, of_unit in windows.items():
        of_unit.sort(key=lambda window: -window.max_activation)
        yield UnitWindows(unit, tuple(of_unit))


def read_neuronpedia_features(path: Path, left_out: Counter[str]) -> Iterator[UnitFacts]:
    """Each line of a file of features; RecordFormatError names what is wrong and where."""
    for unit, facts in _parse_rows(path, left_out, _FEATURE, "feature", _parse_facts):
        yield UnitFacts(unit, *facts)


def _parse_rows(
    path: Path,
    left_out: Counter[str],
    read: frozenset[str],
    what: str,
    parse: Callable[[Mapping[str, Any], Counter[str]], T],
) -> Iterator[tuple[PlacedUnit, T]]:
    """read: the fields that are; the others are counted, as is a line that does not say whose."""
    for row in read_rows(path):
        try:
            for name, value in row.fields.items():
                if name not in read and value not in (None, [], ""):
                    left_out[f"field {name!r}"] += 1
            unit = _parse_placed(row.fields)
            if unit is None:
                left_out[f"{what} {NO_UNIT}"] += 1
                continue
            yield unit, parse(row.fields, left_out)
        except ValueError as error:
            raise RecordFormatError(path, f"{row.where}: {error}") from error


def _parse_placed(fields: Mapping[str, Any]) -> PlacedUnit | None:
    place, unit = parse_place(fields.get("layer")), parse_unit(fields.get("index"))
    if place is None or unit is None:
        return None
    model = parse_text(fields.get("modelId"), "modelId")
    return PlacedUnit(NeuronId(place[0], unit[1]), place[1], model)


def _parse_window(fields: Mapping[str, Any], left_out: Counter[str]) -> ActivationRecord | None:
    """None when it has no number."""
    tokens = _parse_texts(fields.get("tokens"), "tokens")
    activations = _parse_numbers(fields.get("values"), "values")
    _check_lengths("tokens", len(tokens), "values", len(activations))
    known = [activation for activation in activations if activation is not None]
    if not known:
        left_out[NO_ACTIVATION] += 1
        return None
    said = parse_score(fields.get("maxValue"), left_out)
    if said is not None and not math.isclose(said, max(known), rel_tol=1e-3, abs_tol=1e-3):
        left_out[OTHER_MAXIMUM] += 1
    return ActivationRecord(tokens, activations)


def _parse_facts(
    fields: Mapping[str, Any], left_out: Counter[str]
) -> tuple[float | None, tuple[TokenValue, ...], tuple[TokenValue, ...]]:
    largest = parse_score(fields.get("maxActApprox"), left_out)
    return largest, _parse_tokens(fields, "pos"), _parse_tokens(fields, "neg")


def _parse_tokens(fields: Mapping[str, Any], sign: str) -> tuple[TokenValue, ...]:
    names = f"{sign}_str", f"{sign}_values"
    tokens = _parse_texts(fields.get(names[0]) or [], names[0])
    values = _parse_numbers(fields.get(names[1]) or [], names[1])
    _check_lengths(names[0], len(tokens), names[1], len(values))
    return tuple(map(TokenValue, tokens, values))


def _parse_texts(raw: Any, name: str) -> tuple[str, ...]:
    if not isinstance(raw, list) or not all(isinstance(text, str) for text in raw):
        raise ValueError(f"{name} is no list of texts")
    return tuple(raw)


def _parse_numbers(raw: Any, name: str) -> tuple[float | None, ...]:
    """None for null, and for what is no finite number."""
    if not isinstance(raw, list):
        raise ValueError(f"{name} is no list of numbers")
    if not all(value is None or type(value) in (int, float) for value in raw):
        raise ValueError(f"one of {name} is no number")
    return tuple(_finite(value) for value in raw)


def _finite(value: float | None) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _check_lengths(first: str, n_first: int, second: str, n_second: int) -> None:
    if n_first != n_second:
        raise ValueError(f"{n_second} {second} for {n_first} {first}")
