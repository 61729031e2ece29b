"""What was asked of language models and what it cost, in sqlite: sums by purpose and model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from neuron_explainer.records.cost import UnitCost
from neuron_explainer.stores.closing import Closing
from neuron_explainer.stores.sqlite_file import SqliteFile

SCHEMA = """
CREATE TABLE IF NOT EXISTS spending (
    purpose TEXT NOT NULL,
    model TEXT NOT NULL,
    is_counted INTEGER NOT NULL,
    n_requests INTEGER NOT NULL,
    n_unpriced INTEGER NOT NULL,
    n_prompt_tokens INTEGER NOT NULL,
    n_cached_tokens INTEGER NOT NULL,
    n_completion_tokens INTEGER NOT NULL,
    cost_picousd INTEGER NOT NULL,
    PRIMARY KEY (purpose, model, is_counted)
) WITHOUT ROWID
"""
ADD = """
INSERT INTO spending VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
    n_requests = n_requests + excluded.n_requests,
    n_unpriced = n_unpriced + excluded.n_unpriced,
    n_prompt_tokens = n_prompt_tokens + excluded.n_prompt_tokens,
    n_cached_tokens = n_cached_tokens + excluded.n_cached_tokens,
    n_completion_tokens = n_completion_tokens + excluded.n_completion_tokens,
    cost_picousd = cost_picousd + excluded.cost_picousd
"""
SUMS = """
SELECT is_counted, sum(n_requests), sum(n_unpriced), sum(n_prompt_tokens), sum(n_cached_tokens),
    sum(n_completion_tokens), sum(cost_picousd)
FROM spending WHERE purpose >= ? AND purpose < ? GROUP BY is_counted
"""
LAST = "\U0010ffff"
"""Sorts after every text that a purpose goes on with."""


class ChargeFields(Protocol):
    """What one request cost: `Charge` of `llm/budget.py`."""

    @property
    def purpose(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def n_prompt_tokens(self) -> int: ...
    @property
    def n_cached_tokens(self) -> int: ...
    @property
    def n_completion_tokens(self) -> int: ...
    @property
    def n_requests(self) -> int: ...
    @property
    def cost_picousd(self) -> int | None: ...
    @property
    def is_counted(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Spending:
    """Two sums that are never mixed."""

    counted: UnitCost
    """By the servers' own counts."""
    uncounted: UnitCost
    """Requests that a server may have charged for without saying what: at most this."""


class SpendingStore(Closing):
    """One file; what was added is in it, also after the process is killed.

    Others may read while one process writes. A power failure may lose the last charges.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._file = SqliteFile(path, SCHEMA, read_only=read_only)

    def close(self) -> None:
        self._file.close()

    def add(self, charge: ChargeFields, /) -> None:
        """One transaction."""
        cost = charge.cost_picousd
        self._file.execute(
            ADD,
            (
                charge.purpose, charge.model, charge.is_counted, charge.n_requests,
                charge.n_requests if cost is None else 0, charge.n_prompt_tokens,
                charge.n_cached_tokens, charge.n_completion_tokens, cost or 0,
            ),
        )  # fmt: skip

    def of_purpose(self, prefix: str = "") -> Spending:
        """The sums over all purposes that begin so; all there are without one."""
        rows = self._file.execute(SUMS, (prefix, prefix + LAST))
        sums = {bool(is_counted): _unit_cost(*columns) for is_counted, *columns in rows}
        return Spending(sums.get(True, UnitCost()), sums.get(False, UnitCost()))

    def total_picousd(self) -> int:
        """All that has a price: what was counted, and the most that the rest can have cost."""
        (row,) = self._file.execute("SELECT coalesce(sum(cost_picousd), 0) FROM spending")
        return int(row[0])


def _unit_cost(
    n_requests: int, n_unpriced: int, n_prompt: int, n_cached: int, n_completion: int, cost: int
) -> UnitCost:
    return UnitCost(n_requests, n_prompt, n_cached, n_completion, None if n_unpriced else cost)
