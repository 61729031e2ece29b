"""How the command line shows what a run is at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Console

from neuron_explainer.pipeline.progress import Progress
from neuron_explainer.pipeline.shard_status import ShardsStatus, ShardState, ShardStatus
from neuron_explainer.pipeline.status import RunStatus
from neuron_explainer.pipeline.wording import format_rate, format_seconds


def print_status(console: Console, status: RunStatus, run_flag: str) -> None:
    """A line for what is under way, one for what is done, and the reasons; or one a shard.

    run_flag: ` --run R`, for the commands that are named.
    """
    lines = _shard_lines(status.shards, run_flag) if status.shards else _run_lines(status)
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def plain_status(status: RunStatus) -> dict[str, Any]:
    """The same for a program, with the rates and times that follow from it."""
    at, shards = status.progress, status.shards
    plain = asdict(status) | {"rate": at and at.rate, "left_s": at and at.left_s}
    return plain | {"shards": None if shards is None else _plain_shards(shards)}


def _plain_shards(shards: ShardsStatus) -> dict[str, Any]:
    return {
        "by_state": shards.by_state,
        "share_done": shards.share_done,
        "rate": shards.rate,
        "left_s": shards.left_s,
        "shards": [
            asdict(one) | {"share_done": one.share_done, "rate": one.rate, "left_s": one.left_s}
            for one in shards.shards
        ],
    }


def _run_lines(status: RunStatus) -> Iterator[str]:
    yield "running" if status.is_running else "not running"
    if status.progress is not None:
        left_s = status.progress.left_s if status.is_running else None
        yield _describe(status.progress, left_s)
    elif status.is_running:
        yield "starting: the model and the text are being opened"
    yield from (batch.sentence() for batch in status.batches)
    mean = "" if status.mean_score is None else f", mean score {status.mean_score:.3f}"
    yield f"{status.n_scored:,} neurons scored{mean}"
    yield from (f"not scored: {n:,} {reason}" for reason, n in status.unscored.items())
    if status.cost is not None:
        yield status.cost.sentence()


def _shard_lines(shards: ShardsStatus, run_flag: str) -> Iterator[str]:
    whole = f"{shards.sentence()}; {shards.share_done:.0%} of the text read"
    if shards.rate is not None:
        whole += f", {format_rate(shards.rate, 'tokens')}"
    if shards.left_s:
        whole += f", about {format_seconds(shards.left_s)} left"
    yield whole
    yield from (_shard_line(shard, run_flag) for shard in shards.shards)
    if shards.is_done:
        yield f"all are read; next: neuron-explainer merge{run_flag}"


def _shard_line(shard: ShardStatus, run_flag: str) -> str:
    line = f"{shard.number}/{shard.n_shards} {shard.state}"
    if shard.state in (ShardState.RUNNING, ShardState.STOPPED) and shard.progress is not None:
        line += f", {_describe(shard.progress, shard.left_s)}"
    if shard.state is ShardState.STOPPED:
        line += f"; go on: neuron-explainer collect --shard {shard.number}/{shard.n_shards}"
        line += f"{run_flag} …"
    return line


def _describe(progress: Progress, left_s: float | None) -> str:
    """`collect: 34,000 of 37,500 tokens, 4,500 tokens/s, about 10 s left`"""
    line = f"{progress.stage}: {progress.n_done:,} of {progress.n_total:,} {progress.unit}"
    if progress.rate is not None:
        line += f", {format_rate(progress.rate, progress.unit)}"
    return line + (f", about {format_seconds(left_s)} left" if left_s else "")
