"""The static copy of a run, from disk and from any web host: the same pages, and nothing asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from neuron_explainer.stores.results import Results
from tests.e2e.browser import TIMEOUT_MS, OpenPage, assert_is_for_everyone
from tests.e2e.hostile import SCRIPT
from tests.e2e.processes import neuron_explainer
from tests.e2e.viewer_runs import ViewerRuns

if TYPE_CHECKING:
    from playwright.sync_api import Page

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright").expect
expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture(scope="module")
def site(viewer_runs: ViewerRuns, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "site"
    runs = ("--run", str(viewer_runs.hostile), "--run", str(viewer_runs.words))
    done = neuron_explainer("view", *runs, "--export", str(folder), cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    return folder


class Host(SimpleHTTPRequestHandler):
    """Serves files and keeps quiet."""

    def log_message(self, *_arguments: object) -> None:
        pass


@contextmanager
def web_host(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Host, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_pages_are_read_from_disk(viewer_runs: ViewerRuns, site: Path, open_page: OpenPage) -> None:
    with Results(viewer_runs.hostile / "results.sqlite", read_only=True) as results:
        first, second = results.neuron_ids()[:2]
    page = open_page((site / "index.html").as_uri())
    assert_is_for_everyone(page)
    page.get_by_role("link", name="Table").click()
    page.get_by_role("link", name=str(first), exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(str(first))
    assert SCRIPT in page.locator("main").inner_text()
    assert_is_for_everyone(page)
    page.keyboard.press("j")
    expect(page.get_by_role("heading", level=1)).to_contain_text(str(second))
    assert offered(page) == set()


def test_words_are_found_in_a_site_on_a_web_host(site: Path, open_page: OpenPage) -> None:
    with web_host(site) as address:
        page = open_page(f"{address}search.html")
        page.locator("#words").fill(f"about {SCRIPT}")
        hits = page.locator("#hits tbody tr")
        expect(hits.first).to_contain_text(SCRIPT)
        name = hits.first.locator("th a").inner_text()
        assert_is_for_everyone(page)
        hits.first.locator("th a").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text(name)
        page.wait_for_load_state()  # the host goes when the page has all that it asks for


def offered(page: Page) -> set[str]:
    """Controls that would need a server."""
    names = ("favourite", "Copy as JSON", "Score it", "Read it", "Keys")
    return {name for name in names if page.get_by_role("button", name=name).count()}
