"""The contexts stage: the fit text read again, for what units do after the last few tokens."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuron_explainer.collector.contexts import (
    ContextPlan,
    ContextSums,
    choose_contexts,
    find_rows,
    plan_contexts,
)
from neuron_explainer.pipeline.events import Listener, StageAdvanced, StageFinished, StageStarted
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.stores.pattern_store import PatternStore, StoredContexts
from neuron_explainer.stores.windows import FIT
from neuron_explainer.subject.source import ActivationSource

MOST_CONTEXTS = 100_000
"""Contexts that are followed, as far as memory allows."""
LEAST_CONTEXTS = 10_000
N_PASSES = 3
"""Over the fit text, for all units of a store."""
WINDOWS_AT_ONCE = 64

UnitsByLayer: TypeAlias = Mapping[int, Sequence[NeuronId]]


@dataclass(frozen=True, slots=True)
class ContextStage:
    """What units do after the last few tokens, for as many as are named."""

    store: NeuronStore
    source: ActivationSource
    """Of all layers. Positions that did not count in the collection do not count here: by their
    place, or by a norm far above the median of the block that is read."""
    n_kept: int
    """Contexts of each unit."""
    sums_gb: float
    """Of all units' sums of all contexts, for N_PASSES over the text: with fewer, fewer are
    followed."""
    memory_bytes: float
    """For sums at the same time."""

    def run(self, neuron_ids: Sequence[NeuronId], kept: PatternStore, listen: Listener) -> None:
        """neuron_ids: ascending. As many units at a time as their sums have room for."""
        started = time.perf_counter()
        n_vocabulary = len(self.store.vocabulary)
        plan = plan_contexts(self.store.windows, n_vocabulary, self._n_contexts())
        kept.write_contexts(plan.tokens())
        most = max(1, int(self.memory_bytes / 4 / max(1, plan.n_contexts)))
        groups = [
            by_layer(neuron_ids[first : first + most]) for first in range(0, len(neuron_ids), most)
        ]
        listen(StageStarted("contexts", self.store.windows.count(FIT)[1] * len(groups), "tokens"))
        n_read = 0
        for group in groups:
            sums = {layer: ContextSums(plan, len(group[layer])) for layer in group}
            for n_tokens in self._read(plan, group, sums):
                n_read += n_tokens
                listen(StageAdvanced("contexts", n_read))
            for layer, members in group.items():
                self._keep(kept, layer, members, sums.pop(layer))
        rate = n_read / (time.perf_counter() - started)
        listen(
            StageFinished(
                "contexts",
                f"mean activation after {plan.n_contexts:,} contexts for {len(neuron_ids):,} "
                f"neurons, from {n_read:,} tokens at {rate:,.0f} tokens/s",
            )
        )

    def _n_contexts(self) -> int:
        """The same for every unit of the store, whichever are asked for now."""
        room = N_PASSES * int(self.sums_gb * 1e9 / 4) // max(1, len(self.store.units))
        return min(MOST_CONTEXTS, max(LEAST_CONTEXTS, room))

    def _read(
        self, plan: ContextPlan, group: UnitsByLayer, sums: Mapping[int, ContextSums]
    ) -> Iterator[int]:
        """Tokens of each block that was read."""
        device = self.source.device
        columns = {
            layer: torch.tensor([i.neuron_index for i in members], device=device)
            for layer, members in group.items()
        }
        for tokens in self._blocks():

            def receive(
                layer: int, activations: Tensor, counted: Tensor | None, block: Tensor = tokens
            ) -> None:
                own = activations[:, :, columns[layer]]
                flat = own.flatten(0, 1).float().cpu()  # (position, unit)
                rows = find_rows(plan, block, None if counted is None else counted.cpu())
                sums[layer].add(*rows, flat)

            self.source.read(tokens.to(device), list(group), receive)
            yield tokens.numel()

    def _blocks(self) -> Iterator[Tensor]:
        """(window, seq) ids of fit windows of one length."""
        table = self.store.windows
        for ids in table.ids(FIT):
            lengths = table.lengths(ids)
            for length in np.unique(lengths):
                members = ids[lengths == length]
                for first in range(0, len(members), WINDOWS_AT_ONCE):
                    block = table.block(members[first : first + WINDOWS_AT_ONCE])
                    yield torch.from_numpy(block)

    def _keep(
        self, kept: PatternStore, layer: int, members: Sequence[NeuronId], sums: ContextSums
    ) -> None:
        units = [neuron_id.neuron_index for neuron_id in members]

        def table_means(some: slice) -> NDArray[np.float32]:
            return self.store.read_token_means(layer, units[some])

        chosen = choose_contexts(sums, table_means, self.n_kept)
        kept.write_unit_contexts(
            (neuron_id, StoredContexts(rows[rows >= 0], values[rows >= 0], by_place))
            for neuron_id, rows, values, by_place in zip(members, *chosen, strict=True)
        )


def by_layer(neuron_ids: Sequence[NeuronId]) -> dict[int, list[NeuronId]]:
    """neuron_ids: ascending."""
    return {layer: list(ids) for layer, ids in groupby(neuron_ids, lambda i: i.layer_index)}
