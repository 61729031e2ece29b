"""Blocks of windows, in an order that is a function of the table alone, and who reads which."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from neuron_explainer.collector.layers import Block
from neuron_explainer.collector.plans import CollectPlan, Shard
from neuron_explainer.collector.sampling import draw_windows
from neuron_explainer.errors import CorpusError
from neuron_explainer.stores.windows import FIT, RECORD, Part, WindowTable


class WorkItem(NamedTuple):
    """One block of a phase."""

    window_ids: NDArray[np.int64]
    """(window,) all of one length."""
    is_drawn: bool
    """Of fit windows that were drawn for the bands: every shard reads them."""
    is_mine: bool
    """Its sums and windows are this shard's to keep."""


class BlockPlan:
    """Which blocks the two passes read: fit windows, those drawn first; then record windows."""

    def __init__(self, table: WindowTable, plan: CollectPlan, shard: Shard) -> None:
        self._table = table
        self._block_size = plan.block_size
        self._shard = shard
        self.fit_drawn = _draw(table, FIT, plan.n_boundary_windows, plan.seed)
        """(window,) ids of the fit windows that the bands are made from, ascending."""
        self.random = _draw(table, RECORD, plan.n_random, plan.seed)
        """(window,) ids of the random windows, ascending."""

    def fit(self) -> Iterator[WorkItem]:
        """Every block that this shard reads in the fit pass."""
        drawn = self._split([self.fit_drawn])
        for number, window_ids in enumerate(drawn):
            yield WorkItem(window_ids, is_drawn=True, is_mine=self._shard.takes(number))
        others = (np.setdiff1d(ids, self.fit_drawn, True) for ids in self._table.ids(FIT))
        yield from self._own(others)

    def record(self) -> Iterator[WorkItem]:
        """Every block that this shard reads in the record pass."""
        return self._own(self._table.ids(RECORD))

    def read(self, item: WorkItem, device: torch.device) -> Block:
        drawn = self.fit_drawn if item.is_drawn else self.random
        near = np.searchsorted(drawn, item.window_ids).clip(max=len(drawn) - 1)
        places = np.where(drawn[near] == item.window_ids, near, -1)
        return Block(
            tokens=torch.from_numpy(self._table.block(item.window_ids)).to(device),
            ids=torch.from_numpy(item.window_ids).to(device),
            places=torch.from_numpy(places).to(device),
        )

    def expected_tokens(self) -> int:
        """Tokens of both passes, but for a few blocks: those drawn, and a part of the others."""
        n_drawn = int(self._table.lengths(self.fit_drawn).sum())
        return n_drawn + (self._table.n_tokens - n_drawn) // self._shard.n_shards

    def n_tokens(self, item: WorkItem) -> int:
        return len(item.window_ids) * int(self._table.lengths(item.window_ids[:1])[0])

    def _own(self, window_ids: Iterable[NDArray[np.int64]]) -> Iterator[WorkItem]:
        for number, block in enumerate(self._split(window_ids)):
            if self._shard.takes(number):
                yield WorkItem(block, is_drawn=False, is_mine=True)

    def _split(self, window_ids: Iterable[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
        """Blocks of up to `block_size` windows of one length, all windows once.

        Full blocks come as soon as they are full, in order of window id; what is left of each
        length comes last.
        """
        waiting: defaultdict[int, list[int]] = defaultdict(list)
        for ids in window_ids:
            lengths = self._table.lengths(ids)
            for window_id, length in zip(ids.tolist(), lengths.tolist(), strict=True):
                bucket = waiting[length]
                bucket.append(window_id)
                if len(bucket) == self._block_size:
                    yield np.array(bucket, dtype=np.int64)
                    bucket.clear()
        for length in sorted(waiting):
            if waiting[length]:
                yield np.array(waiting[length], dtype=np.int64)


def _draw(table: WindowTable, part: Part, n_windows: int, seed: int) -> NDArray[np.int64]:
    drawn = draw_windows(table, part, n_windows, seed, "drawn")
    if len(drawn) == 0:
        raise CorpusError("no windows to fit on or to record; give more text")
    return drawn
