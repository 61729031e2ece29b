"""Pages that many ask for at once are made by processes beside the server, a core each.

The threads of one interpreter share a core. What a process makes is what the server's own routes
would answer: it has the same routes over the same files, and only reads. The server keeps the
indexes and says of which state a request is; while an index is being made it answers itself.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import re
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import NamedTuple

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neuron_explainer.viewer.environment import compile_templates
from neuron_explainer.viewer.keeper import IndexKeeper

logger = logging.getLogger(__name__)
N_UNDER_WAY = 2
"""Requests, from which on the processes are worth their start."""
_PATHS = re.compile(
    r"(/s/[a-z])?/(search|table\.json|layers/\d+/neurons/\d+(\.json|\.md|/windows|/tokens)?)"
)
"""What is read from files alone, and comes whole."""
_WAITS = re.compile(rb"(^|&)all=")
"""A page with nothing left to ask for waits for the model."""


class Asked(NamedTuple):
    """A request, with the version of each source's index."""

    scope: Scope
    versions: Mapping[str, int]


class Answered(NamedTuple):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class PageProcesses:
    """ASGI middleware; what no process takes is answered by the app behind it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        make: Callable[[], FastAPI],
        n: int,
        keepers: Mapping[str, IndexKeeper],
    ) -> None:
        """make: an app that follows (`create_app`), in each process; it pickles."""
        self._app = app
        self._make = make
        self._n = n
        self._keepers = keepers
        self._limiter: CapacityLimiter | None = None
        self._free: SimpleQueue[Connection | None] = SimpleQueue()
        """None: in the place of one that has ended."""
        self._n_ready = 0
        self._n_under_way = 0
        self._starting: threading.Thread | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._n_under_way += 1
        try:
            answered = await self._ask(scope) if self._may_take(scope) else None
            if answered is None:
                await self._app(scope, receive, send)
                return
        finally:
            self._n_under_way -= 1
        start = {"type": "http.response.start", "status": answered.status}
        await send({**start, "headers": answered.headers})
        await send({"type": "http.response.body", "body": answered.body})

    def _may_take(self, scope: Scope) -> bool:
        if self._n_under_way >= N_UNDER_WAY and self._starting is None:
            self._starting = threading.Thread(target=self._start_all, daemon=True)
            self._starting.start()
        is_page = scope["method"] == "GET" and _PATHS.fullmatch(scope["path"])
        if not self._n_ready or not is_page or _WAITS.search(scope["query_string"]):
            return False
        for keeper in self._keepers.values():
            keeper.refresh()
        return all(keeper.is_whole for keeper in self._keepers.values())

    def _start_all(self) -> None:
        context = multiprocessing.get_context("spawn")
        started = []
        for _ in range(self._n):
            here, there = context.Pipe()
            context.Process(target=make_pages, args=(there, self._make), daemon=True).start()
            there.close()
            started.append(here)
        for connection in started:
            try:
                connection.recv()
            except (EOFError, OSError):
                logger.warning("a process that makes pages has not started")
                continue
            self._free.put(connection)
            self._n_ready += 1

    async def _ask(self, scope: Scope) -> Answered | None:
        if self._limiter is None:
            self._limiter = CapacityLimiter(self._n)
        plain = {name: scope[name] for name in ("path", "raw_path", "query_string", "headers")}
        versions = {key: keeper.version for key, keeper in self._keepers.items()}
        ask = partial(self._ask_one, Asked(plain, versions))
        return await to_thread.run_sync(ask, limiter=self._limiter)

    def _ask_one(self, asked: Asked) -> Answered | None:
        """None: it could not make the page, or has ended; the others go on."""
        connection = self._free.get()
        answered: Answered | None = None
        if connection is not None:
            try:
                connection.send(asked)
                answered = connection.recv()
            except (EOFError, OSError):
                logger.warning("a process that makes pages has ended")
                self._n_ready -= 1
                connection.close()
                connection = None
        self._free.put(connection)
        return answered


def make_pages(connection: Connection, make: Callable[[], FastAPI]) -> None:
    """In a process of its own, until the server closes its end of the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    app = make()
    compile_templates()
    asyncio.run(_answer_all(connection, app))


async def _answer_all(connection: Connection, app: FastAPI) -> None:
    """One after the other: the loop has nothing to do while it waits for the next."""
    await _warm_up(app)
    gc.collect()
    gc.freeze()  # what is there now stays, and need not be gone through again and again
    connection.send(None)
    with suppress(EOFError, OSError):
        while True:
            asked: Asked = connection.recv()
            connection.send(await _try(app, asked))


async def _try(app: FastAPI, asked: Asked) -> Answered | None:
    """None: what went wrong is for the server to meet itself, and to tell."""
    try:
        app.state.viewer.follow(asked.versions)
        return await _answer(app, asked.scope)
    except Exception:
        logger.exception("%s could not be made", asked.scope["path"])
        return None


async def _warm_up(app: ASGIApp) -> None:
    """Makes a page of each kind, as the first one opens files and imports what it needs."""
    somewhere = await _answer(app, _scope_of("/random"))
    paths = [value.decode("ascii") for name, value in somewhere.headers if name == b"location"]
    for path in (*paths, "/table.json", "/search?q=a"):
        await _answer(app, _scope_of(path))


def _scope_of(address: str) -> Scope:
    path, _, query = address.partition("?")
    return {"path": path, "raw_path": path.encode(), "query_string": query.encode(), "headers": []}


async def _answer(app: ASGIApp, asked: Scope) -> Answered:
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "root_path": "", "client": None, "server": None, **asked,
    }  # fmt: skip
    messages: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, send)
    start, *parts = messages
    body = b"".join(part.get("body", b"") for part in parts)
    return Answered(start["status"], list(start["headers"]), body)
