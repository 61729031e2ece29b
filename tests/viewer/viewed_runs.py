"""Runs of made-up results over scripted records, as the viewer is handed them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from neuron_explainer.records.cost import UnitCost
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.score import (
    BY_CHANCE,
    EXPLAINED_VARIANCE,
    FULL_DISTRIBUTION,
    RANDOM_ONLY,
    TOP_AND_RANDOM,
    Score,
    ScoredSimulation,
    ScoredWindow,
)
from neuron_explainer.records.simulation import SequenceSimulation
from neuron_explainer.stores.result_rows import ResultRows
from neuron_explainer.stores.results import BASELINE, Results
from neuron_explainer.viewer.app import create_app
from neuron_explainer.viewer.hooks import Hooks
from neuron_explainer.viewer.sources import RunClaims, ViewSource
from neuron_explainer.viewer.state import State
from tests.viewer.served_fakes import HOSTILE, N_LAYERS, N_UNITS, FakeRecords

ORIGIN = "http://127.0.0.1:8000"
METRIC = "ev_correlation_score"
UNITS = tuple(NeuronId(layer, unit) for layer in range(N_LAYERS) for unit in range(N_UNITS))
WORDS = ("time", "colour", "brackets", "names of rivers", "verbs", "numbers")
TOKENS = (" a", "<b>", "c")


def scored(
    value: float | None, reason: str | None = None, metric: str = METRIC
) -> ScoredSimulation:
    """random-only is half the headline, full-distribution three quarters."""
    if value is None:
        headline = Score(metric, None, 30, reason=reason or "constant prediction: all 0")
        return ScoredSimulation("simulation", "s", {TOP_AND_RANDOM: headline}, (), TOP_AND_RANDOM)
    scores = {
        TOP_AND_RANDOM: Score(metric, value, 30, value - 0.1, value + 0.1),
        FULL_DISTRIBUTION: Score(metric, value * 0.75, 30),
        RANDOM_ONLY: Score(metric, value / 2, 15),
        BY_CHANCE: Score(metric, 0.01, 30, -0.125, 0.25),
        EXPLAINED_VARIANCE: Score("explained_variance", value / 4, 30),
    }
    windows = tuple(
        ScoredWindow(
            subset,
            SequenceSimulation(TOKENS, (0.0, None, 5.0), ActivationScale.NORMALIZED),
            (0.5, -1.0, None),
            Score(metric, None, 3, reason="too few tokens"),
        )
        for subset in ("top", "top", "random")
    )
    return ScoredSimulation("simulation", "s", scores, windows, TOP_AND_RANDOM)


def text_of(neuron_id: NeuronId, rng: random.Random) -> str:
    hostile = HOSTILE[neuron_id.neuron_index % len(HOSTILE)].replace("\0", "␀")
    return f"{rng.choice(WORDS)}, {rng.choice(WORDS)} {hostile}"


def write_method(
    results: Results,
    method: str,
    *,
    units: Iterable[NeuronId] = UNITS,
    seed: int = 0,
    choices: Mapping[str, Any] | None = None,
    metric: str = METRIC,
) -> None:
    """Every fifth unit has no score, every seventh no explanation; scores are tenths, with ties."""
    rng = random.Random(seed)
    for number, neuron_id in enumerate(units):
        if number % 7 == 6:
            results.add_unexplained(method, neuron_id, "e", "dead unit: never active")
            continue
        value = None if number % 5 == 4 else rng.randrange(-3, 10) / 10
        explanation = Explanation(neuron_id, text_of(neuron_id, rng), "e", model=f"m{number % 2}")
        cost = UnitCost(n_requests=1, cost_picousd=10**9)
        results.add_explained(method, explanation, scored(value, metric=metric), cost=cost)
    results.use_method(method, {"explainer": f"explainer {method}", **(choices or {})})


def write_run(folder: Path, seed: int = 0) -> Path:
    """Two methods, the current one beside the other."""
    path = folder / "results.sqlite"
    with Results(path) as results:
        write_method(results, "0a", seed=seed + 1)
        write_method(results, "0b", seed=seed, choices={BASELINE: "0a"})
    return path


def run_source(folder: Path, key: str = "a", title: str = "a run") -> ViewSource:
    path = folder / "results.sqlite"
    return ViewSource(
        key,
        title,
        FakeRecords(),
        folder,
        watched=(path, Path(f"{path}-wal")),
        open_rows=lambda: ResultRows(path),
        read_claims=RunClaims(path, lambda _choices: nullcontext(None)),
    )


def open_client(
    *sources: ViewSource, hooks: Mapping[str, Hooks] | None = None, **choices: Any
) -> TestClient:
    """With all that is in the results indexed."""
    app = create_app(sources, hooks, **choices)
    state_of_app(app).update()
    return TestClient(app, base_url=ORIGIN, follow_redirects=False)


def state_of(client: TestClient) -> State:
    return state_of_app(client.app)


def state_of_app(app: Any) -> State:
    state = app.state.viewer
    assert isinstance(state, State)
    return state
