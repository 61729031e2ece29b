"""Where activations come from: one block of windows in, one layer's activations at a time out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import DynamicCache

from neuron_explainer.errors import UsageError
from neuron_explainer.subject.hooks import reading_inputs
from neuron_explainer.subject.model import Subject
from neuron_explainer.subject.sites import Site

Receive = Callable[[int, Tensor, Tensor | None], None]
"""Called as `receive(layer_index, activations, counted)`.

Activations (batch, seq, unit); counted (batch, seq) bool, or None when every position counts.
"""


class ActivationSource(Protocol):
    """Anything whose units can be read: a model's neurons, a dictionary's latents."""

    @property
    def site(self) -> Site: ...

    @property
    def layers(self) -> Sequence[int]:
        """The layers that can be read, ascending."""

    def n_units(self, layer: int) -> int:
        """Units of a layer that are read."""

    @property
    def device(self) -> torch.device:
        """Where the activations are."""

    def read(self, tokens: Tensor, layers: Sequence[int], receive: Receive) -> None:
        """Runs one block; tokens: (batch, seq) ids, windows of one length, without padding.

        `receive` is called once for each of `layers` (ascending), as the layer is reached; the
        tensors it is given may be reused afterwards, so it must take what it needs at once.
        """


class SubjectSource:
    """MLP neurons of a subject; the forward pass ends at the deepest layer that is read."""

    site = Site.MLP_POST_ACT

    def __init__(
        self,
        subject: Subject,
        layers: Sequence[int] | None = None,
        *,
        skip_first: int = 0,
        max_norm_ratio: float | None = None,
    ) -> None:
        """Positions that do not count: the first `skip_first` of a window, where attention sinks
        lie, and those where the residual stream entering the layer is more than `max_norm_ratio`
        times as long as the block's median (Sun et al. 2024, "massive activations").
        """
        self.layers = sorted(set(range(subject.n_layers) if layers is None else layers))
        if not self.layers:
            raise UsageError("no layer to read")
        if not 0 <= self.layers[0] <= self.layers[-1] < subject.n_layers:
            raise UsageError(
                f"layer {self.layers[-1]} is not in {subject.name}, which has layers "
                f"0..{subject.n_layers - 1}"
            )
        self._n_units = subject.d_mlp
        self.device = subject.device
        self._model = subject.model.base_model
        self._config = subject.model.config
        self._modules = {layer: subject.site_module(layer) for layer in self.layers}
        self._streams = {
            layer: subject.layer_module(layer)
            for layer in (self.layers if max_norm_ratio is not None else ())
        }
        self._skip_first = skip_first
        self._max_norm_ratio = max_norm_ratio

    def n_units(self, _layer: int) -> int:
        return self._n_units

    @torch.inference_mode()
    def read(self, tokens: Tensor, layers: Sequence[int], receive: Receive) -> None:
        n_windows, n_seq = tokens.shape
        after_first = self._after_first(n_windows, n_seq)
        counted = dict.fromkeys(layers, after_first)

        def receive_stream(layer: int, stream: Tensor) -> None:
            assert self._max_norm_ratio is not None
            norms = torch.linalg.vector_norm(stream.float(), dim=-1).view(n_windows, n_seq)
            is_usual = norms <= self._max_norm_ratio * norms.median()
            counted[layer] = is_usual if after_first is None else is_usual & after_first

        def receive_windows(layer: int, activations: Tensor) -> None:
            shaped = activations.view(n_windows, n_seq, -1)  # OPT has (batch · seq, unit)
            receive(layer, shaped, counted[layer])

        modules = {layer: self._modules[layer] for layer in layers}
        streams = {layer: self._streams[layer] for layer in layers if layer in self._streams}
        with (
            reading_inputs(modules, receive_windows, stop_after=layers[-1]),
            reading_inputs(streams, receive_stream),
        ):
            self._model(input_ids=tokens.to(self.device), use_cache=False)

    @torch.inference_mode()
    def begin(self, prefixes: Tensor, layer: int) -> Begun:
        """Reads what the rows of blocks share at their beginning; prefixes: (prefix, seq)."""
        cache = DynamicCache(config=self._config)
        with reading_inputs({layer: self._modules[layer]}, _ignore, stop_after=layer):
            self._model(input_ids=prefixes.to(self.device), past_key_values=cache, use_cache=True)
        return Begun(layer, cache)

    @torch.inference_mode()
    def read_after(self, begun: Begun, of_row: Tensor, tokens: Tensor, receive: Receive) -> None:
        """Runs one block whose rows go on from beginnings.

        of_row: (batch,) the prefix of each row; tokens: (batch, seq). `receive` is called once,
        with what is at `tokens`, where every position counts.
        """
        n_windows, n_seq = tokens.shape

        def receive_windows(layer: int, activations: Tensor) -> None:
            receive(layer, activations.view(n_windows, n_seq, -1), None)

        modules = {begun.layer: self._modules[begun.layer]}
        with reading_inputs(modules, receive_windows, stop_after=begun.layer):
            self._model(
                input_ids=tokens.to(self.device),
                past_key_values=begun.rows(of_row.to(self.device)),
                use_cache=True,
            )

    def _after_first(self, n_windows: int, n_seq: int) -> Tensor | None:
        """(batch, seq) bool; None when no position is skipped."""
        if self._skip_first == 0:
            return None
        is_after = torch.arange(n_seq, device=self.device) >= self._skip_first  # (seq,)
        return is_after.expand(n_windows, n_seq)


@dataclass(frozen=True, slots=True)
class Begun:
    """Keys and values of beginnings, up to a layer."""

    layer: int
    cache: DynamicCache

    def rows(self, of_row: Tensor) -> DynamicCache:
        """Of these prefixes, to be gone on from; of_row: (batch,)."""
        rows = copy.copy(self.cache)
        rows.layers = [copy.copy(layer) for layer in self.cache.layers]
        rows.batch_select_indices(of_row)
        return rows


def _ignore(_layer: int, _activations: Tensor) -> None:
    pass


class ChosenUnits:
    """Some units of another source; its layers without any are not read."""

    def __init__(self, source: ActivationSource, chosen: Mapping[int, Sequence[int]]) -> None:
        """chosen: by layer, the numbers of its units, in the order they are handed on."""
        self.site = source.site
        self.layers = sorted(chosen)
        self.device = source.device
        self._source = source
        self._columns = {
            layer: torch.tensor(units, device=source.device) for layer, units in chosen.items()
        }

    def n_units(self, layer: int) -> int:
        return len(self._columns[layer])

    def read(self, tokens: Tensor, layers: Sequence[int], receive: Receive) -> None:
        def receive_chosen(layer: int, activations: Tensor, counted: Tensor | None) -> None:
            receive(layer, activations.index_select(2, self._columns[layer]), counted)

        self._source.read(tokens, layers, receive_chosen)
