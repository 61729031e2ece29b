"""The viewer's table as a large run has it: only the rows that are seen are in the page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jobs.viewer_process import ViewerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Route


def open_large_table(viewer: ViewerProcess, page: Page, n_rows: int) -> None:
    """All rows are the same unit's."""
    (row,) = viewer.read_json("/table.json?n=1")["rows"]
    found = {"n_rows": n_rows, "rows": [row] * 100}

    def answer(route: Route) -> None:
        whole = route.fetch()
        html = re.sub(r'data-n="\d+"', f'data-n="{n_rows}"', whole.text())
        route.fulfill(response=whole, body=html)

    page.route("**/table.json?*", lambda route: route.fulfill(json=found))
    page.route("**/table", answer)
    page.goto(f"{viewer.address}/table")


def row_link(page: Page, place: int) -> Locator:
    return page.locator(f"tr[aria-rowindex='{place}'] a")
