"""The collector: every window runs through the subject once, for all layers and units at once.

1. Fit windows: mean activation by token, and the boundaries of the bands.
2. Record windows: the top, a uniform sample of each band, random windows, and moments.

A block's activations are reduced in the hook, layer by layer, while they are in memory; no layer's
activations outlive the block. What is kept does not grow with the corpus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuron_explainer.collector.layers import Block, FitLayer, Fitted, RecordLayer
from neuron_explainer.collector.plans import CollectPlan
from neuron_explainer.collector.sampling import draw_windows
from neuron_explainer.collector.token_means import Coverage, plan_coverage
from neuron_explainer.collector.windows import blocks
from neuron_explainer.errors import CorpusError
from neuron_explainer.stores.neuron_store import StoreWriter
from neuron_explainer.stores.windows import FIT, RECORD, Part, WindowTable
from neuron_explainer.subject.source import ActivationSource

OnTokens = Callable[[int], None]
"""Hears how many more tokens have been read."""


class Passes(NamedTuple):
    """The two passes over one table of windows."""

    source: ActivationSource
    table: WindowTable
    plan: CollectPlan
    on_tokens: OnTokens | None

    def fit(self, coverage: Coverage, n_vocabulary: int) -> dict[int, FitLayer]:
        drawn = self._draw(FIT, self.plan.n_boundary_windows)
        layers = {
            layer: FitLayer(
                coverage, n_vocabulary, self.source.n_units, len(drawn), self.source.device
            )
            for layer in self.source.layers
        }
        self._run(FIT, drawn, lambda block, layer, acts: layers[layer].add(layer, block, acts))
        return layers

    def record(self, fitted: dict[int, Fitted]) -> tuple[dict[int, RecordLayer], NDArray[np.int64]]:
        """The layers, and the ids of the random windows."""
        drawn = self._draw(RECORD, self.plan.n_random)
        layers = {
            layer: RecordLayer(
                fitted[layer],
                top_k=self.plan.top_k,
                n_a_band=self.plan.n_a_band,
                n_random=len(drawn),
                n_ctx=self.plan.n_ctx,
                seed=self.plan.seed,
            )
            for layer in self.source.layers
        }
        self._run(RECORD, drawn, lambda block, layer, acts: layers[layer].add(layer, block, acts))
        return layers, drawn

    def _run(
        self,
        part: Part,
        drawn: NDArray[np.int64],
        add: Callable[[Block, int, Tensor], None],
    ) -> None:
        for block in self._blocks(part, drawn):
            self.source.read(block.tokens, partial(add, block))
            if self.on_tokens is not None:
                self.on_tokens(block.n_tokens)

    def _draw(self, part: Part, n_windows: int) -> NDArray[np.int64]:
        drawn = draw_windows(self.table, part, n_windows, self.plan.seed, "drawn")
        if len(drawn) == 0:
            raise CorpusError("no windows to fit on or to record; give more text")
        return drawn

    def _blocks(self, part: Part, drawn: NDArray[np.int64]) -> Iterator[Block]:
        device = self.source.device
        for ids in blocks(self.table, part, self.plan.block_size):
            near = np.searchsorted(drawn, ids).clip(max=len(drawn) - 1)
            places = np.where(drawn[near] == ids, near, -1)
            yield Block(
                tokens=torch.from_numpy(self.table.block(ids)).to(device),
                ids=torch.from_numpy(ids).to(device),
                places=torch.from_numpy(places).to(device),
            )


def collect_units(
    source: ActivationSource,
    table: WindowTable,
    fit_token_counts: NDArray[np.int64],
    plan: CollectPlan,
    writer: StoreWriter,
    on_tokens: OnTokens | None = None,
) -> Coverage:
    """Runs both passes and writes every layer; returns which tokens have a mean of their own.

    fit_token_counts: (vocabulary,) occurrences in the fit windows.
    """
    n_units = source.n_units * len(source.layers)
    coverage = plan_coverage(fit_token_counts, n_units, plan.token_means_gb * 1e9)
    writer.write_coverage(*coverage)
    passes = Passes(source, table, plan, on_tokens)
    fit_layers = passes.fit(coverage, len(fit_token_counts))
    fitted: dict[int, Fitted] = {}
    for layer in list(fit_layers):
        fit_layer = fit_layers.pop(layer)  # its sums are freed once they are on disk
        means = fit_layer.token_sums.means().float().T
        writer.write_token_means(layer, means.cpu().numpy())
        fitted[layer] = fit_layer.fitted()
    record_layers, random_ids = passes.record(fitted)
    for layer, record_layer in record_layers.items():
        writer.write_records(layer, record_layer.records(random_ids))
    return coverage
