"""Home: what it tells of all units, in all and by layer."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from neuron_explainer.viewer.home_routes import read_home
from tests.viewer.viewed_runs import open_client, run_source, state_of, write_run


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("home")
    write_run(folder)
    with open_client(run_source(folder)) as opened:
        yield opened


def rows_of(client: TestClient) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(client.get("/export.csv").text)))


def test_each_way_to_score_has_its_curve_of_layer_means(client: TestClient) -> None:
    state = state_of(client)
    home = read_home(state, state.find(None))
    assert home.curves is not None and home.summary is not None
    by_kind = {curve.kind: [point.value for point in curve.points] for curve in home.curves.curves}
    assert list(by_kind) == ["headline", "full", "random", "baseline"]
    assert by_kind["full"] == pytest.approx([mean * 0.75 for mean in by_kind["headline"]])
    assert by_kind["random"] == pytest.approx([mean * 0.5 for mean in by_kind["headline"]])
    assert "full-distribution" in {one.label for one in home.summary.metrics}


def test_the_csv_file_has_the_full_distribution_beside_the_score(client: TestClient) -> None:
    pairs = [(row["score"], row["full_distribution"]) for row in rows_of(client)]
    scored = [(float(score), float(full)) for score, full in pairs if score]
    assert len(scored) > 5
    assert [full for _, full in scored] == pytest.approx([score * 0.75 for score, _ in scored])
    assert not any(full for score, full in pairs if not score)


def test_the_page_of_a_unit_says_what_chance_gives(client: TestClient) -> None:
    scored = next(row for row in rows_of(client) if row["score"])
    address = f"/layers/{scored['layer']}/neurons/{scored['neuron']}"
    assert "by chance, 95 % in −0.12 to 0.25, mean" in client.get(address).text
    found = client.get(f"{address}.json").json()["explanations"][0]["scores"]["by_chance"]
    assert (found["value"], found["low"], found["high"]) == (0.01, -0.125, 0.25)
