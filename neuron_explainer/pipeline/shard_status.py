"""What the shards of a collection are at, until `merge` has made one of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from neuron_explainer.errors import StoreError, UsageError
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.progress import Progress, read_progress
from neuron_explainer.stores.store_manifest import holds_store

SHARD_MANIFEST = "shard.json"
"""Of collector/shards.py, which needs torch; a shard that has it is read to the end."""
COLLECT = "collect"
"""The stage of a shard that counts: others only prepare it."""


class ShardState(StrEnum):
    DONE = "done"
    RUNNING = "running"
    STOPPED = "stopped"
    """Begun, and no process goes on with it."""
    NOT_BEGUN = "not begun"
    """Or begun on another machine, and not copied here."""


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """One shard."""

    number: int
    """From 1."""
    n_shards: int
    state: ShardState
    progress: Progress | None = None
    """Of the stage that is under way, or was last; None: none has begun here."""

    @property
    def share_done(self) -> float:
        """Of the shard's text that is read, 0 to 1."""
        at = self.progress
        if self.state is ShardState.DONE:
            return 1.0
        if at is None or at.stage != COLLECT or at.n_total <= 0:
            return 0.0
        return min(1.0, at.n_done / at.n_total)

    @property
    def rate(self) -> float | None:
        """Tokens a second; None where none is read now."""
        is_reading = self.state is ShardState.RUNNING and self.progress is not None
        return self.progress.rate if is_reading and self.progress else None

    @property
    def left_s(self) -> float | None:
        """Seconds until the shard is done; None: not known, or nobody goes on with it."""
        if self.state is ShardState.DONE:
            return 0.0
        if self.rate is None or self.progress is None or self.progress.stage != COLLECT:
            return None
        return self.progress.left_s


@dataclass(frozen=True, slots=True)
class ShardsStatus:
    """All shards of a collection that is not merged yet, in order of their number."""

    shards: tuple[ShardStatus, ...]

    @property
    def by_state(self) -> dict[str, int]:
        """State -> shards, those without any left out."""
        counts = Counter(shard.state for shard in self.shards)
        return {state.value: counts[state] for state in ShardState if counts[state]}

    @property
    def is_done(self) -> bool:
        return all(shard.state is ShardState.DONE for shard in self.shards)

    @property
    def share_done(self) -> float:
        """Of the whole text that is read, 0 to 1: every shard has an equal part."""
        return sum(shard.share_done for shard in self.shards) / len(self.shards)

    @property
    def rate(self) -> float | None:
        """Tokens a second of all together; None where none is read now."""
        rates = [shard.rate for shard in self.shards if shard.rate is not None]
        return sum(rates) if rates else None

    @property
    def left_s(self) -> float | None:
        """Until the last one is done; None where one of them has no time."""
        times = [shard.left_s for shard in self.shards]
        known = [time for time in times if time is not None]
        return max(known) if len(known) == len(times) else None

    def sentence(self) -> str:
        """`4 shards: 1 done, 2 running, 1 not begun`"""
        states = ", ".join(f"{n} {state}" for state, n in self.by_state.items())
        return f"{len(self.shards)} shards: {states}"


def read_shards(folder: RunFolder) -> ShardsStatus | None:
    """None when there are no shards, or they are merged already."""
    if holds_store(folder.store):
        return None
    shards = tuple(_find(folder))
    return ShardsStatus(shards) if shards else None


def require_same_split(folder: RunFolder, n_shards: int) -> None:
    """UsageError where the folder has shards of a collection in another number of them."""
    others = {shard.n_shards for shard in _find(folder)} - {n_shards}
    if others:
        there = " and ".join(map(str, sorted(others)))
        raise UsageError(
            f"{folder.path} has shards of a collection in {there} parts, and this one is of "
            f"{n_shards}; collect the others of those, remove {folder.path / 'shards'}, or name "
            "another --run"
        )


def require_merged(folder: RunFolder) -> None:
    """StoreError when the folder holds shards alone, of which nothing is explained."""
    found = read_shards(folder)
    if found is not None:
        todo = "run `merge`, then `explain`" if found.is_done else "see `status`"
        raise StoreError(f"{folder.path} has no scores yet ({found.sentence()}); {todo}")


def _find(folder: RunFolder) -> Iterator[ShardStatus]:
    """Those that were begun know how many there are to be: `shards/03-of-16`."""
    begun: dict[tuple[int, int], RunFolder] = {}
    for shard in folder.shards():
        match = re.fullmatch(r"(\d+)-of-(\d+)", shard.path.name)
        if match is not None:
            begun[int(match[2]), int(match[1])] = shard
    for n_shards in sorted({n for n, _ in begun}):
        for number in range(1, n_shards + 1):
            yield _status(number, n_shards, begun.get((n_shards, number)))


def _status(number: int, n_shards: int, shard: RunFolder | None) -> ShardStatus:
    if shard is None:
        return ShardStatus(number, n_shards, ShardState.NOT_BEGUN)
    state = ShardState.STOPPED
    if (shard.store / SHARD_MANIFEST).exists():
        state = ShardState.DONE
    elif shard.is_locked():
        state = ShardState.RUNNING
    return ShardStatus(number, n_shards, state, read_progress(shard.progress))
