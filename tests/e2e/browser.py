"""Debian's own Chromium, headless, driven by Playwright: pages that may do nothing wrong.

A test that opens a page fails when the page asks another origin for anything, breaks its content
security policy, logs an error, throws, or runs something that came from a text. Without Chromium
or Playwright the tests skip and say which is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from jobs.chromium import NoBrowser, open_browser

if TYPE_CHECKING:
    from playwright.sync_api import (
        Browser,
        BrowserContext,
        ConsoleMessage,
        Page,
        Route,
        ViewportSize,
    )

TIMEOUT_MS = 30_000
"""For what a page is waited for: many times what it takes on a slow machine."""
LOAD_TIMEOUT_MS = 60_000
"""The same where a model is loaded first."""
RAN = "hostileTextRan"
"""What every hostile text would set, as a property of `window`, if it were run."""
LOUD = """
addEventListener("securitypolicyviolation", event => console.error(
  `policy: ${event.effectiveDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`
));
"""
FIND_WIDE = """() => [...document.querySelectorAll("body *")].filter((element) => {
  if (element.getBoundingClientRect().right <= innerWidth + 1) return false;
  for (let e = element; e !== document.body; e = e.parentElement)
    if (getComputedStyle(e).overflowX !== "visible") return false;
  return true;
}).slice(0, 5).map((element) => `too wide: ${element.outerHTML.slice(0, 120)}`)"""
ALIKE = [".window ~ .window ~ .window", ".card ~ .card ~ .card"]
"""What follows two others of its kind, which axe-core looks at."""
PHONE: ViewportSize = {"width": 360, "height": 780}
NARROW: ViewportSize = {"width": 320, "height": 640}
"""The least that a page must do with, as WCAG 2.2 has it (1.4.10)."""
DESK: ViewportSize = {"width": 1280, "height": 900}
GRAVE = {"serious", "critical"}


@dataclass
class Watch:
    """What the pages of one test may ask for, and what they did that they may not."""

    allowed: tuple[str, ...]
    """Beginnings of addresses."""
    failing: tuple[str, ...] = ()
    """Parts of addresses that are meant to be refused."""
    problems: list[str] = field(default_factory=list)

    def route(self, route: Route) -> None:
        address = route.request.url
        if address.startswith((*self.allowed, "data:", "blob:")):
            route.continue_()
        else:
            self.problems.append(f"request to {address}")
            route.abort()

    def hear(self, message: ConsoleMessage) -> None:
        address = message.location.get("url", "")
        if message.type == "error" and not any(part in address for part in self.failing):
            self.problems.append(f"console: {message.text} ({address})")

    def end(self, context: BrowserContext) -> None:
        """Notes pages on which a text was run, and closes them."""
        self.problems += [
            f"a text was run in {page.url}"
            for page in context.pages
            if page.evaluate(f"window.{RAN} !== undefined")
        ]
        context.close()


OpenPage = Callable[..., "Page"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One a module: while it is there, no asyncio loop can be run in the thread of the tests."""
    with ExitStack() as opened:
        try:
            browser = opened.enter_context(open_browser())
        except NoBrowser as missing:
            pytest.skip(str(missing))
        yield browser


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """`watched_page` without its watch: what that has seen in the end fails the test."""
    opened: list[tuple[Page, Watch]] = []

    def open_one(address: str, **choices: Any) -> Page:
        opened.append(watched_page(browser, address, **choices))
        return opened[-1][0]

    yield open_one
    for page, watch in opened:
        watch.end(page.context)
    problems = [problem for _, watch in opened for problem in watch.problems]
    assert not problems, problems  # said here, as pytest says it of test files alone


def watched_page(
    browser: Browser,
    address: str,
    *,
    root: str | None = None,
    viewport: ViewportSize = DESK,
    dark: bool = False,
    failing: tuple[str, ...] = (),
    **more: Any,
) -> tuple[Page, Watch]:
    """A page in a context of its own. root: all that it may ask for; its own origin if None.

    more: of `Browser.new_context`.
    """
    watch = Watch((root or origin_of(address),), failing)
    context = browser.new_context(
        viewport=viewport, color_scheme="dark" if dark else "light", **more
    )
    context.set_default_timeout(TIMEOUT_MS)
    context.add_init_script(LOUD)
    context.route("**/*", watch.route)
    context.on("console", watch.hear)
    context.on("weberror", lambda error: watch.problems.append(f"thrown: {error.error}"))
    page = context.new_page()
    page.goto(address)
    return page, watch


def origin_of(address: str) -> str:
    """`http://127.0.0.1:8000/`, or the folder of a file."""
    parts = urlsplit(address)
    if parts.scheme == "file":
        return address[: address.rindex("/") + 1]
    return f"{parts.scheme}://{parts.netloc}/"


def axe_problems(page: Page, *, contrast_alone: bool = False) -> list[str]:
    """Serious and critical issues that axe-core finds, a line each, with where they are."""
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(axe_script())
    options: dict[str, Any] = {"resultTypes": ["violations"], "preload": False}
    if contrast_alone:
        options["runOnly"] = ["color-contrast"]
    where = {"include": [["html"]], "exclude": [[selector] for selector in ALIKE]}
    found = page.evaluate("given => axe.run(...given)", [where, options])
    return [
        f"{one['impact']}: {one['help']}: " + "; ".join(n["html"][:120] for n in one["nodes"][:3])
        for one in found["violations"]
        if one["impact"] in GRAVE
    ]


def axe_script() -> str:
    path: Path = pytest.importorskip("axe_playwright_python.base").AXE_FILE_PATH
    return path.read_text(encoding="utf-8")


def assert_is_for_everyone(page: Page) -> None:
    """On a desk in light colours, and on a phone in dark ones, where it ends up."""
    problems = axe_problems(page)
    problems += wide_elements(page)
    page.set_viewport_size(NARROW)
    problems += wide_elements(page)
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme="dark")
    problems += wide_elements(page)
    problems += axe_problems(page, contrast_alone=True)
    assert problems == [], "\n".join(problems)


def wide_elements(page: Page) -> list[str]:
    """What makes the page scroll sideways; empty: it does not."""
    overflow_px = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    if overflow_px <= 1:  # widths are rounded up
        return []
    found: list[str] = page.evaluate(FIND_WIDE)
    return found or [f"{overflow_px} px wider than the window"]
