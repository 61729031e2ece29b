"""Where the pages of a site of files are, from one page to another; relative, for any web host."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from pathlib import PurePosixPath

from neuron_explainer.records.neuron import NeuronId

HOME, SEARCH, COMPARE = "index.html", "search.html", "compare.html"
ABSENT = "absent:"
"""Address of what a site of files does not have; `without_absent` takes it out again."""
_ABSENT_LINK = re.compile(f' href="{ABSENT}"')
ORDERS = {"unit": "neuron", "score": "score"}
"""`sort` of an address -> how the files of the table in that order are called."""


def unit_file(neuron_id: NeuronId) -> str:
    return f"layers/{neuron_id.layer_index}/neurons/{neuron_id.neuron_index}.html"


def table_file(sort: str, number: int) -> str:
    """number: of the page, from 1."""
    return f"table/by-{ORDERS[sort]}-{number}.html"


class FileLinks:
    """From one file, of one source, to all that were exported."""

    def __init__(
        self,
        here: str,
        units: Container[NeuronId],
        page_of_layer: Mapping[int, int],
        method: str,
        to_root: str = "",
        folder: str = "",
    ) -> None:
        """here: path of the file below its source's folder. page_of_layer: of the table by neuron,
        where a layer begins. to_root: from the source's folder to the site's. folder: from the
        source's folder to that of the source that is linked to, if it is another one."""
        self._up = "../" * (len(PurePosixPath(here).parts) - 1)
        self._units = units
        self._page_of_layer = page_of_layer
        self._method = method
        self._to_root = to_root
        self._folder = folder

    def static(self, name: str) -> str:
        return f"{self._up}{self._to_root}static/{name}"

    def page(self, name: str = "", **query: object) -> str:
        given = {key: value for key, value in query.items() if value not in (None, "")}
        if given.pop("method", self._method) != self._method:
            return ABSENT
        found = self._file(name, given)
        return ABSENT if found is None else self._up + self._folder + found

    def unit(self, neuron_id: NeuronId, part: str = "") -> str:
        if part or neuron_id not in self._units:
            return ABSENT
        return self._up + self._folder + unit_file(neuron_id)

    def file(self, name: str) -> str:
        """One that is known to be there."""
        return self._up + name

    def _file(self, name: str, query: Mapping[str, object]) -> str | None:
        match name, query:
            case "", {**more} if not more:
                return HOME
            case "search", {**more} if not more:
                return SEARCH
            case "table", {**more} if not more:
                return table_file("unit", 1)
            case "table", {"sort": "score", "desc": 1, **more} if not more:
                return table_file("score", 1)
            case "table", {"layer": int(layer), **more} if not more:
                number = self._page_of_layer.get(layer)
                return None if number is None else table_file("unit", number)
        return None


def without_absent(html: str) -> str:
    """What leads nowhere is no link: an `a` without an address is plain text."""
    return _ABSENT_LINK.sub("", html)
