"""The table of all units, search, and the selection as a csv file."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from fastapi import APIRouter, HTTPException, Request
from starlette.datastructures import QueryParams
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

from neuron_explainer.errors import UsageError
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.viewer.elsewhere import Beside, beside_json, find_elsewhere
from neuron_explainer.viewer.index_schema import COLUMNS
from neuron_explainer.viewer.selection import (
    RELEVANCE,
    SORTS,
    STATUSES,
    UNIT,
    Selection,
    parse_selection,
    whole_number,
)
from neuron_explainer.viewer.served import Served, prefixes
from neuron_explainer.viewer.state import State
from neuron_explainer.viewer.unit_rows import Method, SearchHits, UnitRow, UnitRows

Route: TypeAlias = Callable[..., Response]
TABLE_SORTS = tuple(sort for sort in SORTS if sort != RELEVANCE)
N_A_PAGE = 50
MOST_A_PAGE = 500
MOST_FOUND = 1000
"""So far a search may be paged through."""
CSV_ROWS_AT_ONCE = 100
"""A connection takes far more than its reader has asked for: little is made in vain."""
MAKERS = ("model", "simulator", "scorer")
CSV_COLUMNS = (
    "layer", "neuron", "explanation", "score", "low", "high", "full_distribution",
    "random_only", "explained_variance", "baseline", "gain", "density", "explainer", "model",
    "simulator", "scorer", "reason",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Listed:
    """One page of a list."""

    selection: Selection
    method: Method | None
    """None: nothing is explained yet."""
    methods: tuple[Method, ...]
    rows: tuple[UnitRow, ...]
    n_rows: int
    """Of the whole list; of a search by relevance, of this page."""
    place: int
    has_more: bool
    search: SearchHits | None = None
    options: Mapping[str, list[str]] | None = None
    """What may be chosen of models, simulators and scorers."""
    layers: tuple[int, ...] = ()
    hint: str | None = None
    """Why nothing can fit the selection; None: something might."""
    version: int = 0
    """Of the index, as long as the server runs: it grows when the list may be another one."""


def make_router(state: State) -> APIRouter:
    """`/table`, `/search` (both with `.json`) and `/export.csv`."""
    router = APIRouter()

    def settle(key: str | None = None, **_asked: object) -> None:
        state.keepers[state.find(key).source.key].settle()

    for prefix in prefixes():
        for path, answer in (_table_routes(state) | _search_routes(state)).items():
            in_turn = state.turns.of(answer, first=settle)
            router.add_api_route(f"{prefix}{path}", in_turn, methods=["GET"])
        router.add_api_route(f"{prefix}/export.csv", _export_route(state), methods=["GET"])
    return router


def _table_routes(state: State) -> dict[str, Route]:
    """By path."""

    def table(request: Request, key: str | None = None) -> Response:
        served = state.find(key)
        listed = read_list(state, served, _of_table(request.query_params), 0, N_A_PAGE)
        return state.show(
            served, "units.html.j2", "table", listed=listed, columns=COLUMNS, statuses=STATUSES
        )

    def table_json(request: Request, key: str | None = None) -> Response:
        served, query = state.find(key), request.query_params
        selection, n = _of_table(query), _n_wanted(query)
        if "after" in query:
            return JSONResponse(_page_after(state, served, selection, query["after"], n))
        place = whole_number(query.get("at", "0"), "at")
        return JSONResponse(list_json(read_list(state, served, selection, place, n)))

    return {"/table": table, "/table.json": table_json}


def _search_routes(state: State) -> dict[str, Route]:
    """By path."""

    def search(request: Request, key: str | None = None) -> Response:
        served, query = state.find(key), request.query_params
        selection = parse_selection(query, sort="score")
        unit = _as_unit(selection.q)
        if unit is not None:
            return RedirectResponse(served.links.unit(unit), 303)
        listed = read_list(state, served, selection, _place_of_found(query), N_A_PAGE)
        return state.show(
            served, "search.html.j2", "search", listed=listed, statuses=STATUSES,
            elsewhere=_elsewhere(state, served, listed), links_of=state.links,
            n_a_page=N_A_PAGE, most_found=MOST_FOUND,
        )  # fmt: skip

    def search_json(request: Request, key: str | None = None) -> Response:
        served, query = state.find(key), request.query_params
        selection = parse_selection(query, sort="score")
        listed = read_list(state, served, selection, _place_of_found(query), _n_wanted(query))
        elsewhere = [beside_json(one) for one in _elsewhere(state, served, listed)]
        return JSONResponse({**list_json(listed), "elsewhere": elsewhere})

    return {"/search": search, "/search.json": search_json}


def _export_route(state: State) -> Route:
    def export(request: Request, key: str | None = None) -> Response:
        served = state.find(key)
        selection = parse_selection(request.query_params)
        with state.rows(served.source.key, selection.method) as (rows, method):
            if rows is None or method is None:
                raise HTTPException(404, "no neuron is explained here yet")
        lines = state.turns.parts(_csv_lines(state, served, selection))
        headers = {"Content-Disposition": 'attachment; filename="neurons.csv"'}
        return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)

    return export


def _of_table(query: QueryParams) -> Selection:
    """A table is in the order of a column, whatever is looked for."""
    selection = parse_selection(query, of_found=UNIT)
    if selection.sort == RELEVANCE:
        raise UsageError(f"sort={RELEVANCE} is for /search; a table has {', '.join(TABLE_SORTS)}")
    return selection


def _n_wanted(query: QueryParams) -> int:
    return whole_number(query.get("n", str(N_A_PAGE)), "n", MOST_A_PAGE)


def _place_of_found(query: QueryParams) -> int:
    return whole_number(query.get("at", "0"), "at", MOST_FOUND)


def read_list(state: State, served: Served, selection: Selection, place: int, n: int) -> Listed:
    """A page of a list, from a place on."""
    layers = tuple(served.source.records.manifest.layers)
    keeper = state.keepers[served.source.key]
    version = keeper.version  # what is read then is of this one, or newer
    with state.rows(served.source.key, selection.method) as (rows, method):
        if rows is None or method is None:
            return Listed(selection, None, (), (), 0, place, has_more=False, layers=layers)
        options = {name: rows.makers(name, method) for name in MAKERS}
        methods = rows.methods()
        hint = _why_nothing(selection, layers, options)
        if selection.q and selection.sort == RELEVANCE:
            hits = rows.search(method, selection, place, n)
            return Listed(
                selection, method, methods, hits.rows, len(hits.rows), place, hits.has_more, hits,
                options, layers, hint, version,
            )  # fmt: skip
        found = tuple(rows.at(method, selection, place, n))
        n_rows = keeper.count(rows, method, selection)
        return Listed(
            selection, method, methods, found, n_rows, place, place + len(found) < n_rows,
            options=options, layers=layers, hint=hint, version=version,
        )  # fmt: skip


def _why_nothing(
    selection: Selection, layers: Sequence[int], options: Mapping[str, list[str]]
) -> str | None:
    s = selection
    if s.layer is not None and s.layer not in layers:
        return f"Layer {s.layer} is not here; the layers are {_in_short(layers)}."
    for name, low, high in (
        ("score", s.min_score, s.max_score), ("density", s.min_density, s.max_density),
    ):  # fmt: skip
        if low is not None and high is not None and low > high:
            return f"The least {name}, {low:g}, is above the most, {high:g}."
    for name in MAKERS:
        wanted = getattr(s, name)
        if wanted is not None and wanted not in options[name]:
            has = ", ".join(options[name]) or "none"
            return f"This method has no {name} “{wanted}” (it has {has})."
    return None


def _in_short(layers: Sequence[int]) -> str:
    """`0 to 47`, or one after the other where some are left out."""
    if len(layers) > 1 and len(layers) == layers[-1] - layers[0] + 1:
        return f"{layers[0]} to {layers[-1]}"
    return ", ".join(map(str, layers))


def list_json(listed: Listed) -> dict[str, Any]:
    """What `/table.json` and `/search.json` answer."""
    return {
        "method": None if listed.method is None else listed.method.fingerprint,
        "n_rows": listed.n_rows,
        "at": listed.place,
        "has_more": listed.has_more,
        "hint": listed.hint,
        "version": listed.version,
        "rows": [row_json(row) for row in listed.rows],
    }


def row_json(row: UnitRow) -> dict[str, Any]:
    """By the names of the csv file's columns."""
    return dict(zip(CSV_COLUMNS, row_columns(row), strict=True))


def _elsewhere(state: State, served: Served, listed: Listed) -> tuple[Beside, ...]:
    """Beside the first page."""
    if listed.place:
        return ()
    return find_elsewhere(state, served, listed.method, listed.selection)


def _page_after(
    state: State, served: Served, selection: Selection, after: str, n: int
) -> dict[str, Any]:
    with state.rows(served.source.key, selection.method) as (rows, method):
        if rows is None or method is None:
            return {"method": None, "rows": [], "next": None}
        found, cursor = rows.after(method, selection, after or None, max(n, 1))
    return {
        "method": method.fingerprint,
        "rows": [row_json(row) for row in found],
        "next": cursor,
    }


def _csv_lines(state: State, served: Served, selection: Selection) -> Generator[str, None, None]:
    """Some rows at a time are held."""
    yield csv_lines([CSV_COLUMNS])
    with state.rows(served.source.key, selection.method) as (rows, method):
        if rows is None or method is None:
            return
        yield from csv_rows(rows, method, selection)


def csv_rows(rows: UnitRows, method: Method, selection: Selection) -> Iterator[str]:
    """A line a unit, in the order of the list, some at a time; what is missing is empty."""
    for some in rows.pages(method, selection, CSV_ROWS_AT_ONCE):
        yield csv_lines(map(row_columns, some))


def csv_lines(rows: Iterable[Sequence[object]]) -> str:
    """What a spreadsheet would take for a formula begins with an apostrophe."""
    lines = io.StringIO()
    csv.writer(lines).writerows([_plain_cell(value) for value in row] for row in rows)
    return lines.getvalue()


def _plain_cell(value: object) -> object:
    if isinstance(value, str) and value.lstrip()[:1] in ("=", "+", "-", "@"):
        return "'" + value
    return value


def row_columns(row: UnitRow) -> tuple[object, ...]:
    """In the order of `CSV_COLUMNS`."""
    return (
        row.neuron_id.layer_index, row.neuron_id.neuron_index, row.text, row.score, row.low,
        row.high, row.full_distribution, row.random_only, row.explained_variance, row.baseline,
        row.gain, row.density, row.explainer, row.model, row.simulator, row.scorer, row.reason,
    )  # fmt: skip


def _as_unit(words: str) -> NeuronId | None:
    """`2:417` -> that unit; None: words to look for."""
    try:
        return NeuronId.parse(words)
    except UsageError:
        return None
