"""The routes that ask hooks, over scripted sources, as a browser on this machine sees them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from fastapi import FastAPI, HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.testclient import TestClient

from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.viewer import live_routes, own_routes, try_routes
from neuron_explainer.viewer.environment import render_page
from neuron_explainer.viewer.guard import LOOPBACK, Guard, policy
from neuron_explainer.viewer.hooks import Hooks
from neuron_explainer.viewer.links import ServerLinks
from neuron_explainer.viewer.live_routes import Feeds
from neuron_explainer.viewer.pages import Site
from neuron_explainer.viewer.served import Served, UnitLine
from tests.viewer.served_fakes import fake_source, read_claims

ORIGIN = "http://127.0.0.1:8000"


def look_up(neuron_ids: Sequence[NeuronId]) -> Mapping[NeuronId, UnitLine]:
    claims = {neuron_id: read_claims(neuron_id) for neuron_id in neuron_ids}
    return {i: UnitLine(found[0].result.text, 0.5, None) for i, found in claims.items() if found}


def explained() -> Collection[NeuronId]:
    return [NeuronId(0, 0), NeuronId(0, 2)]


def make_app(folder: Path, hooks: Mapping[str, Hooks]) -> FastAPI:
    """hooks: by the key of a source, the first one's first."""
    first = next(iter(hooks))
    served = {
        key: Served(
            fake_source(folder / key, key), of_key, ServerLinks(None if key == first else key),
            look_up, explained,
        )
        for key, of_key in hooks.items()
    }  # fmt: skip

    def find(key: str | None) -> Served:
        if (key or first) not in served:
            raise HTTPException(404, "no such source")
        return served[key or first]

    def show(
        of: Served, template: str, here: str, status: int = 200, **context: object
    ) -> Response:
        page = render_page(template, site=Site(here, of.links, ()), served=of, **context)
        headers = {"Content-Security-Policy": policy(page.style_hash)}
        return HTMLResponse(page.html, status, headers)

    app = FastAPI()
    app.state.feeds = Feeds()
    app.include_router(try_routes.make_router(find, show))
    app.include_router(own_routes.make_router(find))
    app.include_router(live_routes.make_router(find, show, app.state.feeds))
    app.add_middleware(Guard, hosts=LOOPBACK, token=None)
    return app


def open_client(folder: Path, hooks: Mapping[str, Hooks]) -> TestClient:
    return TestClient(make_app(folder, hooks), base_url=ORIGIN)
