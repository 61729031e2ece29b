"""What the browser of these tests must notice, on a page that does it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.e2e.browser import PHONE, RAN, axe_problems, watched_page, wide_elements

if TYPE_CHECKING:
    from playwright.sync_api import Browser

POLICY = "default-src 'none'; style-src 'self'; script-src 'unsafe-inline'"
GOOD = "<main><h1>One</h1><p>text</p></main>"


@contextmanager
def one_page(body: str) -> Iterator[str]:
    html = f'<!doctype html><html lang="en"><title>One</title><link rel="icon" href="data:,">{body}'

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Security-Policy", f"{POLICY}; img-src http: data:")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("<img src='http://example.com/x.png' alt=''>", "request to http://example.com/x.png"),
        ("<img src='http://127.0.0.1:1/x.png' alt=''>", "request to http://127.0.0.1:1/x.png"),
        ("<script>throw new Error('no good')</script>", "thrown: no good"),
        ("<script>console.error('no good')</script>", "console: no good"),
        ("<style>p { color: red }</style>", "policy: style-src-elem inline"),
        (f"<script>window.{RAN} = 1</script>", "a text was run"),
    ],
)
def test_what_a_page_may_not_do_is_a_problem(browser: Browser, body: str, problem: str) -> None:
    with one_page(GOOD + body) as address:
        page, watch = watched_page(browser, address)
        watch.end(page.context)
    assert any(problem in one for one in watch.problems)


def test_a_page_that_does_nothing_wrong_is_none(browser: Browser) -> None:
    with one_page(GOOD) as address:
        page, watch = watched_page(browser, address)
        assert axe_problems(page) == []
        watch.end(page.context)
    assert watch.problems == []


def test_axe_and_the_width_see_what_is_wrong(browser: Browser) -> None:
    body = '<h1>One</h1><input><p style="color:#ccc">faint</p><pre>' + "wide " * 200
    with one_page(body) as address:
        page, _ = watched_page(browser, address, viewport=PHONE, bypass_csp=True)
        problems = axe_problems(page)
        assert wide_elements(page) != []
        page.context.close()
    assert any("Form elements must have labels" in problem for problem in problems)
    assert any("contrast" in problem for problem in problems)
