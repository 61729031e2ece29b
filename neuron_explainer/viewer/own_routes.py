"""Your own explanation of a unit: what it costs to score it, then its score, beside the run's.

Nothing is spent that was not shown: who asks for a score names the cost that they saw.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel
from starlette.responses import HTMLResponse, JSONResponse, Response

from neuron_explainer.errors import NeuronExplainerError, UsageError
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.viewer.distributions import Axis
from neuron_explainer.viewer.environment import render_fragment
from neuron_explainer.viewer.hooks import OwnCost
from neuron_explainer.viewer.own_explanations import (
    FILE,
    OwnExplanation,
    OwnExplanations,
    now,
    read_own,
)
from neuron_explainer.viewer.report import Card
from neuron_explainer.viewer.served import (
    Find,
    Served,
    prefixes,
    require_text,
    status_of,
)
from neuron_explainer.viewer.sources import Claim
from neuron_explainer.viewer.unit_page import claim_card, read_record

MAX_NAME = 80
"""Characters of how people call themselves."""
MAX_WORDS = 2000
"""Characters of an explanation: it goes into every prompt of a simulator."""
NO_CACHE = {"Cache-Control": "no-store"}


class Written(BaseModel):
    """An explanation, as the page sends it."""

    text: str
    author: str = ""
    agreed: str = ""
    """The cost that was shown, word for word."""


class OwnCard(NamedTuple):
    """One of them, as a card draws it."""

    own: OwnExplanation
    card: Card


@dataclass(frozen=True, slots=True)
class OwnSection:
    """What own.html.j2 shows on the page of a unit."""

    neuron_id: NeuronId
    absent: str | None
    """Why no score can be had; None: it can."""
    written: tuple[OwnCard, ...]
    """The newest first."""
    address: str
    """Of the list; `/cost` behind it asks for the cost, and a POST to it for a score."""
    error: str | None = None
    """Why the list cannot be read."""


def own_section(served: Served, neuron_id: NeuronId) -> OwnSection:
    """Nothing is raised: the rest of the page does not depend on it."""
    written: tuple[OwnCard, ...] = ()
    error = None
    try:
        written = tuple(_cards(served, neuron_id))
    except NeuronExplainerError as raised:
        error = str(raised)
    absent = served.hooks.reasons.get("score_own")
    address = served.links.unit(neuron_id, "/own")
    return OwnSection(neuron_id, absent, written, address, error)


def _cards(served: Served, neuron_id: NeuronId) -> Iterator[OwnCard]:
    written = read_own(served.source.folder / FILE, neuron_id)
    record = read_record(served.source, neuron_id)[0] if written else None
    for own in written:
        scored = own.scored
        result = UnitResult(
            neuron_id, own.author or "unnamed", own.text, None, {**scored.scores}, scored.headline,
            scored.simulator, cost=own.cost, scorer=scored.scorer,
        )  # fmt: skip
        claim = Claim("own", "your own", result, scored.windows)
        yield OwnCard(own, claim_card(claim, None, record))


class UnderWay:
    """Units of which an explanation is being scored, so that none is paid for twice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._units: set[tuple[str, NeuronId]] = set()

    @contextmanager
    def alone(self, key: str, neuron_id: NeuronId) -> Iterator[None]:
        """HTTPException 409 where one of the unit is under way already."""
        unit = (key, neuron_id)
        with self._lock:
            if unit in self._units:
                raise HTTPException(
                    409, f"an explanation of neuron {neuron_id} is being scored; wait for it"
                )
            self._units.add(unit)
        try:
            yield
        finally:
            with self._lock:
                self._units.discard(unit)


def make_router(find: Find) -> APIRouter:
    """Below the page of a unit: GET `/own`, `/own.json` and `/own/windows`, POST `/own/cost` and
    `/own`."""
    router = APIRouter()
    under_way = UnderWay()

    def own_list(layer: int, neuron: int, key: str | None = None) -> Response:
        served = find(key)
        section = own_section(served, _known(served, layer, neuron))
        html = render_fragment("own_list.html.j2", own=section, axis=Axis(-1.0))
        return HTMLResponse(html, headers=NO_CACHE)

    def own_json(layer: int, neuron: int, key: str | None = None) -> Response:
        served = find(key)
        section = own_section(served, _known(served, layer, neuron))
        if section.error is not None:
            return JSONResponse({"error": section.error}, 503)
        return JSONResponse([as_json(one.own) for one in section.written], headers=NO_CACHE)

    def own_windows(layer: int, neuron: int, number: int, key: str | None = None) -> Response:
        served = find(key)
        neuron_id = _known(served, layer, neuron)
        found = (one.card for one in _cards(served, neuron_id) if one.own.number == number)
        card = next(found, None)
        if card is None:
            raise HTTPException(404, f"no such explanation of neuron {neuron_id}")
        return HTMLResponse(render_fragment("claim_windows.html.j2", card=card, is_whole=True))

    def own_cost(layer: int, neuron: int, written: Written, key: str | None = None) -> Response:
        served = find(key)
        neuron_id = _known(served, layer, neuron)
        try:
            return JSONResponse(_plain_cost(_cost(served, neuron_id, _words(written))))
        except NeuronExplainerError as error:
            return JSONResponse({"error": str(error)}, status_of(error))

    def own_score(layer: int, neuron: int, written: Written, key: str | None = None) -> Response:
        served = find(key)
        neuron_id = _known(served, layer, neuron)
        try:
            with under_way.alone(served.source.key, neuron_id):
                return _score(served, neuron_id, written)
        except NeuronExplainerError as error:
            return JSONResponse({"error": str(error)}, status_of(error))

    for prefix in prefixes():
        of_unit = f"{prefix}/layers/{{layer}}/neurons/{{neuron}}/own"
        router.add_api_route(of_unit, own_list, methods=["GET"])
        router.add_api_route(f"{of_unit}.json", own_json, methods=["GET"])
        router.add_api_route(f"{of_unit}/windows", own_windows, methods=["GET"])
        router.add_api_route(f"{of_unit}/cost", own_cost, methods=["POST"])
        router.add_api_route(of_unit, own_score, methods=["POST"])
    return router


def as_json(own: OwnExplanation) -> dict[str, Any]:
    """Without its windows."""
    return {
        "unit": str(own.neuron_id),
        "text": own.text,
        "author": own.author,
        "written_at": own.written_at,
        "simulator": own.scored.simulator,
        "scorer": own.scored.scorer,
        "headline": own.scored.headline,
        "scores": {name: asdict(score) for name, score in own.scored.scores.items()},
        "cost": asdict(own.cost),
    }


def _score(served: Served, neuron_id: NeuronId, written: Written) -> Response:
    text = _words(written)
    cost = _cost(served, neuron_id, text)
    if written.agreed != cost.asked:
        error = "the cost is another one than was agreed to; look at it again"
        return JSONResponse({"error": error, "cost": _plain_cost(cost)}, 409)
    assert served.hooks.score_own is not None  # where there is a cost there is a score
    scored = served.hooks.score_own(neuron_id, text)
    author = require_text(written.author[:MAX_NAME], "name") if written.author.strip() else None
    own = OwnExplanation(neuron_id, text, author, now(), scored.scored, scored.cost)
    with OwnExplanations(served.source.folder / FILE) as kept:
        kept.add(own)
    return JSONResponse(as_json(own))


def _cost(served: Served, neuron_id: NeuronId, text: str) -> OwnCost:
    if served.hooks.cost_of_own is None:
        raise UsageError(served.hooks.reasons["cost_of_own"])
    return served.hooks.cost_of_own(neuron_id, text)


def _plain_cost(cost: OwnCost) -> dict[str, Any]:
    return asdict(cost) | {"fits": cost.fits}


def _words(written: Written) -> str:
    text = require_text(written.text, "explanation")
    if len(text) > MAX_WORDS:
        raise UsageError(
            f"the explanation has {len(text):,} characters; at most {MAX_WORDS:,} are taken"
        )
    return text


def _known(served: Served, layer: int, neuron: int) -> NeuronId:
    """HTTPException 404 for a unit that is not there."""
    neuron_id = NeuronId(layer, neuron)
    if min(neuron_id.layer_index, neuron_id.neuron_index) < 0:
        raise HTTPException(404, f"no neuron {neuron_id}")
    try:
        served.source.records.read_density(neuron_id)
    except NeuronExplainerError as error:
        raise HTTPException(status_of(error), str(error)) from error
    return neuron_id
