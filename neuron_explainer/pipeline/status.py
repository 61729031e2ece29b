"""What a run is at, and what has come of it, told while it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neuron_explainer.errors import StoreError
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.progress import Progress, read_progress
from neuron_explainer.pipeline.shard_status import ShardsStatus, ShardState, read_shards
from neuron_explainer.records.cost import UnitCost
from neuron_explainer.stores.batches import OpenBatch, SqliteBatches
from neuron_explainer.stores.results import Results


@dataclass(frozen=True, slots=True)
class RunStatus:
    """Of the current method, and of the process that writes if there is one."""

    is_running: bool
    progress: Progress | None
    """Of the stage that is under way, or was last; None: none has begun."""
    n_scored: int
    mean_score: float | None
    unscored: Mapping[str, int]
    """Reason, up to its first colon -> neurons, the most frequent first."""
    cost: UnitCost | None
    """Of the neurons that are done; None: no language model was asked."""
    shards: ShardsStatus | None = None
    """While the collection is in parts; None: it is whole, or not made in parts."""
    batches: Sequence[OpenBatch] = ()
    """At a provider, as they were when they were last looked at."""


def read_status(folder: RunFolder) -> RunStatus:
    """StoreError when there is no run."""
    shards = read_shards(folder)
    if shards is not None:
        return RunStatus(ShardState.RUNNING in shards.by_state, None, 0, None, {}, None, shards)
    progress = read_progress(folder.progress)
    is_running = folder.is_locked()
    if progress is None and not folder.results.exists() and not is_running:
        raise StoreError(f"no run in {folder.path}; begin one with `run`, or name another --run")
    batches = _read_batches(folder)
    if not folder.results.exists():
        return RunStatus(is_running, progress, 0, None, {}, None, batches=batches)
    with Results(folder.results, read_only=True) as results:
        if not results.has_method():
            return RunStatus(is_running, progress, 0, None, {}, None, batches=batches)
        tally = results.tally(results.current_method())
    return RunStatus(
        is_running, progress, tally.n_scored, tally.mean, tally.unscored, tally.cost,
        batches=batches,
    )  # fmt: skip


def _read_batches(folder: RunFolder) -> Sequence[OpenBatch]:
    if not folder.batches.exists():
        return ()
    with SqliteBatches(folder.batches, read_only=True) as batches:
        return batches.open_batches()
