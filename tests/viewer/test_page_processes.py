"""Processes that make pages answer as the server itself would, and it does where they do not."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from neuron_explainer.stores.results import Results
from neuron_explainer.viewer import page_processes
from neuron_explainer.viewer.app import create_app, make_following_app
from neuron_explainer.viewer.page_processes import Asked, PageProcesses
from tests.viewer.viewed_runs import ORIGIN, run_source, state_of, write_method, write_run

TAKEN = (
    "/layers/0/neurons/0", "/layers/1/neurons/6", "/layers/0/neurons/0.json",
    "/layers/0/neurons/0.md", "/layers/0/neurons/0/windows?set=top",
    "/layers/0/neurons/0/windows?method=0b", "/layers/0/neurons/0/tokens", "/search?q=time",
    "/search?q=%22%27%3Cb%3E", "/search?q=time&sort=score", "/table.json", "/table.json?after=",
    "/layers/99/neurons/0", "/layers/0/neurons/0?key=%F0%9F%98%80",
)  # fmt: skip
OWN = (
    "/", "/home.json", "/layers/0/neurons/0?all=1", "/layers/0/neurons/0/weights", "/table",
    "/live.json", "/s/b/search?q=time",
)  # fmt: skip


def following(folder: Path) -> FastAPI:
    return make_following_app([run_source(folder)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run")).parent


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    """Without processes."""
    with TestClient(create_app([run_source(folder)]), base_url=ORIGIN) as client:
        state_of(client).update()
        yield client


@pytest.fixture(scope="module")
def spread(client: TestClient, folder: Path) -> Iterator[PageProcesses]:
    """The app of `client` behind two processes that are ready."""
    spread = PageProcesses(
        client.app, make=partial(following, folder), n=2, keepers=state_of(client).keepers
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_processes, "N_UNDER_WAY", 1)
        TestClient(spread, base_url=ORIGIN).get("/live.json")
        assert spread._starting is not None
        spread._starting.join()
    yield spread
    for process in multiprocessing.active_children():
        process.kill()


@pytest.fixture
def asked(spread: PageProcesses, monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """What processes were asked for."""
    asked: list[Asked] = []
    ask_one = spread._ask_one

    def note(one: Asked) -> object:
        asked.append(one)
        return ask_one(one)

    monkeypatch.setattr(spread, "_ask_one", note)
    return asked


def test_what_a_process_makes_is_what_the_server_makes(
    client: TestClient, spread: PageProcesses, asked: list[Asked]
) -> None:
    beside = TestClient(spread, base_url=ORIGIN)
    for path in TAKEN:
        here, there = client.get(path), beside.get(path)
        assert there.status_code == here.status_code
        assert there.headers["content-type"] == here.headers["content-type"]
        assert there.headers.get("content-security-policy", "") in (
            "", here.headers["content-security-policy"],
        )  # fmt: skip
        assert there.content == here.content
    assert len(asked) == len(TAKEN)


def test_what_is_kept_here_or_waits_is_made_here(spread: PageProcesses, asked: list[Asked]) -> None:
    beside = TestClient(spread, base_url=ORIGIN)
    for path in OWN:
        beside.get(path)
    beside.post("/search", data={"q": "time"}, headers={"Origin": ORIGIN})
    assert [one.scope["path"] for one in asked] == ["/s/b/search"]  # and there is no such source


def test_new_results_are_seen_by_the_processes_too(
    client: TestClient, spread: PageProcesses, asked: list[Asked], folder: Path
) -> None:
    beside = TestClient(spread, base_url=ORIGIN)
    before = beside.get("/table.json").content
    with Results(folder / "results.sqlite") as results:
        write_method(results, "0c", seed=9)
    state_of(client).update()
    assert beside.get("/table.json").content == client.get("/table.json").content != before
    assert beside.get("/table.json").content == client.get("/table.json").content
    assert [one.versions["a"] for one in asked] == [1, 2, 2]


def test_what_a_process_cannot_make_the_server_answers_for(
    client: TestClient, spread: PageProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spread, "_keepers", {})  # versions that no index of the process is among
    beside = TestClient(spread, base_url=ORIGIN)
    for path in TAKEN[:3]:
        assert beside.get(path).content == client.get(path).content
    assert spread._n_ready == 2


def test_a_single_reader_starts_no_process(client: TestClient, folder: Path) -> None:
    keepers = state_of(client).keepers
    alone = PageProcesses(client.app, make=partial(following, folder), n=2, keepers=keepers)
    for path in TAKEN[:3]:
        assert TestClient(alone, base_url=ORIGIN).get(path).status_code == 200
    assert alone._starting is None


def test_without_its_processes_the_server_answers_itself(
    client: TestClient, spread: PageProcesses
) -> None:
    beside = TestClient(spread, base_url=ORIGIN)
    for process in multiprocessing.active_children():
        process.kill()
        process.join()
    for _ in range(3):
        for path in TAKEN[:4]:
            assert beside.get(path).content == client.get(path).content
