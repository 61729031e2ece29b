"""Favourites: kept beside the run, told on the unit's page, and handed on as a list of units."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from neuron_explainer.errors import UsageError
from neuron_explainer.formats.neuron_lists import read_neuron_list
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.results import Results
from neuron_explainer.viewer.favourites import FavouriteList, Favourites
from tests.viewer.viewed_runs import open_client, run_source, write_method, write_run

UNIT = NeuronId(1, 3)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    write_run(tmp_path)
    with open_client(run_source(tmp_path)) as opened:
        yield opened


def test_a_unit_is_on_a_list_once_until_it_is_taken_off(tmp_path: Path) -> None:
    with Favourites(tmp_path) as favourites:
        for _ in range(2):
            favourites.put("mine", UNIT, is_on=True)
        favourites.put("other", NeuronId(0, 1), is_on=True)
    with Favourites(tmp_path) as favourites:
        assert favourites.lists() == (FavouriteList("mine", 1), FavouriteList("other", 1))
        assert favourites.units("mine") == [UNIT]
        assert favourites.lists_of(UNIT) == ("mine",)
        favourites.put("mine", UNIT, is_on=False)
        favourites.put("mine", UNIT, is_on=False)
        assert favourites.lists() == (FavouriteList("other", 1),)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 81, "\u202e"])
def test_a_name_that_no_list_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with Favourites(tmp_path) as favourites, pytest.raises(UsageError, match="name"):
        favourites.put(name, UNIT, is_on=True)


def test_the_star_of_a_page_is_kept(client: TestClient, tmp_path: Path) -> None:
    assert 'aria-pressed="false"' in client.get("/layers/1/neurons/3").text
    wish = {"layer": 1, "neuron": 3}
    assert client.post("/favourites", json=wish).json() == {"lists": ["favourites"]}
    assert 'aria-pressed="true"' in client.get("/layers/1/neurons/3").text
    assert "1 neuron on <bdi>favourites" in client.get("/favourites").text
    assert client.post("/favourites", json={**wish, "on": False}).json() == {"lists": []}
    assert client.get("/favourites.json").json()["units"] == []
    assert (tmp_path / "view_favourites.sqlite").exists()


def test_lists_are_named_and_changed_by_forms_alone(client: TestClient) -> None:
    unit, name = "/layers/1/neurons/3", "to read & to do"
    for back, page in (("unit", unit), ("list", f"/favourites?{urlencode({'list': name})}")):
        form = {"unit": "1:3", "list": f" {name} ", "back": back}
        answer = client.post("/favourites/put", data=form)
        assert (answer.status_code, answer.headers["location"]) == (303, page)
        assert client.get("/favourites.json", params={"list": name}).json()["units"] == ["1:3"]
        answer = client.post("/favourites/put", data=hidden_fields(client.get(page).text))
        assert (answer.status_code, answer.headers["location"]) == (303, page)
        assert client.get("/favourites.json").json()["lists"] == []


def hidden_fields(html: str) -> dict[str, str]:
    """Of the first form of the page that says what is to be taken off."""
    form = re.search(r"<form[^>]*>((?:<input[^>]*>)*)<button>take off", html)
    assert form is not None
    return {
        name: unescape(value) for name, value in re.findall('name="(.*?)" value="(.*?)"', form[1])
    }


def test_the_csv_file_names_units_as_a_run_takes_them(client: TestClient, tmp_path: Path) -> None:
    for unit in ({"layer": 1, "neuron": 3}, {"layer": 0, "neuron": 6}):
        client.post("/favourites", json=unit)
    path = tmp_path / "favourites.csv"
    path.write_text(client.get("/favourites.csv").text, encoding="utf-8")
    assert set(read_neuron_list(path)) == {UNIT, NeuronId(0, 6)}


def test_units_without_a_result_are_in_the_csv_file_too(tmp_path: Path) -> None:
    with Results(tmp_path / "results.sqlite") as results:
        write_method(results, "0a", units=[UNIT])
    with open_client(run_source(tmp_path)) as client:
        for layer, neuron in ((1, 3), (0, 1)):
            client.post("/favourites", json={"layer": layer, "neuron": neuron})
        path = tmp_path / "list.csv"
        path.write_bytes(client.get("/favourites.csv").content)
    assert {*read_neuron_list(path)} == {UNIT, NeuronId(0, 1)}


def test_a_star_is_kept_beside_a_collection_that_may_not_be_written(tmp_path: Path) -> None:
    manifest = tmp_path / "run" / "store.json"
    manifest.parent.mkdir()
    manifest.touch()
    cache = tmp_path / "cache" / "of the run"  # made when there is something to keep
    source = replace(run_source(tmp_path / "run"), folder=cache, records_file=manifest)
    with open_client(source) as client:
        answer = client.post("/favourites", json={"layer": 1, "neuron": 3})
    assert answer.json() == {"lists": ["favourites"]}
    assert cache.exists()


def test_nothing_is_kept_where_the_run_was(client: TestClient, tmp_path: Path) -> None:
    for path in tmp_path.iterdir():
        path.unlink()
    tmp_path.rmdir()
    answer = client.post("/favourites", json={"layer": 1, "neuron": 3})
    assert answer.status_code == 503
    assert "not there any more" in answer.json()["error"]
    assert not tmp_path.exists()


@pytest.mark.parametrize(
    ("wish", "status"),
    [
        ({"layer": 9, "neuron": 3}, 404),
        ({"layer": -1, "neuron": 3}, 404),
        ({"layer": 10**30, "neuron": 3}, 404),
        ({"layer": "x", "neuron": 3}, 422),
        ({"neuron": 3}, 422),
        ({"layer": 1, "neuron": 3, "list": "\n"}, 422),
    ],
)
def test_what_cannot_be_a_favourite_is_refused(
    client: TestClient, wish: dict[str, object], status: int
) -> None:
    answer = client.post("/favourites", json=wish)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert client.get("/favourites.json").json()["lists"] == []
