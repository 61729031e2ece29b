"""The viewer of a real run: its subject reads, its simulator scores, and it is followed live."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from neuron_explainer.pipeline.events import Event, UnitExplained
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.run import run_explain
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.pipeline.view_asked import ask_collected
from neuron_explainer.pipeline.view_hooks import Makers, open_run_hooks
from neuron_explainer.pipeline.view_own import OwnScorer
from neuron_explainer.pipeline.view_sources import open_sources
from neuron_explainer.stores.results import Results
from neuron_explainer.viewer.app import create_app
from tests.llm.rule_options import ServerOptions
from tests.llm.rule_server import rule_server
from tests.viewer.served_app import ORIGIN
from tests.viewer.test_try_routes import Page
from tests.viewer.tiny_run import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("run"), neurons="6")


@pytest.fixture
def copy(run: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(shutil.copytree(run.path, tmp_path / "run"))


@contextmanager
def viewing(folder: RunFolder, spec: RunSpec) -> Iterator[TestClient]:
    sources = open_sources([folder], None, "gpt2-xl")
    records = sources[0].records
    makers = Makers(
        subject=lambda: ask_collected(spec, folder, records),
        scorer=lambda own: OwnScorer(own, folder, records),
    )
    with open_run_hooks(spec, folder, makers) as hooks:
        app = create_app(sources, {"a": hooks})
        for keeper in app.state.viewer.keepers.values():
            keeper.update()
        with TestClient(app, base_url=ORIGIN) as client:
            yield client


def test_a_text_is_read_and_its_units_have_their_explanations(run: RunFolder) -> None:
    with Results(run.results, read_only=True) as results:
        units = {str(u.neuron_id): u for u in results.units(results.current_method())}
    with viewing(run, RunSpec(device="cpu")) as client:
        params = {"text": "the river", "explained": "true"}
        found = client.get("/try.json", params=params).json()
        assert found["n_units"] == len(units)
        assert {one["unit"] for one in found["units"]} <= set(units)
        for one in found["units"]:
            assert one["text"] == units[one["unit"]].text
            of_unit = client.get("/try.json", params={"text": "the river", "unit": one["unit"]})
            activations = of_unit.json()["activations"]
            assert one["activation"] == pytest.approx(max(activations), abs=1e-5)
            assert one["activation"] == pytest.approx(activations[one["place"]], abs=1e-5)
        page = Page(client.get("/try", params=params).text)
        for one in found["units"]:
            layer, neuron = one["unit"].split(":")
            address = f"/layers/{layer}/neurons/{neuron}"
            assert address in {a.get("href") for a in page.all("a")}
            assert client.get(address).status_code == 200


def test_ones_own_is_scored_through_the_page_of_the_unit(copy: RunFolder) -> None:
    with rule_server(ServerOptions()) as server:
        spec = RunSpec(
            simulator="openai:rule-1", base_url=server.base_url, simulation="structured",
            device="cpu", requests_a_minute=1_000_000,
        )  # fmt: skip
        before = copy.results.read_bytes()
        with viewing(copy, spec) as client:
            page = Page(client.get("/layers/0/neurons/3").text)
            (section,) = [a for tag, a in page.tags if a.get("id") == "own"]
            address = str(section["data-address"])
            cost = client.post(f"{address}/cost", json={"text": "rivers"}).json()
            body = {"text": "rivers", "agreed": cost["asked"], "author": "Ada"}
            answer = client.post(address, json=body)
            assert answer.status_code == 200
            assert answer.json()["cost"]["n_requests"] > 0
            assert "Ada" in Page(client.get("/layers/0/neurons/3").text).text
        assert copy.results.read_bytes() == before


def test_a_run_is_followed_while_it_writes(copy: RunFolder) -> None:
    seen = []
    with viewing(copy, RunSpec(device="cpu")) as client:

        def look(event: Event) -> None:
            if isinstance(event, UnitExplained):
                live = client.get("/live.json").json()
                page = client.get("/live")
                seen.append((live, event.result, page.status_code))

        spec = RunSpec(
            device="cpu", explainer="token_lookup", simulator="token_lookup", neurons="12",
            n_resamples=7,
        )  # fmt: skip
        run_explain(spec, copy, look)
        after = client.get("/live.json").json()
    assert len(seen) == 12
    for n, (live, result, status) in enumerate(seen, 1):
        assert status == 200 and live["is_running"] and live["stage"] == "explain"
        assert live["n_total"] == 12
        assert live["newest"][0]["unit"] == str(result.neuron_id)
        assert live["n_scored"] + sum(live["unscored"].values()) == n
    assert not after["is_running"] and after["n_done"] == 12


def test_the_viewer_starts_without_what_takes_long_to_load() -> None:
    modules = "neuron_explainer.cli_view, neuron_explainer.viewer.app"
    more = "neuron_explainer.pipeline.view_hooks, neuron_explainer.viewer.static_site"
    heavy = {"torch", "transformers", "pandas", "pyarrow", "scipy"}
    code = f"import sys, {modules}, {more}; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
