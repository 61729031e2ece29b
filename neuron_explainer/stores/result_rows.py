"""The rows of a run's results by the number they were written under, for who follows a file.

Numbers grow. A row that is final stays for ever; one that is not may go, and its number may then
be that of another row: it is to be read again, by `of_numbers`, each time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from neuron_explainer.records.cost import UnitCost
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.closing import Closing
from neuron_explainer.stores.results import MethodUse
from neuron_explainer.stores.results_schema import METHODS_WITH_RESULTS
from neuron_explainer.stores.sqlite_file import SqliteFile

ROWS_AT_ONCE = 1000
READ = (
    "SELECT id, fingerprint, layer_index, neuron_index, explainer, model, text, reason, "
    "created_at, is_final FROM explanations"
)
READ_SCORES = (
    "SELECT explanation_id, name, is_headline, value, low, high, reason, metric, simulator, scorer "
    "FROM scores WHERE explanation_id BETWEEN ? AND ?"
)


class Headline(NamedTuple):
    """The score to report; `value` is None exactly when `reason` is given."""

    value: float | None
    low: float | None
    high: float | None
    reason: str | None
    metric: str
    simulator: str
    scorer: str


class ResultRow(NamedTuple):
    """What one method says of one unit, in short."""

    number: int
    method: str
    """Fingerprint."""
    neuron_id: NeuronId
    explainer: str
    model: str | None
    """None: no language model was asked for the explanation."""
    text: str | None
    reason: str | None
    """Why there is no explanation."""
    created_at: str
    """ISO 8601, UTC."""
    is_final: bool
    headline: Headline | None
    """None: nothing was scored."""
    values: Mapping[str, float]
    """By name, every score that has a value."""


class ResultRows(Closing):
    """Reads a file that another process may be writing; StoreError where it is not readable."""

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, read_only=True)

    def close(self) -> None:
        self._file.close()

    @property
    def last_number(self) -> int:
        """0: there is none."""
        return int(self._file.execute("SELECT coalesce(max(id), 0) FROM explanations")[0][0])

    def birth(self) -> str | None:
        """The same for one file as long as it lives; None: nothing is in it yet."""
        query = "SELECT fingerprint, choices, used_at FROM methods ORDER BY id LIMIT 1"
        rows = self._file.execute(query)
        return json.dumps(rows[0]) if rows else None

    def methods(self) -> tuple[MethodUse, ...]:
        """Every method that has results or was used, the one used last at the end."""
        query = (
            "SELECT fingerprint, max(id), choices, used_at FROM methods GROUP BY fingerprint "
            f"UNION ALL SELECT fingerprint, 0, NULL, NULL FROM ({METHODS_WITH_RESULTS}) "
            "WHERE fingerprint NOT IN (SELECT fingerprint FROM methods) ORDER BY 2, 1"
        )
        return tuple(
            MethodUse(method, None if choices is None else json.loads(choices), used_at)
            for method, _, choices, used_at in self._file.execute(query)
        )

    def cost(self, method: str) -> UnitCost | None:
        """Of all units of a method; None where no language model was asked."""
        query = (
            "SELECT count(*), count(cost_picousd), sum(cost_picousd), sum(n_requests), "
            "sum(n_prompt_tokens), sum(n_cached_tokens), sum(n_completion_tokens) "
            "FROM explanations JOIN costs ON explanation_id = id WHERE fingerprint = ?"
        )
        n_asked, n_priced, cost_picousd, *counts = self._file.execute(query, (method,))[0]
        if not n_asked:
            return None
        return UnitCost(*counts) + UnitCost(
            cost_picousd=cost_picousd if n_priced == n_asked else None
        )

    def after(self, number: int) -> Iterator[ResultRow]:
        """Those with a larger number, in their order."""
        query = f"{READ} WHERE id > ? ORDER BY id LIMIT {ROWS_AT_ONCE}"
        while rows := self._file.execute(query, (number,)):
            yield from self._rows(rows)
            number = rows[-1][0]

    def of_numbers(self, numbers: Sequence[int]) -> Iterator[ResultRow]:
        """Those of them that are there, in their order."""
        wanted = sorted(numbers)
        for start in range(0, len(wanted), ROWS_AT_ONCE):
            some = wanted[start : start + ROWS_AT_ONCE]
            places = ", ".join("?" * len(some))
            query = f"{READ} WHERE id IN ({places}) ORDER BY id"
            yield from self._rows(self._file.execute(query, some))

    def _rows(self, rows: Sequence[tuple[Any, ...]]) -> Iterator[ResultRow]:
        if not rows:
            return
        headlines: dict[int, Headline] = {}
        values: dict[int, dict[str, float]] = {}
        of_rows = self._file.execute(READ_SCORES, (rows[0][0], rows[-1][0]))
        for number, name, is_headline, value, *more in of_rows:
            if value is not None:
                values.setdefault(number, {})[name] = value
            if is_headline:
                headlines[number] = Headline(value, *more)
        for number, method, layer, unit, explainer, model, text, reason, at, is_final in rows:
            yield ResultRow(
                number, method, NeuronId(layer, unit), explainer, model, text, reason, at,
                bool(is_final), headlines.get(number), values.get(number, {}),
            )  # fmt: skip
