"""Search: beyond its own list, and in words where nothing can fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import Score
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.results import Results
from neuron_explainer.viewer.list_routes import read_list
from neuron_explainer.viewer.selection import Selection
from tests.viewer.viewed_runs import UNITS, open_client, run_source, scored, state_of

LISTED = UnitResult(
    UNITS[5], "by hand", "rivers <b>listed</b>", None, {"s": Score("s", 0.5, None)}, "s", None
)


def search_imported(
    words: str, layer: int | None, _min_score: float | None, n: int
) -> list[tuple[str, UnitResult]]:
    fits = words == "rivers" and layer in (None, UNITS[5].layer_index)
    return [("a list", LISTED)][:n] if fits else []


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Two runs: "rivers" is said by one method of either and by a list, each of another unit."""
    sources = []
    for number, key in enumerate("ab"):
        folder = tmp_path_factory.mktemp(key)
        with Results(folder / "results.sqlite") as results:
            for method, words in (("0a", "rivers"), ("0b", "verbs")):
                for unit in UNITS[number : number + 2]:
                    claim = Explanation(unit, f"{words} of {key}", "e", model=f"m{method}")
                    results.add_explained(method, claim, scored(0.5))
                results.use_method(method, {"explainer": f"explainer {method}"})
        sources.append(run_source(folder, key, f"run {key}"))
    sources[1] = replace(sources[1], search_imported=search_imported)
    with open_client(*sources) as opened:
        yield opened


def units_of(found: list[dict[str, object]]) -> list[tuple[object, NeuronId]]:
    return [(one["by"], NeuronId(one["layer"], one["neuron"])) for one in found]  # type: ignore[arg-type]


def test_what_other_methods_sources_and_lists_say_is_found_with_who_says_it(
    client: TestClient,
) -> None:
    found = client.get("/search.json?q=rivers").json()
    assert found["rows"] == []
    assert sorted(units_of(found["elsewhere"])) == [
        ("run a: explainer 0a", UNITS[0]), ("run a: explainer 0a", UNITS[1]),
        ("run b: a list", UNITS[5]),
        ("run b: explainer 0a", UNITS[1]), ("run b: explainer 0a", UNITS[2]),
    ]  # fmt: skip
    page = client.get("/search?q=rivers").text
    assert "rivers &lt;b&gt;listed&lt;/b&gt;" in page
    unit = UNITS[2]
    assert f'href="/s/b/layers/{unit.layer_index}/neurons/{unit.neuron_index}"' in page


def test_what_the_list_has_is_not_found_elsewhere_again(client: TestClient) -> None:
    found = client.get("/search.json?q=rivers&method=0a").json()
    assert len(found["rows"]) == 2
    assert {by for by, _ in units_of(found["elsewhere"])} == {
        "run b: explainer 0a", "run b: a list",
    }  # fmt: skip
    assert client.get("/search.json?q=rivers&at=50").json()["elsewhere"] == []
    assert client.get("/search.json?min_score=0.1").json()["elsewhere"] == []


def test_filters_hold_elsewhere_and_a_list_that_cannot_tell_is_left_out(
    client: TestClient,
) -> None:
    for query in ("layer=1", "status=unscored", "model=m0b", "min_score=0.6"):
        found = client.get(f"/search.json?q=rivers&{query}").json()["elsewhere"]
        assert not [by for by, _ in units_of(found) if "explainer" in str(by)]
    by_model = client.get("/search.json?q=rivers&model=m0a").json()["elsewhere"]
    assert {by for by, _ in units_of(by_model)} == {"run a: explainer 0a", "run b: explainer 0a"}


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("layer=77", "Layer 77 is not here; the layers are 0 to 1."),
        ("min_score=0.5&max_score=0.25", "The least score, 0.5, is above the most, 0.25."),
        ("min_density=1&max_density=0", "The least density, 1, is above the most, 0."),
        ("model=m0a", "This method has no model “m0a” (it has m0b)."),
        ("model=m0a&method=0a", None),
        ("min_score=0.25&layer=1", None),
    ],
)
def test_why_nothing_fits_is_said_where_nothing_can(
    client: TestClient, query: str, hint: str | None
) -> None:
    for page in ("table", "search"):
        found = client.get(f"/{page}.json?{query}").json()
        assert found["hint"] == hint
        if hint is not None:
            assert found["n_rows"] == 0
            assert hint in client.get(f"/{page}?{query}").text


def test_only_what_a_method_has_is_offered(client: TestClient) -> None:
    state = state_of(client)
    for method in ("0a", "0b"):
        listed = read_list(state, state.find(None), Selection(method=method), 0, 1)
        assert listed.options is not None
        assert listed.options["model"] == [f"m{method}"]
