"""The collector: every window runs through the subject once, for all units of a group of layers.

1. Fit windows: those drawn first, for the boundaries of the bands; from all of them the mean
   activation by token.
2. Record windows: the top, a uniform sample of each band, random windows, and moments.

A block's activations are reduced in the hook, layer by layer, while they are in memory; no layer's
activations outlive the block. What is kept does not grow with the corpus, and is saved now and
then: a collection that was stopped, however it was, goes on from there to the same files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from torch import Tensor

from neuron_explainer.collector.blocks import BlockPlan, WorkItem
from neuron_explainer.collector.checkpoints import FIT, RECORD, Checkpoints, Cursor
from neuron_explainer.collector.layers import Block, FitLayer, Fitted, RecordLayer
from neuron_explainer.collector.plans import CollectPlan
from neuron_explainer.collector.token_means import TokenRows
from neuron_explainer.stores.neuron_store import StoreWriter
from neuron_explainer.subject.source import ActivationSource


class Reading(NamedTuple):
    """One layer's activations on one block."""

    item: WorkItem
    block: Block
    layer: int
    activations: Tensor
    """(window, seq, unit)"""
    counted: Tensor | None
    """(window, seq) bool; None: every position counts."""


class OnTokens(Protocol):
    """Hears how many tokens have been read, or need not be read again."""

    def __call__(self, n_tokens: int, *, again: bool = False) -> None: ...


class Output(Protocol):
    """Where a layer goes when a pass is through with it."""

    def write_fit(self, layer: int, fit: FitLayer) -> None: ...

    def write_record(self, layer: int, record: RecordLayer) -> None: ...


@dataclass(frozen=True, slots=True)
class StoreOutput:
    """A whole collection: straight to the store."""

    writer: StoreWriter
    blocks: BlockPlan

    def write_fit(self, layer: int, fit: FitLayer) -> None:
        means = fit.token_sums.means().T.cpu().numpy()
        self.writer.write_token_means(layer, means, fit.token_sums.counts.cpu().numpy())

    def write_record(self, layer: int, record: RecordLayer) -> None:
        self.writer.write_records(layer, record.records(self.blocks.random))


@dataclass(frozen=True, slots=True)
class Collection:
    """Both passes over one table of windows, for one group of layers after the other."""

    source: ActivationSource
    blocks: BlockPlan
    plan: CollectPlan
    rows: TokenRows
    output: Output
    checkpoints: Checkpoints
    on_tokens: OnTokens

    def collect(self, n_layers_a_group: int) -> None:
        """Reads every layer that is not finished yet, at most `n_layers_a_group` at a time."""
        while group := self._next_group(n_layers_a_group):
            cursor = self.checkpoints.cursor
            if cursor.group != group:
                cursor = Cursor(cursor.finished, group)
            fitted: dict[int, Fitted] | None = None
            if cursor.phase == FIT:
                fitted = self._fit(cursor)
                cursor = Cursor(cursor.finished, group, RECORD)
            self._record(cursor, fitted)
            self.checkpoints.save(Cursor((*cursor.finished, *group)), {})

    def _next_group(self, n_layers: int) -> tuple[int, ...]:
        """The one that was begun, unless memory has shrunk since; or the next."""
        cursor = self.checkpoints.cursor
        if 0 < len(cursor.group) <= n_layers:
            return cursor.group
        left = [layer for layer in self.source.layers if layer not in cursor.finished]
        return tuple(left[:n_layers])

    def _fit(self, cursor: Cursor) -> dict[int, Fitted]:
        n_drawn = len(self.blocks.fit_drawn)
        source = self.source
        layers = {
            layer: FitLayer(self.rows, source.n_units(layer), n_drawn, source.device)
            for layer in cursor.group
        }

        def add(reading: Reading) -> None:
            item, block, layer, activations, counted = reading
            if item.is_drawn:
                layers[layer].draw(layer, block, activations, counted)
            if item.is_mine:
                layers[layer].add(layer, block, activations, counted)

        self._run(cursor, self.blocks.fit(), layers, add)
        fitted: dict[int, Fitted] = {}
        for layer in cursor.group:
            fit_layer = layers.pop(layer)  # its sums are freed once they are on disk
            self.output.write_fit(layer, fit_layer)
            fitted[layer] = fit_layer.fitted()
        return fitted

    def _record(self, cursor: Cursor, fitted: Mapping[int, Fitted] | None) -> None:
        """`fitted` None: it is part of the state that was saved."""
        n_random = len(self.blocks.random)
        source = self.source
        layers = {
            layer: RecordLayer.empty(source.n_units(layer), self.plan, n_random, source.device)
            if fitted is None
            else RecordLayer(fitted[layer], self.plan, n_random)
            for layer in cursor.group
        }

        def add(reading: Reading) -> None:
            _, block, layer, activations, counted = reading
            layers[layer].add(layer, block, activations, counted)

        self._run(cursor, self.blocks.record(), layers, add)
        for layer in cursor.group:
            self.output.write_record(layer, layers.pop(layer))

    def _run(
        self,
        cursor: Cursor,
        items: Iterator[WorkItem],
        layers: Mapping[int, FitLayer] | Mapping[int, RecordLayer],
        add: Callable[[Reading], None],
    ) -> None:
        """Reads the blocks of a phase from the cursor on."""
        states = {number: layer.tensors() for number, layer in layers.items()}
        if cursor.folder:
            for number, tensors in states.items():
                self.checkpoints.load(number, tensors)
        for n_done, item in enumerate(items, start=1):
            again = n_done <= cursor.n_blocks
            if not again:
                self._read(item, cursor.group, add)
                if self.checkpoints.is_due:
                    self.checkpoints.save(replace(cursor, n_blocks=n_done), states)
            self.on_tokens(self.blocks.n_tokens(item), again=again)

    def _read(self, item: WorkItem, group: tuple[int, ...], add: Callable[[Reading], None]) -> None:
        block = self.blocks.read(item, self.source.device)

        def receive(layer: int, activations: Tensor, counted: Tensor | None) -> None:
            add(Reading(item, block, layer, activations, counted))

        self.source.read(block.tokens, group, receive)
