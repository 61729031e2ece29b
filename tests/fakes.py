"""Stand-ins that behave as the real things do, without their cost."""

from __future__ import annotations

import random
from collections.abc import Iterator

import torch
from torch import Tensor

from neuron_explainer.collector.corpus import Document
from neuron_explainer.subject.sites import Site
from neuron_explainer.subject.source import Receive

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

    def __init__(self, n_layers: int, n_units: int, scale: float = 1.0) -> None:
        self.layers = range(n_layers)
        self.n_units = n_units
        generator = torch.Generator().manual_seed(7)
        by_token = torch.randn(n_layers, 300, n_units, generator=generator)
        by_position = torch.randn(n_layers, 64, n_units, generator=generator) / 2
        self._by_token = by_token * scale  # (layer, token, unit)
        self._by_position = by_position * scale  # (layer, position, unit)

    def read(self, tokens: Tensor, receive: Receive) -> None:
        for layer in self.layers:
            acts = self._by_token[layer][tokens] + self._by_position[layer][: tokens.shape[1]]
            receive(layer, (acts * 8).round() / 8)
