"""The viewer's table as a large run has it: only the rows that are seen are in the page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

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


class ChangingLists:
    """What the table is answered: layer and version of all rows grow with every change."""

    def __init__(self, row: dict[str, Any], n_rows: int) -> None:
        self._row = row
        self._n_rows = n_rows
        self._version = 0

    def change(self, n_rows: int, *, is_other: bool = True) -> None:
        """is_other: than the one before, and not a part of the same."""
        self._n_rows = n_rows
        self._version += is_other

    def answer(self, route: Route) -> None:
        first = int(parse_qs(urlsplit(route.request.url).query)["at"][0])
        places = range(first, min(first + 100, self._n_rows))
        rows = [{**self._row, "layer": self._version, "neuron": place} for place in places]
        route.fulfill(json={"n_rows": self._n_rows, "version": self._version, "rows": rows})


def open_changing_table(viewer: ViewerProcess, page: Page) -> ChangingLists:
    (row,) = viewer.read_json("/table.json?n=1")["rows"]
    lists = ChangingLists(row, 300)
    page.route("**/table.json?*", lists.answer)
    page.goto(f"{viewer.address}/table")
    return lists


def row_link(page: Page, place: int) -> Locator:
    return page.locator(f"tr[aria-rowindex='{place}'] a")
