"""Live: what a run is at, on a page that is kept up to date by server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response, StreamingResponse

from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.viewer.environment import render_fragment
from neuron_explainer.viewer.hooks import LiveStatus
from neuron_explainer.viewer.live_feed import STILL_THERE, LiveFeed, Seen, format_event
from neuron_explainer.viewer.served import Find, Served, Show, prefixes

NO_CACHE = {"Cache-Control": "no-store"}


class Feeds:
    """One a source, made when somebody listens first; `end` before a server stops."""

    def __init__(self) -> None:
        self._feeds: dict[str, LiveFeed] = {}

    def of(self, served: Served) -> LiveFeed | None:
        """None: the source is no run."""
        read_status = served.hooks.status
        if read_status is None:
            return None
        return self._feeds.setdefault(served.source.key, LiveFeed(read_status))

    def end(self) -> None:
        """Open connections are let go, so that the server need not wait for them."""
        for feed in self._feeds.values():
            feed.end()


def make_router(find: Find, show: Show, feeds: Feeds) -> APIRouter:
    """`/live`, `/live.json` and `/live/events`, of the first source and of each by its key."""
    router = APIRouter()

    async def live_page(key: str | None = None) -> Response:
        served = find(key)
        seen = await _look(feeds, served)
        return show(served, "live.html.j2", "live", seen=as_context(seen))

    async def live_json(key: str | None = None) -> Response:
        seen = await _look(feeds, find(key))
        if isinstance(seen, str):
            return JSONResponse({"error": seen}, 503, headers=NO_CACHE)
        return JSONResponse(as_json(seen), headers=NO_CACHE)

    async def live_events(key: str | None = None) -> Response:
        served = find(key)
        feed = feeds.of(served)
        if feed is None:
            return Response(status_code=204)  # a browser does not ask again
        return StreamingResponse(
            _events(feed, served), media_type="text/event-stream", headers=NO_CACHE
        )

    for prefix in prefixes():
        router.add_api_route(f"{prefix}/live", live_page, methods=["GET"])
        router.add_api_route(f"{prefix}/live.json", live_json, methods=["GET"])
        router.add_api_route(f"{prefix}/live/events", live_events, methods=["GET"])
    return router


async def _look(feeds: Feeds, served: Served) -> Seen:
    feed = feeds.of(served)
    return served.hooks.reasons["status"] if feed is None else await feed.look()


async def _events(feed: LiveFeed, served: Served) -> AsyncIterator[str]:
    async for seen in feed.listen():
        if seen is None:
            yield STILL_THERE
            continue
        html = render_fragment("live_status.html.j2", seen=as_context(seen), links=served.links)
        yield format_event("status", json.dumps({"html": html, "line": one_line(seen)}))


def as_context(seen: Seen) -> dict[str, object]:
    """What live_status.html.j2 shows."""
    if isinstance(seen, str):
        return {"status": None, "error": seen}
    return {"status": seen, "error": None}


def one_line(seen: Seen) -> str:
    """For a screen reader: `running: explain, 40 of 200 neurons`"""
    if isinstance(seen, str):
        return seen
    state = "running" if seen.is_running else "not running"
    if seen.stage is None:
        return state
    return f"{state}: {seen.stage}, {seen.n_done:,} of {seen.n_total:,} {seen.unit}"


def as_json(status: LiveStatus) -> dict[str, Any]:
    """What `/live.json` answers."""
    plain = asdict(status)
    return plain | {"newest": [_plain_result(result) for result in status.newest]}


def _plain_result(result: UnitResult) -> dict[str, Any]:
    return {
        "unit": str(result.neuron_id),
        "text": result.text,
        "score": None if result.score is None else result.score.value,
        "reason": result.unscored_reason,
    }
