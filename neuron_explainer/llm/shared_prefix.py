"""Keys and values of prompt beginnings, computed once and never changed afterwards.

A cache of transformers grows; handed to two forward passes, the second would see the first one's
tokens. Here every pass gets a cache of its own over the same tensors. One that grows has its room
from the start: to join all tokens anew for each that is written would take longer than to write it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from neuron_explainer.errors import UsageError


@dataclass(frozen=True, slots=True)
class KeyValues:
    """What the attention of each layer remembers of `ids`."""

    ids: tuple[int, ...]
    layers: tuple[tuple[Tensor, Tensor], ...]
    """Keys and values, each (1, head, token, d_head); no layers when there are no ids."""

    @property
    def size_bytes(self) -> int:
        """With the room that was left behind them."""
        return sum(x.untyped_storage().nbytes() for pair in self.layers for x in pair)

    def first(self, n_tokens: int) -> KeyValues:
        """Of the first ids alone; the tensors are shared."""
        if n_tokens == 0:
            return NO_TOKENS
        cut = tuple((k[:, :, :n_tokens], v[:, :, :n_tokens]) for k, v in self.layers)
        return KeyValues(self.ids[:n_tokens], cut)

    def growing(self, n_tokens: int) -> Cache:
        """A cache that begins with a copy of these, and keeps `n_tokens` in all."""
        cache = Cache(layer_class_to_replicate=partial(_GrowingLayer, n_tokens))  # type: ignore[arg-type]
        for layer, (keys, values) in enumerate(self.layers):
            cache.update(keys, values, layer)
        return cache

    def fixed(self) -> Cache:
        """A cache that shows these tokens before the ones it is given, and keeps none of those."""
        if not self.layers:
            return DynamicCache()
        return Cache(layers=[_FixedLayer(keys, values) for keys, values in self.layers])


NO_TOKENS = KeyValues((), ())


def key_values_of(ids: tuple[int, ...], cache: Cache) -> KeyValues:
    """What a growing cache holds after `ids` were read; what it is given later changes nothing.

    UsageError for a model that keeps its memory in another way.
    """
    layers = []
    for layer in cache.layers:
        if not isinstance(layer, _GrowingLayer) or layer.get_seq_length() != len(ids):
            raise UsageError("the model remembers something else than its tokens' keys and values")
        assert layer.keys is not None and layer.values is not None
        layers.append((layer.keys, layer.values))
    return KeyValues(ids, tuple(layers))


class KeyValueStore:
    """The key/values used last, up to a number of bytes; one larger than that is kept alone."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[tuple[int, ...], KeyValues] = OrderedDict()

    @property
    def size_bytes(self) -> int:
        return sum(kept.size_bytes for kept in self._kept.values())

    def longest(self, ids: tuple[int, ...]) -> KeyValues:
        """Of as many of the first ids as any that are kept begin with."""
        best, n_best = NO_TOKENS, 0
        for kept in self._kept.values():
            n_common = _n_common(kept.ids, ids)
            if n_common > n_best:
                best, n_best = kept, n_common
        if n_best:
            self._kept.move_to_end(best.ids)
        return best.first(n_best)

    def put(self, key_values: KeyValues, *, similar_share: float = 1.0) -> None:
        """Keeps these, and no longer what begins like them in at least that share of its ids."""
        for ids in list(self._kept):
            if _n_common(ids, key_values.ids) >= similar_share * len(ids):
                del self._kept[ids]
        self._kept[key_values.ids] = key_values
        while len(self._kept) > 1 and self.size_bytes > self._max_bytes:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        self._kept.clear()


class _GrowingLayer(DynamicLayer):
    """Writes what is new behind what is there."""

    def __init__(self, n_tokens: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._n_tokens = n_tokens

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        super().lazy_initialization(key_states, value_states)
        self._key_room, self._value_room = (
            x.new_empty((*x.shape[:-2], self._n_tokens, x.shape[-1]))
            for x in (key_states, value_states)
        )

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        begin = self.get_seq_length()
        end = begin + key_states.shape[-2]
        self._key_room[..., begin:end, :] = key_states
        self._value_room[..., begin:end, :] = value_states
        self.keys = keys = self._key_room[..., :end, :]
        self.values = values = self._value_room[..., :end, :]
        return keys, values


class _FixedLayer(DynamicLayer):
    """Joins the fixed tokens and the new ones for this pass alone."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        assert self.keys is not None and self.values is not None
        keys = torch.cat([self.keys, key_states], dim=-2)
        return keys, torch.cat([self.values, value_states], dim=-2)


def _n_common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
