"""Who may ask: known names, with the token where there is one; for changes the own pages."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from neuron_explainer.viewer.guard import COOKIE, LOOPBACK, Guard, policy
from neuron_explainer.viewer.server import addresses_of, bind

ORIGIN = "http://127.0.0.1:8000"


async def answer(request: Request) -> Response:
    return PlainTextResponse(f"{request.method} {request.url.path}?{request.url.query}")


async def page(_request: Request) -> Response:
    headers = {"Content-Security-Policy": policy("sha256-x")}
    return HTMLResponse("<p>", headers=headers)


def client(
    *, hosts: frozenset[str] | None = LOOPBACK, token: str | None = None, origin: str = ORIGIN
) -> TestClient:
    routes = [
        Route("/page", page),
        Route("/{path:path}", answer, methods=["GET", "POST", "DELETE"]),
    ]
    guarded = Guard(Starlette(routes=routes), hosts=hosts, token=token)
    return TestClient(guarded, base_url=origin, follow_redirects=False)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200), ("127.0.0.1:8000", 200), ("localhost:1", 200), ("LOCALHOST", 200),
        ("[::1]:8000", 200), ("evil.example", 421), ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example:8000", 421), ("127.0.0.1@evil.example", 421), ("", 421),
        ("[::1", 421), ("evil.example@127.0.0.1", 421), ("localhost/evil", 421),
        ("localhost?x", 421), ("127.0.0.1#@evil.example", 421),
    ],
)  # fmt: skip
def test_only_names_of_this_machine_are_answered(host: str, status: int) -> None:
    assert client().get("/", headers={"Host": host}).status_code == status


def test_a_host_that_was_named_is_answered_too() -> None:
    named = client(hosts=LOOPBACK | {"box.lan"})
    assert named.get("/", headers={"Host": "box.lan:80"}).status_code == 200
    assert named.get("/", headers={"Host": "other.lan"}).status_code == 421


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": ORIGIN}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": ORIGIN}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:9000"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"}, 403),
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_change_comes_from_the_viewers_own_pages(
    headers: dict[str, str], status: int, method: str
) -> None:
    assert client().request(method, "/favourites", headers=headers).status_code == status


def test_reading_does_not_depend_on_where_one_comes_from() -> None:
    assert client().get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_without_the_token_nothing_is_answered() -> None:
    asked = client(token="secret", hosts=None)
    for path in ("/", "/static/view.css", "/home.json", "/?token=", "/?token=secre"):
        assert asked.get(path).status_code == 401
    assert asked.post("/favourites").status_code == 401
    assert asked.get("/", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert asked.get("/", headers={"Authorization": "Bearer secret"}).status_code == 200


def test_the_token_is_taken_from_the_address_into_a_cookie() -> None:
    asked = client(token="secret", hosts=None)
    given = asked.get("/layers/1/neurons/2?all=1&token=secret")
    assert given.status_code == 303
    assert given.headers["location"] == "/layers/1/neurons/2?all=1"
    cookie = given.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert asked.get(given.headers["location"]).status_code == 200


@pytest.mark.parametrize("token", ["abc", "a+b/c==", "a&b#c", "p%41ss", 'a b;c"d'])
def test_the_address_that_is_printed_opens_what_asks_for_the_token(token: str) -> None:
    with bind("0.0.0.0", 0) as listening:
        here, _ = addresses_of(listening, token)
    asked = client(token=token, hosts=None)
    given = asked.get(here.replace(here.partition("/?")[0], ORIGIN))
    assert (given.status_code, given.headers["location"]) == (303, "/")
    assert asked.get("/").status_code == 200


def test_a_wrong_cookie_opens_nothing() -> None:
    asked = client(token="secret", hosts=None)
    asked.cookies.set(COOKIE, "wrong")
    assert asked.get("/").status_code == 401


def test_the_token_leads_nowhere_else() -> None:
    given = client(token="secret", hosts=None).get(f"{ORIGIN}//evil.example/?token=secret")
    assert given.headers["location"] == "/evil.example/"


def test_every_answer_says_what_a_browser_may_not_do() -> None:
    for found in (client().get("/x"), client().get("/", headers={"Host": "evil"})):
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["referrer-policy"] == "same-origin"
        assert "default-src 'none'" in found.headers["content-security-policy"]
        assert "unsafe" not in found.headers["content-security-policy"]


def test_a_page_may_name_the_hash_of_its_style_element() -> None:
    found = client().get("/page").headers["content-security-policy"]
    assert "style-src 'self' 'sha256-x';" in found
    assert "script-src 'self';" in found
