"""The viewer as a FastAPI application: pages rendered here, JSON beside them, nothing from outside.

Requests name sources, layers, neurons, methods and lists; none names a file or an address.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as HTTPError
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles

from neuron_explainer.errors import NeuronExplainerError, UsageError
from neuron_explainer.viewer import (
    compare_routes,
    favourite_routes,
    home_routes,
    list_routes,
    live_routes,
    own_routes,
    try_routes,
    unit_routes,
)
from neuron_explainer.viewer.forms import is_form
from neuron_explainer.viewer.guard import EVERY_ADDRESS, LOOPBACK, Guard
from neuron_explainer.viewer.head import Head
from neuron_explainer.viewer.hooks import Hooks
from neuron_explainer.viewer.page_processes import PageProcesses
from neuron_explainer.viewer.served import status_of
from neuron_explainer.viewer.sources import ViewSource
from neuron_explainer.viewer.state import State


class PageMakers(NamedTuple):
    """Processes that make pages (`page_processes.py`)."""

    make: Callable[[], FastAPI]
    """Of a module, and what it is called with pickles: what `make_following_app` answers."""
    n: int


STATIC = Path(__file__).parent / "static"


def create_app(
    sources: Sequence[ViewSource],
    hooks: Mapping[str, Hooks] | None = None,
    *,
    token: str | None = None,
    host: str = "127.0.0.1",
    page_makers: PageMakers | None = None,
) -> FastAPI:
    """hooks: by the source's key. host: where it listens; beyond loopback a token is asked for.
    page_makers: processes beside this one, where many pages are asked for at once.

    UsageError without a token there.
    """
    is_open = host not in LOOPBACK
    if is_open and not token:
        raise UsageError(f"--host {host} can be reached by others; give a --token, too")
    app = _make_app(State(sources, hooks))
    state: State = app.state.viewer
    if page_makers is not None:
        app.add_middleware(PageProcesses, keepers=state.keepers, **page_makers._asdict())
    hosts = None if host in EVERY_ADDRESS else {*LOOPBACK, host}
    app.add_middleware(Head)
    app.add_middleware(Guard, hosts=hosts, token=token)
    return app


def make_following_app(
    sources: Sequence[ViewSource], hooks: Mapping[str, Hooks] | None = None
) -> FastAPI:
    """Of a process that makes pages for another one, which guards them and keeps the indexes."""
    return _make_app(State(sources, hooks, follows=True))


def _make_app(state: State) -> FastAPI:
    feeds = live_routes.Feeds()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        state.refresh()
        yield
        feeds.end()
        state.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.viewer, app.state.feeds = state, feeds
    routers = (
        home_routes.make_router(state),
        own_routes.make_router(state.find),
        unit_routes.make_router(state),
        list_routes.make_router(state),
        compare_routes.make_router(state),
        favourite_routes.make_router(state),
        try_routes.make_router(state.find, state.show),
        live_routes.make_router(state.find, state.show, feeds),
    )
    for router in routers:
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC))
    _tell_problems(app, state)
    return app


def _places(loc: Sequence[str | int]) -> list[str]:
    """Of what is not understood, without whether it came in the address or the body."""
    return [".".join(map(str, loc[1:]))] if loc[1:] else []


def _tell_problems(app: FastAPI, state: State) -> None:
    """One line, on a page; or in JSON where JSON was asked for, or sent."""

    def answer(request: Request, message: str, status: int) -> Response:
        is_sent = request.method != "GET" and not is_form(request)
        if is_sent or request.url.path.endswith(".json"):
            return JSONResponse({"error": message}, status)
        key = request.path_params.get("key")
        served = state.find(key if key in state.sources else None)
        return state.show(served, "problem.html.j2", "problem", status, message=message)

    async def on_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, NeuronExplainerError)
        return answer(request, str(error), status_of(error))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPError)
        response = answer(request, str(error.detail), error.status_code)
        response.headers.update(error.headers or {})  # such as what is allowed
        return response

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        lines = (": ".join([*_places(e["loc"]), e["msg"]]) for e in error.errors())
        return answer(request, next(lines, "not understood"), 422)

    app.add_exception_handler(NeuronExplainerError, on_error)
    app.add_exception_handler(HTTPError, on_http)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
