"""Where the viewer's pages are, from wherever they are linked."""

from __future__ import annotations

from typing import Protocol
from urllib.parse import quote, urlencode

from neuron_explainer.records.neuron import NeuronId


class Links(Protocol):
    """Of one source; a site of files has others than a server."""

    def static(self, name: str) -> str:
        """A style sheet or a script."""

    def page(self, name: str = "", **query: object) -> str:
        """`table`, `search`, …; home when not said. What is None is left out of the query."""

    def unit(self, neuron_id: NeuronId, part: str = "") -> str:
        """The page of a unit, or a part of it, such as `.json`."""


class ServerLinks:
    """Addresses of a server; those of the first source need no key."""

    def __init__(self, key: str | None = None) -> None:
        """key: of the source; None: the first one's."""
        self._prefix = "" if key is None else f"/s/{key}"

    def static(self, name: str) -> str:
        return f"/static/{quote(name)}"

    def page(self, name: str = "", **query: object) -> str:
        given = {key: value for key, value in query.items() if value not in (None, "")}
        return f"{self._prefix}/{name}" + (f"?{urlencode(given)}" if given else "")

    def unit(self, neuron_id: NeuronId, part: str = "") -> str:
        path = f"/layers/{neuron_id.layer_index}/neurons/{neuron_id.neuron_index}"
        return f"{self._prefix}{path}{part}"
