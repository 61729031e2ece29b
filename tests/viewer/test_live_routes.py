"""Who listens hears of every change at once, nobody looks when nobody listens, and it ends."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from starlette.testclient import TestClient

from neuron_explainer.errors import StoreError, UsageError
from neuron_explainer.viewer.hooks import Hooks, LiveStatus, no_hooks
from neuron_explainer.viewer.live_feed import LiveFeed, Seen
from neuron_explainer.viewer.server import ViewServer, addresses_of, bind
from tests.page import Page
from tests.viewer.served_app import make_app, open_client
from tests.viewer.served_fakes import HOSTILE, Asked, live

SOON_S = 0.001


@dataclass
class Watched:
    """A status that a test changes, and how often it was looked at."""

    status: LiveStatus = field(default_factory=live)
    error: str | None = None
    n_looks: int = 0

    def read(self) -> LiveStatus:
        self.n_looks += 1
        if self.error is not None:
            raise StoreError(self.error)
        return self.status


def listen(feed: LiveFeed) -> AsyncGenerator[Seen | None]:
    return cast("AsyncGenerator[Seen | None]", feed.listen())


def test_a_listener_hears_what_is_and_then_what_changes() -> None:
    watched = Watched()

    async def hear() -> list[Seen | None]:
        feed = LiveFeed(watched.read, every_s=SOON_S)
        async with aclosing(listen(feed)) as heard:
            first = await anext(heard)
            watched.status = live(11)
            second = await anext(heard)
            watched.error = "the run is gone"
            return [first, second, await anext(heard)]

    assert asyncio.run(hear()) == [live(10), live(11), "the run is gone"]


def test_nothing_new_is_a_sign_of_life_and_no_news() -> None:
    async def hear() -> Seen | None:
        feed = LiveFeed(Watched().read, every_s=SOON_S, alive_every_s=SOON_S)
        async with aclosing(listen(feed)) as heard:
            while await anext(heard) is None:
                pass  # the first look takes its time
            return await anext(heard)

    assert asyncio.run(hear()) is None


def test_nobody_looks_when_nobody_listens() -> None:
    watched = Watched()

    async def hear() -> None:
        feed = LiveFeed(watched.read, every_s=SOON_S)
        assert not feed.is_watching and watched.n_looks == 0
        one, other = listen(feed), listen(feed)
        await anext(one)
        await anext(other)
        await one.aclose()
        assert feed.is_watching
        await other.aclose()
        assert not feed.is_watching
        again = listen(feed)  # who comes later is served as the first
        assert await anext(again) == live()
        await again.aclose()
        assert not feed.is_watching

    asyncio.run(hear())


def test_many_listeners_share_a_look() -> None:
    watched = Watched()

    async def hear() -> None:
        feed = LiveFeed(watched.read, every_s=1000)
        heard = [listen(feed) for _ in range(20)]
        found = await asyncio.gather(*(anext(one) for one in heard))
        assert found == [live()] * 20
        for one in heard:
            await one.aclose()

    asyncio.run(hear())
    assert watched.n_looks == 1


def test_the_end_of_the_feed_ends_every_listener() -> None:
    async def hear() -> list[Seen | None]:
        feed = LiveFeed(Watched().read, every_s=1000)

        async def hear_all() -> list[Seen | None]:
            return [seen async for seen in feed.listen()]

        hearing = asyncio.create_task(hear_all())
        async with aclosing(listen(feed)) as other:
            await anext(other)
            feed.end()
        return await asyncio.wait_for(hearing, 10)

    assert asyncio.run(hear()) in ([live()], [])


@pytest.fixture
def watched() -> Watched:
    return Watched()


def hooks_of(watched: Watched) -> dict[str, Hooks]:
    reasons = no_hooks("no model").reasons
    own = Hooks(status=watched.read, reasons={n: r for n, r in reasons.items() if n != "status"})
    return {"a": own, "b": no_hooks("these are published records")}


@pytest.fixture
def client(tmp_path: Path, watched: Watched) -> TestClient:
    return open_client(tmp_path, hooks_of(watched))


def test_the_page_says_all_of_it_without_a_script(client: TestClient) -> None:
    page = Page(client.get("/live").text)
    for said in ("Running", "explain", "10 of 40 neurons", "2 neurons/s", "15 s", "$0.2500"):
        assert said in page.text
    (bar,) = page.all("progress")
    assert (bar["max"], bar["value"]) == ("40", "10")
    assert "/layers/0/neurons/7" in {a.get("href") for a in page.all("a")}


def test_texts_of_models_show_as_text(client: TestClient) -> None:
    plain = Page(client.get("/s/b/live").text)
    page = Page(client.get("/live").text)
    assert len(page.all("script")) == len(plain.all("script")) and not page.all("img")
    assert HOSTILE[0] in page.text and HOSTILE[2] in page.text
    assert not any("style" in a or any(n.startswith("on") for n in a) for _, a in page.tags)


def test_json_says_the_same(client: TestClient, watched: Watched) -> None:
    answer = client.get("/live.json")
    assert answer.headers["cache-control"] == "no-store"
    plain = answer.json()
    assert (plain["n_done"], plain["n_total"], plain["stage"]) == (10, 40, "explain")
    assert plain["unscored"] == {HOSTILE[0]: 1}
    assert plain["newest"][0]["score"] is None and plain["newest"][1]["score"] == 0.5
    watched.error = "the run is gone"
    answer = client.get("/live.json")
    assert (answer.status_code, answer.json()) == (503, {"error": "the run is gone"})
    assert "the run is gone" in client.get("/live").text


def test_what_is_no_run_says_so_and_is_not_asked_again(client: TestClient) -> None:
    assert "these are published records" in client.get("/s/b/live").text
    assert client.get("/s/b/live/events").status_code == 204


@contextlib.contextmanager
def served(folder: Path, watched: Watched) -> Iterator[tuple[ViewServer, int]]:
    """A real server and its port; it has ended at the end, whoever listens."""
    app = make_app(folder, hooks_of(watched))
    server, listening = ViewServer(app), bind("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield server, listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()
        assert not thread.is_alive(), "the server waits for a connection that does not end"


def read_event(answer: http.client.HTTPResponse) -> dict[str, str]:
    """The next event that is no comment: its fields, the data's lines together."""
    fields: dict[str, str] = {}
    for raw in iter(answer.readline, b""):
        line = raw.decode().rstrip("\n")
        if not line and fields:
            return fields
        name, _, value = line.partition(": ")
        if name:
            fields[name] = fields.get(name, "") + value
    return fields


def test_a_browser_hears_of_a_change_and_the_server_ends_at_once(
    tmp_path: Path, watched: Watched
) -> None:
    with served(tmp_path, watched) as (server, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/live/events")
        answer = connection.getresponse()
        assert answer.headers["content-type"].startswith("text/event-stream")
        first = json.loads(read_event(answer)["data"])
        assert first["line"] == "running: explain, 10 of 40 neurons"
        watched.status = live(12, is_running=False)
        second = read_event(answer)
        assert second["event"] == "status" and int(second["retry"]) > 0
        data = json.loads(second["data"])
        assert data["line"] == "not running: explain, 12 of 40 neurons"
        page = Page(data["html"])
        assert "12 of 40" in page.text and not page.all("script")
        server.should_exit = True
        assert read_event(answer) == {}  # the end, and no cut line
        connection.close()


def test_a_browser_that_goes_away_is_noticed(tmp_path: Path, watched: Watched) -> None:
    with served(tmp_path, watched) as (_, port):
        for _ in range(3):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request("GET", "/live/events")
            read_event(connection.getresponse())
            connection.close()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/live.json")
        assert connection.getresponse().status == 200
        connection.close()


def test_hooks_that_ask_all_are_whole(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="status"):
        Hooks(status=Watched().read, reasons=no_hooks("x").reasons)
    assert open_client(tmp_path, {"a": Asked().hooks()}).get("/live.json").status_code == 200


def test_a_port_that_is_taken_is_one_clear_line() -> None:
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        assert addresses_of(first) == [f"http://127.0.0.1:{port}/"]
        with pytest.raises(UsageError, match=f"{port}.*another --port"):
            bind("127.0.0.1", port)
    with pytest.raises(UsageError, match="another --port"):
        bind("127.0.0.1", 70_000)


def test_an_address_is_one_that_can_be_opened() -> None:
    with bind("0.0.0.0", 0) as listening:
        port = listening.getsockname()[1]
        here, elsewhere = addresses_of(listening)
    assert here == f"http://localhost:{port}/"
    assert elsewhere == f"http://{socket.gethostname()}:{port}/"


def test_what_came_to_its_end_is_not_taken_for_what_was_stopped(tmp_path: Path) -> None:
    for n_done, said in ((40, "explain came to its end"), (12, "it was at explain")):
        watched = Watched(live(n_done, is_running=False))
        reasons = {name: "x" for name in no_hooks("x").reasons if name != "status"}
        hooks = Hooks(status=watched.read, reasons=reasons)
        assert said in Page(open_client(tmp_path, {"a": hooks}).get("/live").text).text
