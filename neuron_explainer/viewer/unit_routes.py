"""The page of one unit, its parts that are asked for when they are looked at, and a random unit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from typing import NamedTuple, TypeAlias

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)

from neuron_explainer.errors import NeuronExplainerError, StoreError, UsageError
from neuron_explainer.records.listed import MAX_INDEX
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.viewer.distributions import Axis
from neuron_explainer.viewer.environment import render_fragment
from neuron_explainer.viewer.favourites import FILE, Favourites
from neuron_explainer.viewer.hooks import AffectedTokens, RelatedUnits
from neuron_explainer.viewer.own_routes import own_section
from neuron_explainer.viewer.selection import whole_number
from neuron_explainer.viewer.served import Served, prefixes
from neuron_explainer.viewer.sources import ViewSource
from neuron_explainer.viewer.state import State
from neuron_explainer.viewer.unit_page import (
    N_TOP_OPEN,
    find_windows,
    read_record,
    read_tokens,
    read_unit_page,
    strongest_tokens,
    unit_json,
    unit_markdown,
)

Route: TypeAlias = Callable[..., Response] | Callable[..., Awaitable[Response]]


class Weights(NamedTuple):
    """What the subject's weights say of a unit; what is None has its reason."""

    tokens: AffectedTokens | None
    why_no_tokens: str | None
    related: RelatedUnits | None
    why_no_related: str | None


class UnitLists(NamedTuple):
    """Names of lists of favourites."""

    of_unit: tuple[str, ...] = ()
    """Those that it is on."""
    all: tuple[str, ...] = ()
    problem: str | None = None
    """Why they cannot be read; None: they can."""


def make_router(state: State) -> APIRouter:
    """`/layers/L/neurons/N` with its parts, and `/random`."""
    router = APIRouter()
    of_unit = "/layers/{layer}/neurons/{neuron}"
    routes = {
        **{f"{of_unit}{end}": answer for end, answer in _page_routes(state).items()},
        **{f"{of_unit}{end}": answer for end, answer in _part_routes(state).items()},
        "/random": _random_route(state),
    }
    for prefix in prefixes():
        for path, answer in routes.items():
            router.add_api_route(f"{prefix}{path}", answer, methods=["GET"])
    return router


def _page_routes(state: State) -> dict[str, Route]:
    """All of a unit, for people and for programs, by how the address ends."""

    def page(request: Request, layer: str, neuron: str, key: str | None = None) -> Response:
        served, neuron_id = state.find(key), parse_unit(layer, neuron)
        before, behind = _neighbours(state, served, neuron_id)
        context = unit_context(served, neuron_id, is_all=_is_all(request))
        return state.show(
            served, "unit.html.j2", "unit", 200, **context, before=before, behind=behind,
            lists=_lists_of(served.source, neuron_id), own=own_section(served, neuron_id),
        )  # fmt: skip

    def as_json(layer: str, neuron: str, key: str | None = None) -> Response:
        served, neuron_id = state.find(key), parse_unit(layer, neuron)
        return JSONResponse(unit_json(read_unit_page(served.source, neuron_id)))

    def as_markdown(layer: str, neuron: str, key: str | None = None) -> Response:
        served, neuron_id = state.find(key), parse_unit(layer, neuron)
        whole = read_unit_page(served.source, neuron_id)
        return PlainTextResponse(unit_markdown(whole, served.source.title))

    return {
        ".json": state.turns.of(as_json),
        ".md": state.turns.of(as_markdown),
        "": state.turns.of(page, is_long=lambda request, **_asked: _is_all(request)),
    }


def _part_routes(state: State) -> dict[str, Route]:
    """What a page asks for when it is looked at, by how the address ends."""

    def windows(request: Request, layer: str, neuron: str, key: str | None = None) -> Response:
        served, neuron_id = state.find(key), parse_unit(layer, neuron)
        name, method = (request.query_params.get(n) for n in ("set", "method"))
        if method is not None:
            is_whole = request.query_params.get("whole") == "1"
            html = _claim_windows(served, neuron_id, method, is_whole=is_whole)
        else:
            html = _recorded_windows(served, neuron_id, name or "top")
        return HTMLResponse(html)

    def tokens(layer: str, neuron: str, key: str | None = None) -> Response:
        served, neuron_id = state.find(key), parse_unit(layer, neuron)
        found, reason = read_tokens(served.source, neuron_id)
        return HTMLResponse(render_fragment("unit_tokens.html.j2", tokens=found, reason=reason))

    def weights(layer: str, neuron: str, key: str | None = None) -> Response:
        served, neuron_id = state.find(key), parse_unit(layer, neuron)
        found = read_weights(served, neuron_id)
        lines = served.look_up(_named(found))
        html = render_fragment(
            "unit_weights.html.j2", weights=found, links=served.links, lines=lines
        )
        return HTMLResponse(html)

    def weights_json(layer: str, neuron: str, key: str | None = None) -> Response:
        served, neuron_id = state.find(key), parse_unit(layer, neuron)
        return JSONResponse(_weights_json(read_weights(served, neuron_id)))

    return {
        "/windows": state.turns.of(windows),
        "/tokens": state.turns.of(tokens),
        "/weights": weights,  # the model may have to be loaded first
        "/weights.json": weights_json,
    }


def _random_route(state: State) -> Route:
    def random(request: Request, key: str | None = None) -> Response:
        served = state.find(key)
        with state.rows(served.source.key, request.query_params.get("method")) as (rows, method):
            chosen = None if rows is None or method is None else rows.random(method)
        if chosen is None:
            raise HTTPException(404, "no neuron is explained here yet")
        headers = {"Cache-Control": "no-store"}
        return RedirectResponse(served.links.unit(chosen), 303, headers)

    return random


def _is_all(request: Request) -> bool:
    """Whether nothing is left for the page to ask for."""
    return request.query_params.get("all") == "1"


def _weights_json(found: Weights) -> dict[str, object]:
    plain: dict[str, object] = {
        name: None if value is None or isinstance(value, str) else asdict(value)
        for name, value in (("tokens", found.tokens), ("related", found.related))
    }
    return plain | {"reasons": {"tokens": found.why_no_tokens, "related": found.why_no_related}}


def unit_context(served: Served, neuron_id: NeuronId, *, is_all: bool) -> dict[str, object]:
    """What unit.html.j2 shows of the unit itself. is_all: all of it, with nothing to ask for.

    UnitNotFound for a unit of which nothing is known here.
    """
    weights = read_weights(served, neuron_id) if is_all else None
    return {
        "page": read_unit_page(served.source, neuron_id),
        "axis": Axis(-1.0),
        "is_all": is_all,
        "n_open": N_TOP_OPEN,
        "strongest": strongest_tokens,
        "tokens": read_tokens(served.source, neuron_id) if is_all else None,
        "weights": weights,
        "lines": {} if weights is None else served.look_up(_named(weights)),
    }


def parse_unit(layer: str, neuron: str) -> NeuronId:
    """Of an address; HTTPException 404 for what is no number."""
    try:
        return NeuronId(
            whole_number(layer, "layer", MAX_INDEX), whole_number(neuron, "neuron", MAX_INDEX)
        )
    except UsageError as error:
        raise HTTPException(404, "no such neuron; write /layers/2/neurons/417") from error


def read_weights(served: Served, neuron_id: NeuronId) -> Weights:
    """Nothing is raised: the two do not depend on each other."""
    tokens: AffectedTokens | None = None
    related: RelatedUnits | None = None
    why_no_tokens = served.hooks.reasons.get("output_tokens")
    why_no_related = served.hooks.reasons.get("related")
    try:
        if served.hooks.output_tokens is not None:
            tokens = served.hooks.output_tokens(neuron_id)
    except NeuronExplainerError as error:
        why_no_tokens = str(error)
    try:
        if served.hooks.related is not None:
            related = served.hooks.related(neuron_id)
    except NeuronExplainerError as error:
        why_no_related = str(error)
    return Weights(tokens, why_no_tokens, related, why_no_related)


def _named(weights: Weights) -> list[NeuronId]:
    found = weights.related
    if found is None:
        return []
    groups = (
        found.upstream_positive, found.upstream_negative,
        found.downstream_positive, found.downstream_negative,
    )  # fmt: skip
    return [one.neuron_id for group in groups for one in group]


def _recorded_windows(served: Served, neuron_id: NeuronId, name: str) -> str:
    record, problem = read_record(served.source, neuron_id)
    if record is None:
        raise HTTPException(404, problem)
    found = find_windows(record, name)
    if found is None:
        raise HTTPException(404, f"neuron {neuron_id} has no windows of that name")
    return render_fragment(
        "unit_windows.html.j2", windows=found.windows, first=1, name=found.name,
        full=record.max_activation, strongest=strongest_tokens,
    )  # fmt: skip


def _claim_windows(served: Served, neuron_id: NeuronId, method: str, *, is_whole: bool) -> str:
    """Those that the page folds away, or all."""
    whole = read_unit_page(served.source, neuron_id)
    cards = (claim.card for claim in whole.claims if claim.claim.method == method)
    card = next(cards, None)
    if card is None:
        raise HTTPException(404, f"no such method explains neuron {neuron_id}")
    return render_fragment("claim_windows.html.j2", card=card, is_whole=is_whole)


def _neighbours(
    state: State, served: Served, neuron_id: NeuronId
) -> tuple[NeuronId | None, NeuronId | None]:
    """Of the current method's units; None at an end, or where nothing is explained.

    None too where the index cannot be read: lists tell of that, a unit's own page does without.
    """
    with suppress(StoreError), state.rows(served.source.key) as (rows, method):
        if rows is not None and method is not None:
            before = rows.neighbour(method, neuron_id, forward=False)
            return before, rows.neighbour(method, neuron_id, forward=True)
    return None, None


def _lists_of(source: ViewSource, neuron_id: NeuronId) -> UnitLists:
    if not (source.folder / FILE).exists():
        return UnitLists()
    try:
        with Favourites(source.folder) as favourites:
            names = tuple(one.name for one in favourites.lists())
            return UnitLists(favourites.lists_of(neuron_id), names)
    except StoreError as error:
        return UnitLists(problem=str(error))
