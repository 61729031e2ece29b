"""Lists of favourite units, in an sqlite file of the viewer's own beside a run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from neuron_explainer.errors import UsageError
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.closing import Closing
from neuron_explainer.stores.sqlite_file import SqliteFile

FILE = "view_favourites.sqlite"
DEFAULT_LIST = "favourites"
MOST_LETTERS = 80
"""Of a list's name."""
MOST_UNITS = 10_000
"""Of a list."""
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS favourites (list TEXT NOT NULL, layer_index INTEGER NOT NULL, "
    "neuron_index INTEGER NOT NULL, added_at TEXT NOT NULL, "
    "PRIMARY KEY (list, layer_index, neuron_index)) WITHOUT ROWID",
)


class FavouriteList(NamedTuple):
    """A name, and how many units it has."""

    name: str
    n_units: int


class Favourites(Closing):
    """A list is there as long as a unit is on it."""

    def __init__(self, folder: Path) -> None:
        self._file = SqliteFile(folder / FILE, *SCHEMA)

    def close(self) -> None:
        self._file.close()

    def lists(self) -> tuple[FavouriteList, ...]:
        """By name."""
        rows = self._file.execute("SELECT list, count(*) FROM favourites GROUP BY list")
        return tuple(FavouriteList(*row) for row in rows)

    def units(self, name: str) -> list[NeuronId]:
        """Of a list, ascending."""
        query = (
            "SELECT layer_index, neuron_index FROM favourites WHERE list = ? "
            "ORDER BY layer_index, neuron_index"
        )
        return [NeuronId(*row) for row in self._file.execute(query, (name,))]

    def lists_of(self, neuron_id: NeuronId) -> tuple[str, ...]:
        """Names of the lists that a unit is on."""
        query = (
            "SELECT list FROM favourites WHERE layer_index = ? AND neuron_index = ? ORDER BY list"
        )
        at = (neuron_id.layer_index, neuron_id.neuron_index)
        return tuple(name for (name,) in self._file.execute(query, at))

    def put(self, name: str, neuron_id: NeuronId, *, is_on: bool) -> None:
        """On a list, or off it. UsageError for what cannot be its name, or where it is full."""
        at = (require_name(name), neuron_id.layer_index, neuron_id.neuron_index)
        if not is_on:
            self._file.execute(
                "DELETE FROM favourites WHERE list = ? AND layer_index = ? AND neuron_index = ?", at
            )
            return
        count = "SELECT count(*) FROM favourites WHERE list = ?"
        if self._file.execute(count, at[:1])[0][0] >= MOST_UNITS:
            raise UsageError(f"the list {name} has {MOST_UNITS:,} neurons; begin another one")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._file.execute(
            "INSERT INTO favourites VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", (*at, now)
        )


def require_name(name: str) -> str:
    """UsageError for one that no list can have."""
    if not name.strip() or len(name) > MOST_LETTERS or not name.isprintable():
        raise UsageError(f"a list's name has 1 to {MOST_LETTERS} printable characters")
    return name.strip()
