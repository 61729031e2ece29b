"""Stand-ins that behave as the real things do, without their cost."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuron_explainer.collector.corpus import Document
from neuron_explainer.errors import CannotExplain
from neuron_explainer.llm.messages import Completion, TokenLogprobs, Usage
from neuron_explainer.pipeline.events import Event
from neuron_explainer.records.explanation import Explanation, TokenLookupTable
from neuron_explainer.records.neuron import NeuronId, NeuronRecord
from neuron_explainer.stores.windows import Part, WindowTable
from neuron_explainer.subject.sites import Site
from neuron_explainer.subject.source import Receive

EventType = TypeVar("EventType")
Q = TypeVar("Q")
A = TypeVar("A")
WORDS = ["the", "of", "and", "a", "to", "in", "river", "Tuesday", "walking", "blue", "42", "return"]


def scripted_documents(n_documents: int, seed: int = 0) -> Iterator[Document]:
    """Documents of a few words, of many lengths; about one in ten repeats an earlier one."""
    rng = random.Random(seed)
    for number in range(n_documents):
        text = " ".join(rng.choices(WORDS, k=rng.randint(1, 25)))
        yield Document(f"document {number}", "the repeated one" if number % 10 == 9 else text)


class ScriptedSource:
    """Activations that are a function of the token and its position: the same in any batch.

    They are rounded to eighths, so that ties are common.
    """

    site = Site.MLP_POST_ACT
    device = torch.device("cpu")

    def __init__(
        self,
        n_layers: int,
        n_units: int,
        scale: float = 1.0,
        counts: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """counts: tokens (batch, seq) -> which of them count; None: all do."""
        self._counts = counts
        self.layers = range(n_layers)
        self._n_units = n_units
        generator = torch.Generator().manual_seed(7)
        by_token = torch.randn(n_layers, 300, n_units, generator=generator)
        by_position = torch.randn(n_layers, 64, n_units, generator=generator) / 2
        self._by_token = by_token * scale  # (layer, token, unit)
        self._by_position = by_position * scale  # (layer, position, unit)

    def n_units(self, _layer: int) -> int:
        return self._n_units

    def read(self, tokens: Tensor, layers: Sequence[int], receive: Receive) -> None:
        counted = None if self._counts is None else self._counts(tokens)
        for layer in layers:
            acts = self._by_token[layer][tokens] + self._by_position[layer][: tokens.shape[1]]
            receive(layer, (acts * 8).round() / 8, counted)


class ChunkedTable(WindowTable):
    """A table that gives its window ids some at a time, as a table of millions does."""

    def __init__(self, folder: Path, chunk_size: int) -> None:
        super().__init__(folder)
        self._chunk_size = chunk_size

    def ids(self, part: Part) -> Iterator[NDArray[np.int64]]:
        everyone = np.concatenate(list(super().ids(part)))
        for first in range(0, len(everyone), self._chunk_size):
            yield everyone[first : first + self._chunk_size]


class FakeExplainer:
    """The unit's own table as its rule, a reason for units that have one; remembers its calls."""

    name = "fake"

    def __init__(
        self,
        read_table: Callable[[NeuronId], TokenLookupTable],
        reasons: Mapping[NeuronId, str] | None = None,
    ) -> None:
        self._read_table = read_table
        self._reasons = reasons or {}
        self.asked: list[NeuronId] = []

    async def explain(self, record: NeuronRecord) -> tuple[Explanation, ...]:
        self.asked.append(record.neuron_id)
        if record.neuron_id in self._reasons:
            raise CannotExplain(self._reasons[record.neuron_id])
        table = self._read_table(record.neuron_id)
        return (Explanation(record.neuron_id, f"claim {record.neuron_id}", self.name, rule=table),)


class FakeClient(Generic[Q, A]):
    """Answers from a list, or by a function, and remembers what it was asked; raises errors."""

    def __init__(self, replies: Iterable[A | Exception] | Callable[[Q], A]) -> None:
        self._replies = replies if callable(replies) else iter(replies)
        self.requests: list[Q] = []

    async def ask(self, request: Q) -> A:
        self.requests.append(request)
        reply = self._replies(request) if callable(self._replies) else next(self._replies)
        if isinstance(reply, Exception):
            raise reply
        return reply


def completion(text: str, logprobs: Sequence[TokenLogprobs] | None = None) -> Completion:
    """A text that ended by itself, of 7 tokens asked and 2 answered."""
    usage = Usage(n_prompt_tokens=7, n_cached_tokens=0, n_completion_tokens=2)
    return Completion(text, "fake-1", "stop", usage, None if logprobs is None else tuple(logprobs))


class FakeListener:
    """Remembers what it hears; raises `error` at the n-th event of the type `fail_at` names."""

    def __init__(
        self, fail_at: tuple[type[Event], int] | None = None, error: BaseException | None = None
    ) -> None:
        self.events: list[Event] = []
        self._fail_at = fail_at
        self._error = error or KeyboardInterrupt()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if self._fail_at is not None and len(self.heard(self._fail_at[0])) == self._fail_at[1]:
            raise self._error

    def heard(self, kind: type[EventType]) -> list[EventType]:
        return [event for event in self.events if isinstance(event, kind)]
