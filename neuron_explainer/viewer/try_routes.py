"""Try it: a text is read by the subject, and the page shows which units fire on which token.

The demonstration of Bills et al. 2023, for one unit or for all units of some layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from neuron_explainer.errors import NeuronExplainerError, UsageError
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.viewer.forms import parse_form, read_form
from neuron_explainer.viewer.hooks import Firing, LayersReading, UnitReading
from neuron_explainer.viewer.selection import whole_number
from neuron_explainer.viewer.served import (
    Find,
    Served,
    Show,
    UnitLine,
    prefixes,
    require_text,
    status_of,
)

NOTHING = UnitLine(None, None, "not explained")
MOST_IN_ADDRESS = 2000
"""Characters of a query that browsers, servers and messengers all pass on whole."""


class Asked(NamedTuple):
    """What the form says."""

    text: str = ""
    unit: str = ""
    """`2:417`; empty: the units of the layers are ranked."""
    layer: str = ""
    """A number; empty: all layers."""
    explained: bool = False
    """Rank those that the current method explains, and no others."""
    by: Literal["share", "activation"] = "share"
    """What units are ranked by: activation as a share of their largest on record, where that is
    known, or as it is."""

    @property
    def query(self) -> dict[str, str]:
        """What an address says of it."""
        given = {"text": self.lines, "unit": self.unit.strip(), "layer": self.layer}
        given["explained"] = "true" if self.explained else ""
        given["by"] = "" if self.by == "share" else self.by
        return {name: value for name, value in given.items() if value}

    @property
    def lines(self) -> str:
        """The text; a form ends its lines with CR LF, which nobody typed."""
        return self.text.replace("\r\n", "\n")

    @property
    def is_long(self) -> bool:
        """Whether it is too much for an address."""
        return len(urlencode(self.query)) > MOST_IN_ADDRESS


class FiringUnit(NamedTuple):
    """A unit that is among the most active of some token."""

    neuron_id: NeuronId
    line: UnitLine
    activation: float
    """Where it ranks highest."""
    share: float | None
    """There; of its largest on record."""
    place: int
    """That token, from 0."""
    n_tokens: int
    """On how many tokens it is among the most active."""


@dataclass(frozen=True, slots=True)
class UnitTried:
    """One unit on a text."""

    neuron_id: NeuronId
    reading: UnitReading
    line: UnitLine
    full: float
    """Full colour: the larger of its largest activation on record and here; 0: never active."""


@dataclass(frozen=True, slots=True)
class LayersTried:
    """The units of some layers on a text."""

    reading: LayersReading
    lines: Mapping[NeuronId, UnitLine]
    """Of all that are named."""
    units: Sequence[FiringUnit]
    """In the order of their ranking."""

    @property
    def values(self) -> list[float | None]:
        """One a token, of the unit that ranks first: its share or its activation; 0: no unit is
        active; None: the token does not count."""
        return [
            None if of_token is None else max(map(self._value, of_token), default=0.0)
            for of_token in self.reading.firing
        ]

    def _value(self, one: Firing) -> float:
        return one.share or 0.0 if self.reading.by_share else one.activation

    @property
    def full(self) -> float:
        return max((value for value in self.values if value is not None), default=0.0)


Tried = UnitTried | LayersTried


def make_router(find: Find, show: Show) -> APIRouter:
    """`/try` and `/try.json`, of the first source and of each by its key.

    A form is sent by POST, which takes a text of any length and leads to an address to share where
    the text fits into one.
    """
    router = APIRouter()

    def try_page(asked: Annotated[Asked, Depends()], key: str | None = None) -> Response:
        served = find(key)
        if not asked.text:
            return _show(show, served, asked, None, None)
        try:
            tried = try_text(served, asked)
        except NeuronExplainerError as error:
            return _show(show, served, asked, None, error)
        return _show(show, served, asked, tried, None)

    def typed_page(asked: Annotated[Asked, Depends(_typed)], key: str | None = None) -> Response:
        if asked.is_long:
            return try_page(asked, key)
        return RedirectResponse(find(key).links.page("try", **asked.query), 303)

    def try_json(asked: Annotated[Asked, Depends()], key: str | None = None) -> Response:
        served = find(key)
        try:
            tried = try_text(served, asked)
        except NeuronExplainerError as error:
            return JSONResponse({"error": str(error)}, status_of(error))
        return JSONResponse(as_json(tried))

    def typed_json(asked: Annotated[Asked, Depends(_typed)], key: str | None = None) -> Response:
        return try_json(asked, key)

    for prefix in prefixes():
        router.add_api_route(f"{prefix}/try", try_page, methods=["GET"])
        router.add_api_route(f"{prefix}/try", typed_page, methods=["POST"])
        router.add_api_route(f"{prefix}/try.json", try_json, methods=["GET"])
        router.add_api_route(f"{prefix}/try.json", typed_json, methods=["POST"])
    return router


async def _typed(request: Request) -> Asked:
    return parse_form(Asked, await read_form(request))


def try_text(served: Served, asked: Asked) -> Tried:
    """UsageError for what cannot be meant, or where the source has no subject to ask."""
    text = require_text(asked.lines, "text", as_it_is=True)
    if asked.unit.strip():
        return _try_unit(served, NeuronId.parse(asked.unit), text)
    return _try_layers(served, asked, text)


def as_json(tried: Tried) -> dict[str, Any]:
    """What `/try.json` answers."""
    text = tried.reading.text
    plain: dict[str, Any] = {"tokens": text.tokens, "n_left_out": text.n_left_out}
    if isinstance(tried, UnitTried):
        return plain | {
            "unit": str(tried.neuron_id),
            "activations": tried.reading.activations,
            **tried.line._asdict(),
        }
    return plain | {
        "layers": tried.reading.layers,
        "n_units": tried.reading.n_units,
        "by": "share" if tried.reading.by_share else "activation",
        "firing": [
            None if of_token is None else [_plain_firing(one) for one in of_token]
            for of_token in tried.reading.firing
        ],
        "units": [
            {"unit": str(unit.neuron_id), "activation": unit.activation, "share": unit.share,
             "place": unit.place, "n_tokens": unit.n_tokens, **unit.line._asdict()}
            for unit in tried.units
        ],
    }  # fmt: skip


def _plain_firing(one: Firing) -> dict[str, Any]:
    return {"unit": str(one.neuron_id), "activation": one.activation, "share": one.share}


def _try_unit(served: Served, neuron_id: NeuronId, text: str) -> UnitTried:
    if served.hooks.read_unit is None:
        raise UsageError(served.hooks.reasons["read_unit"])
    reading = served.hooks.read_unit(neuron_id, text)
    on_record = served.source.records.read_neuron(neuron_id).max_activation
    here = max((a for a in reading.activations if a is not None), default=0.0)
    line = served.look_up([neuron_id]).get(neuron_id, NOTHING)
    return UnitTried(neuron_id, reading, line, max(on_record, here, 0.0))


def _try_layers(served: Served, asked: Asked, text: str) -> LayersTried:
    if served.hooks.read_layers is None:
        raise UsageError(served.hooks.reasons["read_layers"])
    layers = served.source.records.manifest.layers
    if asked.layer.strip():
        layers = [whole_number(asked.layer.strip(), "layer")]
    among = served.explained() if asked.explained else None
    reading = served.hooks.read_layers(layers, text, among, asked.by == "share")
    named = sorted({one.neuron_id for of_token in reading.firing for one in of_token or ()})
    found = served.look_up(named)
    lines = {neuron_id: found.get(neuron_id, NOTHING) for neuron_id in named}
    return LayersTried(reading, lines, _rank(reading, lines))


def _rank(reading: LayersReading, lines: Mapping[NeuronId, UnitLine]) -> list[FiringUnit]:
    best: dict[NeuronId, tuple[tuple[float, float], Firing, int]] = {}
    n_tokens = dict.fromkeys(lines, 0)
    for place, of_token in enumerate(reading.firing):
        for one in of_token or ():
            n_tokens[one.neuron_id] += 1
            rank = (one.share or 0.0 if reading.by_share else 0.0, one.activation)
            if one.neuron_id not in best or rank > best[one.neuron_id][0]:
                best[one.neuron_id] = rank, one, place
    ordered = sorted(best.values(), key=lambda found: (*(-x for x in found[0]), found[1].neuron_id))
    return [
        FiringUnit(
            one.neuron_id, lines[one.neuron_id], one.activation, one.share, place,
            n_tokens[one.neuron_id],
        )
        for _, one, place in ordered
    ]  # fmt: skip


def _show(
    show: Show, served: Served, asked: Asked, tried: Tried | None, error: Exception | None
) -> Response:
    hooks = served.hooks
    return show(
        served,
        "try.html.j2",
        "try",
        status_of(error) if isinstance(error, NeuronExplainerError) else 200,
        asked=asked,
        layers=served.source.records.manifest.layers,
        of_unit=tried if isinstance(tried, UnitTried) else None,
        of_layers=tried if isinstance(tried, LayersTried) else None,
        error=None if error is None else str(error),
        absent=hooks.reasons.get("read_layers") or hooks.reasons.get("read_unit"),
    )
