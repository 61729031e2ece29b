"""The system's own Chromium, headless, by Playwright; nothing beyond this machine is reached."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

try:
    from playwright.sync_api import sync_playwright
except ImportError:
    sync_playwright = None  # type: ignore[assignment]
if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser")
FLAGS = (
    "--disable-background-networking", "--disable-component-update", "--disable-gpu",
    "--disable-quic", "--disable-sync", "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip


class NoBrowser(Exception):
    """The message says what is missing, and how to get it."""


@contextmanager
def open_browser() -> Iterator[Browser]:
    """NoBrowser where there is no Chromium or no Playwright.

    While it is open, no asyncio loop can be run in this thread.
    """
    if sync_playwright is None:
        raise NoBrowser("playwright is not installed: pip install -e .[dev]")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        raise NoBrowser("there is no chromium on the PATH: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=[*FLAGS], chromium_sandbox=False
        )
        yield browser
        browser.close()
