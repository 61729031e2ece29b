"""Lists of favourites: shown, changed, and handed on as a csv file that `run --units` takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, RedirectResponse, Response

from neuron_explainer.errors import StoreError, UnitNotFound
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.viewer.favourites import DEFAULT_LIST, FILE, FavouriteList, Favourites
from neuron_explainer.viewer.forms import parse_form, read_form
from neuron_explainer.viewer.list_routes import CSV_COLUMNS, csv_lines, row_columns
from neuron_explainer.viewer.served import Served, prefixes
from neuron_explainer.viewer.sources import ViewSource
from neuron_explainer.viewer.state import State
from neuron_explainer.viewer.unit_routes import parse_unit
from neuron_explainer.viewer.unit_rows import UnitRow


class Wish(BaseModel):
    """What a page sends."""

    layer: int
    neuron: int
    list: str = DEFAULT_LIST
    on: bool = True
    """False: take it off the list."""


class Put(NamedTuple):
    """What a form says; it takes no script."""

    unit: str
    """`2:417`"""
    list: str = DEFAULT_LIST
    on: bool = True
    back: Literal["unit", "list"] = "list"
    """The page that is shown then."""


def make_router(state: State) -> APIRouter:
    """GET `/favourites`, `.json` and `.csv`, with `list`; POST `/favourites` of a script, and
    `/favourites/put` of a form."""
    router = APIRouter()

    def page(request: Request, key: str | None = None) -> Response:
        served = state.find(key)
        name, lists, units = _read(served.source, request)
        rows = read_rows(state, served, units)
        return state.show(
            served, "favourites.html.j2", "favourites", name=name, lists=lists, units=units,
            rows={row.neuron_id: row for row in rows},
        )  # fmt: skip

    def as_json(request: Request, key: str | None = None) -> Response:
        name, lists, units = _read(state.find(key).source, request)
        return JSONResponse(
            {"list": name, "lists": [one.name for one in lists], "units": list(map(str, units))}
        )

    def as_csv(request: Request, key: str | None = None) -> Response:
        served = state.find(key)
        _, _, units = _read(served.source, request)
        headers = {"Content-Disposition": 'attachment; filename="favourites.csv"'}
        lines = csv_lines([CSV_COLUMNS, *_csv_rows(units, read_rows(state, served, units))])
        return Response(lines, media_type="text/csv; charset=utf-8", headers=headers)

    def put(wish: Wish, key: str | None = None) -> Response:
        neuron_id = parse_unit(str(wish.layer), str(wish.neuron))
        lists = _put(state.find(key).source, wish.list, neuron_id, is_on=wish.on)
        return JSONResponse({"lists": lists})

    def put_by_form(put: Annotated[Put, Depends(_typed)], key: str | None = None) -> Response:
        served, neuron_id = state.find(key), NeuronId.parse(put.unit)
        _put(served.source, put.list, neuron_id, is_on=put.on)
        page = served.links.page("favourites", list=put.list.strip())
        return RedirectResponse(served.links.unit(neuron_id) if put.back == "unit" else page, 303)

    for prefix in prefixes():
        router.add_api_route(f"{prefix}/favourites", page, methods=["GET"])
        router.add_api_route(f"{prefix}/favourites.json", as_json, methods=["GET"])
        router.add_api_route(f"{prefix}/favourites.csv", as_csv, methods=["GET"])
        router.add_api_route(f"{prefix}/favourites", put, methods=["POST"])
        router.add_api_route(f"{prefix}/favourites/put", put_by_form, methods=["POST"])
    return router


async def _typed(request: Request) -> Put:
    return parse_form(Put, await read_form(request))


def _put(source: ViewSource, name: str, neuron_id: NeuronId, *, is_on: bool) -> tuple[str, ...]:
    """The lists that the unit is on then; UnitNotFound for one that is not there."""
    if not source.has(neuron_id):
        raise UnitNotFound(f"no neuron {neuron_id} here")
    if source.is_gone:
        raise StoreError(f"{source.title} is not there any more, and its lists cannot be kept")
    with Favourites(source.folder) as favourites:
        favourites.put(name, neuron_id, is_on=is_on)
        return favourites.lists_of(neuron_id)


def read_rows(state: State, served: Served, units: list[NeuronId]) -> list[UnitRow]:
    """What the current method says of the units that it says something of."""
    with state.rows(served.source.key) as (rows, method):
        return [] if rows is None or method is None else rows.of_units(method, units)


def _read(
    source: ViewSource, request: Request
) -> tuple[str, tuple[FavouriteList, ...], list[NeuronId]]:
    """The name of the list that is meant, all lists, and the units of that one."""
    name = request.query_params.get("list") or DEFAULT_LIST
    if not (source.folder / FILE).exists():
        return name, (), []
    with Favourites(source.folder) as favourites:
        return name, favourites.lists(), favourites.units(name)


def _csv_rows(units: list[NeuronId], rows: list[UnitRow]) -> Iterator[tuple[object, ...]]:
    """Units without a result have their number alone."""
    found = {row.neuron_id: row for row in rows}
    for neuron_id in units:
        row = found.get(neuron_id)
        bare = (neuron_id.layer_index, neuron_id.neuron_index)
        empty = (None,) * (len(CSV_COLUMNS) - len(bare))
        yield (*bare, *empty) if row is None else row_columns(row)
