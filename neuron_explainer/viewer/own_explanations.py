"""Explanations that people wrote in the viewer, with their scores, in the viewer's own sqlite file.

A run's results have one writer, and that is not the viewer. Rows are appended, never changed.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from neuron_explainer.errors import StoreError
from neuron_explainer.records.cost import UnitCost
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import Score, ScoredSimulation
from neuron_explainer.stores.closing import Closing
from neuron_explainer.stores.scored_windows import pack_windows, unpack_windows
from neuron_explainer.stores.sqlite_file import SqliteFile

FILE = "view_own.sqlite"
"""In the folder where the viewer keeps its files of a source."""
SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS own (
    id INTEGER PRIMARY KEY,
    layer_index INTEGER NOT NULL,
    neuron_index INTEGER NOT NULL,
    text TEXT NOT NULL,
    author TEXT,
    written_at TEXT NOT NULL,
    scorer TEXT NOT NULL,
    simulator TEXT NOT NULL,
    headline TEXT NOT NULL,
    scores TEXT NOT NULL,
    windows BLOB NOT NULL,
    cost TEXT NOT NULL
)
""",
    "CREATE INDEX IF NOT EXISTS own_by_unit ON own (layer_index, neuron_index)",
)
COLUMNS = (
    "layer_index, neuron_index, text, author, written_at, scorer, simulator, headline, scores, "
    "windows, cost"
)


@dataclass(frozen=True, slots=True)
class OwnExplanation:
    """What a person wrote of a unit, and how well it predicts."""

    neuron_id: NeuronId
    text: str
    author: str | None
    """As they call themselves; None: they do not say."""
    written_at: str
    """ISO 8601, UTC."""
    scored: ScoredSimulation
    cost: UnitCost
    number: int = 0
    """In the file; 0: it is not kept yet."""


class OwnExplanations(Closing):
    """One source's file, opened for each thing that is done."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._file = SqliteFile(path, *SCHEMA, read_only=read_only)

    def close(self) -> None:
        self._file.close()

    def add(self, own: OwnExplanation) -> None:
        """One transaction."""
        scored = own.scored
        scores = {name: asdict(score) for name, score in scored.scores.items()}
        self._file.execute(
            f"INSERT INTO own ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                own.neuron_id.layer_index, own.neuron_id.neuron_index, own.text, own.author,
                own.written_at, scored.scorer, scored.simulator, scored.headline,
                json.dumps(scores, allow_nan=False), pack_windows(scored.windows),
                json.dumps(asdict(own.cost)),
            ),
        )  # fmt: skip

    def of_unit(self, neuron_id: NeuronId) -> tuple[OwnExplanation, ...]:
        """The newest first; StoreError for a row that is damaged."""
        rows = self._file.execute(
            f"SELECT {COLUMNS}, id FROM own WHERE layer_index = ? AND neuron_index = ? "
            "ORDER BY id DESC",
            (neuron_id.layer_index, neuron_id.neuron_index),
        )
        try:
            return tuple(_read(row) for row in rows)
        except (ValueError, LookupError, TypeError, zlib.error) as error:
            raise StoreError(f"{self._path} is damaged ({error}); move the file away") from error


def read_own(path: Path, neuron_id: NeuronId) -> tuple[OwnExplanation, ...]:
    """Empty where nobody has written anything yet."""
    if not path.exists():
        return ()
    with OwnExplanations(path, read_only=True) as kept:
        return kept.of_unit(neuron_id)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _read(row: tuple[Any, ...]) -> OwnExplanation:
    (
        layer, unit, text, author, written_at, scorer, simulator, headline, scores, windows, cost,
        number,
    ) = row  # fmt: skip
    scored = ScoredSimulation(
        scorer=scorer,
        simulator=simulator,
        scores={name: Score(**fields) for name, fields in json.loads(scores).items()},
        windows=unpack_windows(windows),
        headline=headline,
    )
    cost = UnitCost(**json.loads(cost))
    return OwnExplanation(NeuronId(layer, unit), text, author, written_at, scored, cost, number)
