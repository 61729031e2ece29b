"""Compare: two methods, of one source or of two, beside each other."""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any, NamedTuple

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import JSONResponse, Response

from neuron_explainer.stores.record_source import Manifest
from neuron_explainer.viewer.compare import (
    Compared,
    MovedUnit,
    Side,
    compare,
    unlike,
    unlike_texts,
)
from neuron_explainer.viewer.served import Served, prefixes
from neuron_explainer.viewer.state import State
from neuron_explainer.viewer.unit_rows import Method, UnitRows

N_KEPT = 8
"""Comparisons."""
NOTHING = "there is no second method to compare with yet; rescore, or name a second --run"


class Choice(NamedTuple):
    """What may be compared."""

    value: str
    """`a:058e5531695142e4`, a source's key and a method's fingerprint."""
    label: str


class Compares:
    """The last comparisons, as long as the indexes that they are of stay the same."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], Compared] = OrderedDict()
        self._lock = threading.Lock()

    def of(
        self, state: State, this: UnitRows, side: Side, other: UnitRows, beside: Side
    ) -> Compared:
        versions = (state.keepers[side.key].version, state.keepers[beside.key].version)
        asked = (side.key, side.method.number, beside.key, beside.method.number, *versions)
        with self._lock:
            if asked not in self._kept:
                self._kept[asked] = compare(this, side, other, beside)
            self._kept.move_to_end(asked)
            while len(self._kept) > N_KEPT:
                self._kept.popitem(last=False)
            return self._kept[asked]


def make_router(state: State) -> APIRouter:
    """`/compare` and `/compare.json`; `a` and `b` say what is compared."""
    router = APIRouter()
    compares = Compares()

    def page(request: Request, key: str | None = None) -> Response:
        served, query = state.find(key), request.query_params
        choices = read_choices(state, served)
        chosen = choose_sides(state, choices, query.get("a"), query.get("b"))
        found, sides, warning = None, None, None
        if chosen is not None:
            found, sides = compare_sides(state, compares, *chosen)
            warning = warn_of(state, *sides)
        return state.show(
            served, "compare.html.j2", "compare", choices=choices, chosen=chosen, view=found,
            sides=sides, warning=warning, nothing=NOTHING, links_of=state.links,
        )  # fmt: skip

    def as_json(request: Request, key: str | None = None) -> Response:
        query = request.query_params
        chosen = choose_sides(
            state, read_choices(state, state.find(key)), query.get("a"), query.get("b")
        )
        if chosen is None:
            raise HTTPException(404, NOTHING)
        found, (side, beside) = compare_sides(state, compares, *chosen)
        warning = warn_of(state, side, beside)
        return JSONResponse({**compared_json(found, side, beside), "warning": warning})

    for prefix in prefixes():
        router.add_api_route(f"{prefix}/compare", page, methods=["GET"])
        router.add_api_route(f"{prefix}/compare.json", as_json, methods=["GET"])
    return router


def compared_json(found: Compared, side: Side, beside: Side) -> dict[str, Any]:
    """What `/compare.json` answers."""
    return {
        "this": {"source": side.key, "method": side.method.fingerprint, "label": side.name},
        "other": {"source": beside.key, "method": beside.method.fingerprint, "label": beside.name},
        "comparison": None if found.overall is None else asdict(found.overall),
        "by_layer": {
            str(row.layer_index): asdict(row.comparison)
            for row in found.rows
            if row.layer_index is not None
        },
        "left_out": found.left_out,
        "gains": [_moved_json(moved) for moved in found.gains],
        "losses": [_moved_json(moved) for moved in found.losses],
    }


def _moved_json(moved: MovedUnit) -> dict[str, Any]:
    mover = moved.mover
    return {
        "layer": mover.neuron_id.layer_index,
        "neuron": mover.neuron_id.neuron_index,
        "score": mover.value,
        "other_score": mover.baseline_value,
        "text": moved.this.text,
        "other_text": moved.other.text,
    }


def read_choices(state: State, served: Served) -> list[Choice]:
    """Every method of every source; those of the source that is looked at come first."""
    keys = sorted(state.sources, key=lambda key: key != served.source.key)
    choices = []
    for key in keys:
        with state.rows(key) as (rows, _):
            methods: tuple[Method, ...] = () if rows is None else rows.methods()
        title = f"{state.sources[key].title}: " if len(keys) > 1 else ""
        choices += [Choice(f"{key}:{m.fingerprint}", f"{title}{m.label}") for m in methods]
    return choices


def choose_sides(
    state: State, choices: list[Choice], a: str | None, b: str | None
) -> tuple[str, str] | None:
    """What is asked for, or the current method beside another source's or its own baseline.

    A source of other neurons comes last. HTTPException 404 for what is not there.
    """
    values = [choice.value for choice in choices]
    for asked in (a, b):
        if asked and asked not in values:
            raise HTTPException(404, f"no method {asked[:60]!r} to compare")
    if len(values) < 2:
        return None
    first = a or values[0]
    key = _key(first)

    def rank(value: str) -> int:
        if _key(value) == key:
            return 1
        return 0 if _unlike_sources(state, key, _key(value)) is None else 2

    return first, b or min((value for value in values if value != first), key=rank)


def _key(value: str) -> str:
    return value.partition(":")[0]


def warn_of(state: State, side: Side, beside: Side) -> str | None:
    """Why the two are not of the same neurons, or text; None: nothing speaks against it."""
    one, another = _manifests(state, side.key, beside.key)
    return unlike(one, another) or unlike_texts(one, another)


def _unlike_sources(state: State, key: str, other: str) -> str | None:
    return unlike(*_manifests(state, key, other))


def _manifests(state: State, key: str, other: str) -> tuple[Manifest, Manifest]:
    return state.sources[key].records.manifest, state.sources[other].records.manifest


def compare_sides(
    state: State, compares: Compares, first: str, second: str
) -> tuple[Compared, tuple[Side, Side]]:
    """first, second: `KEY:FINGERPRINT`, a source and its method.

    HTTPException 503 while an index is being made; UsageError for a method that is not there.
    """
    (key, method), (other_key, other_method) = (
        (key, method) for key, _, method in (first.partition(":"), second.partition(":"))
    )
    with ExitStack() as opened:
        this, mine = opened.enter_context(state.rows(key, method))
        other, theirs = opened.enter_context(state.rows(other_key, other_method))
        if this is None or other is None or mine is None or theirs is None:
            raise HTTPException(503, "the lists are being made again; try in a moment")
        side = Side(key, state.sources[key].title, mine)
        beside = Side(other_key, state.sources[other_key].title, theirs)
        return compares.of(state, this, side, other, beside), (side, beside)
