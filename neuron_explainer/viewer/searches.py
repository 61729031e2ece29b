"""What came of searches in one state of an index: the next page was found with the first."""

from __future__ import annotations

import sqlite3

from neuron_explainer.stores.library_search import Filters, Found, Known, find

N_KEPT = 64
"""Searches, each of `library_search.MOST_RANKED` numbers at the most."""


class Searches:
    """Any number of threads may ask."""

    def __init__(self) -> None:
        self._known = Known()
        self._found: dict[tuple[str, Filters, int], Found[int]] = {}

    def find(
        self, connection: sqlite3.Connection, words: str, filters: Filters, *, limit: int
    ) -> Found[int]:
        """`library_search.find`, once for the same words, filters and limit."""
        asked = (words, filters, limit)
        found = self._found.get(asked)
        if found is None:
            found = find(connection, words, filters, limit=limit, known=self._known)
            if len(self._found) >= N_KEPT:
                self._found.clear()
            self._found[asked] = found
        return found
