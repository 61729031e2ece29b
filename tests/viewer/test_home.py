"""Home: what it tells of all units, in all and by layer."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.results import Results
from neuron_explainer.viewer import keeper
from neuron_explainer.viewer.home_routes import read_home
from tests.viewer.served_fakes import N_LAYERS, N_UNITS, FakeRecords
from tests.viewer.viewed_runs import (
    UNITS,
    open_client,
    run_source,
    scored,
    state_of,
    write_method,
    write_run,
)


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


def test_the_funnel_leads_from_all_units_to_the_scored_ones_and_names_who_left(
    client: TestClient,
) -> None:
    found, rows = client.get("/home.json").json(), rows_of(client)
    assert found["funnel"] == {
        "in these layers of the model": N_LAYERS * N_UNITS,
        "recorded": N_LAYERS * N_UNITS,
        "given to this method": len(rows),
        "explained": sum(bool(row["explanation"]) for row in rows),
        "scored": sum(bool(row["score"]) for row in rows),
    }
    assert len(set(found["funnel"].values())) == 3
    assert sum(found["unscored"].values()) == len(rows) - found["funnel"]["scored"]
    page = client.get("/").text
    for reason, n in found["unscored"].items():
        assert f"<bdi>{reason}</bdi> <b>{n}</b>" in page


def test_a_source_says_what_is_known_of_who_was_asked(tmp_path: Path) -> None:
    with Results(tmp_path / "results.sqlite") as results:
        results.add_explained("0a", Explanation(UNITS[0], "words", "e"), scored(0.5))
        results.use_method("0a", {"explainer": "e"})
    source = run_source(tmp_path)
    for asked in ("no language model", "not said"):
        with open_client(replace(source, asked=asked)) as opened:
            assert opened.get("/home.json").json()["facts"]["Asked"] == asked


def test_home_has_results_that_came_since_it_was_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(keeper, "A_MOMENT_S", 60.0)
    write_run(tmp_path)
    with open_client(run_source(tmp_path)) as client:
        assert client.get("/home.json").json()["n_units"] == len(UNITS)
        assert "being read" not in client.get("/").text
        with Results(tmp_path / "results.sqlite") as results:
            write_method(results, "0c", units=UNITS[:3])
        assert "explainer 0c" in client.get("/").text
        assert client.get("/home.json").json()["n_units"] == 3


def test_a_page_says_so_before_new_results_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    class Slow(FakeRecords):
        def read_density(self, neuron_id: NeuronId) -> float | None:
            assert go_on.wait(60)
            return super().read_density(neuron_id)

    monkeypatch.setattr(keeper, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(keeper, "A_MOMENT_S", 0.0)
    with open_client(replace(run_source(tmp_path), records=Slow())) as client:
        write_run(tmp_path)
        try:
            assert 'role="note"' in client.get("/").text
        finally:
            go_on.set()
        state_of(client).keepers["a"].wait()
        assert 'role="note"' not in client.get("/").text
