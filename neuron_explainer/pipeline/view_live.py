"""What the live page of the viewer tells of a run; nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Iterator

from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.status import RunStatus, read_status
from neuron_explainer.pipeline.wording import format_rate, format_seconds
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.results import Results
from neuron_explainer.viewer.hooks import LiveStatus

N_NEWEST = 20


def read_live(folder: RunFolder) -> LiveStatus:
    """What a run is at; StoreError when there is none."""
    status = read_status(folder)
    at = status.progress
    left_s = at.left_s if at is not None and status.is_running else None
    return LiveStatus(
        is_running=status.is_running,
        stage=None if at is None else at.stage,
        unit="" if at is None else at.unit,
        n_done=0 if at is None else at.n_done,
        n_total=0 if at is None else at.n_total,
        rate=None if at is None or at.rate is None else format_rate(at.rate, at.unit),
        left=None if left_s is None else format_seconds(left_s),
        spent_usd=0.0 if at is None else at.spent_usd,
        cost=status.cost,
        n_scored=status.n_scored,
        mean_score=status.mean_score,
        unscored=status.unscored,
        newest=_read_newest(folder),
        notes=tuple(_notes(status)),
    )


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
        yield f"{status.shards.sentence()}; {status.shards.share_done:.0%} of the text read"
