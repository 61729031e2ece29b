"""Where activations come from: one block of windows in, one layer's activations at a time out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from neuron_explainer.errors import UsageError
from neuron_explainer.subject.hooks import reading_inputs
from neuron_explainer.subject.model import Subject
from neuron_explainer.subject.sites import Site

Receive = Callable[[int, Tensor], None]
"""Called as `receive(layer_index, activations)`, activations (batch, seq, unit)."""


class ActivationSource(Protocol):
    """Anything whose units can be read: a model's neurons, a dictionary's latents."""

    @property
    def site(self) -> Site: ...

    @property
    def layers(self) -> Sequence[int]:
        """The layers that are read, ascending."""

    @property
    def n_units(self) -> int:
        """Units a layer."""

    @property
    def device(self) -> torch.device:
        """Where the activations are."""

    def read(self, tokens: Tensor, receive: Receive) -> None:
        """Runs one block; tokens: (batch, seq) ids, windows of one length, without padding.

        `receive` is called once a layer, as the layer is reached; the tensor it is given may be
        reused afterwards, so it must take what it needs at once.
        """


class SubjectSource:
    """MLP neurons of a subject; the forward pass ends at the deepest layer that is read."""

    site = Site.MLP_POST_ACT

    def __init__(self, subject: Subject, layers: Sequence[int] | None = None) -> None:
        self.layers = sorted(set(range(subject.n_layers) if layers is None else layers))
        if not self.layers:
            raise UsageError("no layer to read")
        if not 0 <= self.layers[0] <= self.layers[-1] < subject.n_layers:
            raise UsageError(
                f"layer {self.layers[-1]} is not in {subject.name}, which has layers "
                f"0..{subject.n_layers - 1}"
            )
        self.n_units = subject.d_mlp
        self.device = subject.device
        self._model = subject.model.base_model
        self._modules = {layer: subject.site_module(layer) for layer in self.layers}

    @torch.inference_mode()
    def read(self, tokens: Tensor, receive: Receive) -> None:
        n_windows, n_seq = tokens.shape

        def receive_windows(layer: int, activations: Tensor) -> None:
            receive(layer, activations.view(n_windows, n_seq, -1))  # OPT has (batch · seq, unit)

        with reading_inputs(self._modules, receive_windows, stop_after=self.layers[-1]):
            self._model(input_ids=tokens.to(self.device), use_cache=False)
