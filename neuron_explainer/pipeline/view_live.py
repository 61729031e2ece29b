"""What the live page of the viewer tells of a run; nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.shard_status import COLLECT
from neuron_explainer.pipeline.status import RunStatus, read_status
from neuron_explainer.pipeline.wording import format_rate, format_seconds
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.results import Results
from neuron_explainer.stores.spending import SpendingStore
from neuron_explainer.viewer.hooks import LiveStatus

N_NEWEST = 20


def read_live(folder: RunFolder) -> LiveStatus:
    """What a run is at; StoreError when there is none."""
    status = read_status(folder)
    at = _read_place(status)
    return LiveStatus(
        is_running=status.is_running,
        stage=at.stage,
        unit=at.unit,
        n_done=at.n_done,
        n_total=at.n_total,
        rate=None if at.rate is None else format_rate(at.rate, at.rate_unit),
        left=None if at.left_s is None else format_seconds(at.left_s),
        spent_usd=_read_spent_usd(folder),
        cost=status.cost,
        n_scored=status.n_scored,
        mean_score=status.mean_score,
        unscored=status.unscored,
        newest=_read_newest(folder),
        notes=tuple(_notes(status)),
    )


class _Place(NamedTuple):
    """How far the stage is; rate and time are of a process that goes on alone."""

    stage: str | None = None
    unit: str = ""
    n_done: int = 0
    n_total: int = 0
    rate: float | None = None
    """A second."""
    rate_unit: str = ""
    left_s: float | None = None


def _read_place(status: RunStatus) -> _Place:
    at, shards, is_running = status.progress, status.shards, status.is_running
    if shards is not None:
        n_done = round(100 * shards.share_done)
        left_s = shards.left_s if is_running else None
        return _Place(COLLECT, "% of the text", n_done, 100, shards.rate, "tokens", left_s)
    if at is None:
        return _Place()
    rate, left_s = (at.rate, at.left_s) if is_running else (None, None)
    return _Place(at.stage, at.unit, at.n_done, at.n_total, rate, at.unit, left_s)


def _read_spent_usd(folder: RunFolder) -> float | None:
    """By whatever asked in this folder; None: some of it has no known price."""
    if not folder.spending.exists():
        return 0.0
    with SpendingStore(folder.spending, read_only=True) as spending:
        spent = spending.of_purpose()
    return (spent.counted + spent.uncounted).cost_usd


def _read_newest(folder: RunFolder) -> tuple[UnitResult, ...]:
    if not folder.results.exists():
        return ()
    with Results(folder.results, read_only=True) as results:
        if not results.has_method():
            return ()
        return tuple(results.newest_units(results.current_method(), N_NEWEST))


def _notes(status: RunStatus) -> Iterator[str]:
    yield from (batch.sentence() for batch in status.batches)
    if status.shards is not None:
        yield status.shards.sentence()
