"""Home: what a source is, its scores in all and by layer, and where to begin."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from neuron_explainer.records.score import GOOD_SCORE
from neuron_explainer.stores.record_source import Facts, Manifest
from neuron_explainer.viewer.curves import Curves, draw_curves
from neuron_explainer.viewer.list_routes import row_json
from neuron_explainer.viewer.selection import Selection
from neuron_explainer.viewer.served import Served, prefixes
from neuron_explainer.viewer.state import State
from neuron_explainer.viewer.summaries import MethodSummary
from neuron_explainer.viewer.unit_rows import Method, UnitRow, UnitRows

N_SHOWN = 8
"""Neurons of each kind."""


class Step(NamedTuple):
    """How many units have come so far on the way to a score."""

    name: str
    n_units: int


@dataclass(frozen=True, slots=True)
class Home:
    """Of one method of a source."""

    facts: Facts
    method: Method | None = None
    """None: nothing is explained yet."""
    methods: tuple[Method, ...] = ()
    summary: MethodSummary | None = None
    """None: it is being made."""
    funnel: tuple[Step, ...] = ()
    """From all units to those that are scored."""
    curves: Curves | None = None
    best: tuple[UnitRow, ...] = ()
    surprising: tuple[UnitRow, ...] = ()
    surprise: str = ""
    """What is surprising about them."""


def make_router(state: State) -> APIRouter:
    """`/` and `/home.json`."""
    router = APIRouter()
    homes = _Homes(state)

    def page(request: Request, key: str | None = None) -> Response:
        served = state.find(key)
        if served.source.awaited is not None and served.hooks.status is not None:
            return RedirectResponse(served.links.page("live"))
        state.keepers[served.source.key].settle()
        return homes.of(served, request.query_params.get("method"))

    def as_json(request: Request, key: str | None = None) -> Response:
        served = state.find(key)
        state.keepers[served.source.key].settle()
        return JSONResponse(home_json(read_home(state, served, request.query_params.get("method"))))

    for prefix in prefixes():
        router.add_api_route(f"{prefix}/", page, methods=["GET"])
        router.add_api_route(f"{prefix}/home.json", as_json, methods=["GET"])
    return router


class _Homes:
    """Pages that are made once for each version of an index, of methods that are there alone."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._made: dict[tuple[str, str | None], tuple[int, Response]] = {}  # with the version
        self._making = threading.Lock()

    def of(self, served: Served, fingerprint: str | None) -> Response:
        found = self._find(served, fingerprint)
        if found is not None:
            return found
        with self._making:  # who waited finds it made
            return self._find(served, fingerprint) or self._make(served, fingerprint)

    def _find(self, served: Served, fingerprint: str | None) -> Response | None:
        keeper = self._state.keepers[served.source.key]
        version, page = self._made.get((served.source.key, fingerprint), (None, None))
        return page if version == keeper.version and keeper.is_whole else None

    def _make(self, served: Served, fingerprint: str | None) -> Response:
        keeper = self._state.keepers[served.source.key]
        version = keeper.version
        home = read_home(self._state, served, fingerprint)
        page = self._state.show(served, "home.html.j2", "", home=home, good_score=GOOD_SCORE)
        if version and home.summary is not None and keeper.is_whole:
            self._made[served.source.key, fingerprint] = (version, page)
        return page


def read_home(state: State, served: Served, fingerprint: str | None = None) -> Home:
    """Of a method, the current one if not said."""
    with state.rows(served.source.key, fingerprint) as (rows, method):
        if rows is None or method is None:
            return Home(_facts(served, None))
        written = rows.summary(method)
        summary = None if written is None else MethodSummary.parse(written)
        best = rows.at(method, Selection(sort="score", desc=True, status="scored"), 0, N_SHOWN)
        surprising, surprise = _surprising(rows, method)
        return Home(
            _facts(served, summary),
            method,
            rows.methods(),
            summary,
            () if summary is None else _funnel(served.source.records.manifest, summary),
            None if summary is None else draw_curves(summary, method.baseline),
            tuple(best),
            tuple(surprising),
            surprise,
        )


def home_json(home: Home) -> dict[str, Any]:
    """The numbers without the drawings."""
    summary = home.summary
    return {
        "facts": dict(home.facts),
        "method": None if home.method is None else home.method.fingerprint,
        "methods": [{"method": m.fingerprint, "label": m.label} for m in home.methods],
        "n_units": None if summary is None else summary.n_units,
        "funnel": {step.name: step.n_units for step in home.funnel},
        "scores": None if summary is None else _plain(asdict(summary.overall)),
        "layers": None
        if summary is None
        else [
            {
                "layer": layer.layer_index,
                "n_neurons": layer.n_neurons,
                "full_mean": layer.full_mean,
                "random_mean": layer.random_mean,
                "baseline_mean": layer.baseline_mean,
                **_plain(asdict(layer.distribution)),
            }
            for layer in summary.layers
        ],
        "unscored": None if summary is None else summary.unscored,
        "best": [row_json(row) for row in home.best],
        "surprising": [row_json(row) for row in home.surprising],
    }


def _plain(distribution: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in distribution.items() if name != "path"}


def _surprising(rows: UnitRows, method: Method) -> tuple[list[UnitRow], str]:
    """Where the words say more than the baseline; without one, good scores of rare neurons."""
    if method.baseline is not None:
        found = rows.at(method, Selection(sort="gain", desc=True, status="scored"), 0, N_SHOWN)
        gained = [row for row in found if row.gain is not None and row.gain > 0]
        return gained, f"highest above {method.baseline}"
    rare = Selection(sort="density", min_score=GOOD_SCORE, status="scored")
    found = rows.at(method, rare, 0, N_SHOWN)
    counted = [row for row in found if row.density is not None]
    return counted, f"rarest with a score above {GOOD_SCORE}"


def _funnel(manifest: Manifest, summary: MethodSummary) -> tuple[Step, ...]:
    units = manifest.units
    return (
        Step("in these layers of the model", len(units.layers) * units.n_a_layer),
        Step("recorded", len(units)),
        Step("given to this method", summary.n_units),
        Step("explained", summary.n_explained),
        Step("scored", summary.overall.n),
    )


def _facts(served: Served, summary: MethodSummary | None) -> Facts:
    manifest = served.source.records.manifest
    collected = (
        ("Model", f"{manifest.subject}, {manifest.size()}"),
        ("Read at", f"{manifest.site}, layers {', '.join(map(str, manifest.layers))}"),
        *manifest.facts(),
    )
    if summary is None:
        return collected
    explainers = {e if model is None else f"{e} by {model}" for e, model, _, _ in summary.makers}
    simulators = {simulator for _, _, simulator, _ in summary.makers if simulator is not None}
    made = (
        ("Explained by", ", ".join(sorted(explainers)) or "–"),
        ("Simulated by", ", ".join(sorted(simulators)) or "–"),
        ("Asked", served.source.asked if summary.cost is None else summary.cost.sentence()),
    )
    return (*collected, *made)
