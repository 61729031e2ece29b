"""The tokens whose logits a unit raises and lowers most, by its weights alone.

Bills et al. 2023, "token out": W_U · diag(g) · W_out[:, n], with g the gain of the final norm. It
leaves out what the norm divides by, and everything that later layers make of the unit's output.

1. The unit's column of the down projection.
2. Times the gain of the norm behind the MLP, where there is one (Gemma 2 and 3).
3. Times the gain of the final norm; through the projection before the unembedding, if any (OPT).
4. The k largest and the k smallest entries of its product with the unembedding.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from neuron_explainer.errors import SubjectError
from neuron_explainer.subject.model import Subject
from neuron_explainer.subject.weights import norm_gain, output_weights

FINAL_NORMS = ("ln_f", "norm", "final_layer_norm", "final_layernorm", "decoder.final_layer_norm")
"""Paths of the norm before the unembedding, below the base model."""
OUTPUT_PROJECTION = "decoder.project_out"
"""OPT's, where the embeddings are narrower than the residual stream."""
TILE = 64
"""Units that are computed together when one is asked for."""
N_TILES_KEPT = 8


class OutputTokens(NamedTuple):
    """Display strings, the most affected first."""

    promoted: tuple[str, ...]
    suppressed: tuple[str, ...]
    raised_by: tuple[float, ...] = ()
    """How much the logit of each promoted token, as `logit_effects` has it; empty: not said."""
    lowered_by: tuple[float, ...] = ()
    """The same of the suppressed ones, below 0."""


class OutputTokenReader:
    """Reads one unit at a time; its neighbours are computed with it, as they are asked for next."""

    def __init__(self, subject: Subject, k: int = 10) -> None:
        self._subject = subject
        self._k = k
        self._tiles: OrderedDict[tuple[int, int], list[OutputTokens]] = OrderedDict()

    def read(self, layer: int, neuron: int) -> OutputTokens:
        key = (layer, neuron // TILE)
        if key not in self._tiles:
            first = key[1] * TILE
            neurons = range(first, min(first + TILE, self._subject.d_mlp))
            self._tiles[key] = output_tokens(self._subject, layer, neurons, self._k)
            if len(self._tiles) > N_TILES_KEPT:
                self._tiles.popitem(last=False)
        return self._tiles[key][neuron % TILE]


def output_tokens(
    subject: Subject, layer: int, neurons: Sequence[int], k: int = 10
) -> list[OutputTokens]:
    """The k tokens whose logits each neuron of a layer raises most, and the k it lowers most."""
    logits = logit_effects(subject, layer, neurons)  # (neuron, token)
    k = min(k, logits.shape[1])
    most, least = logits.topk(k, dim=1), logits.topk(k, dim=1, largest=False)  # (neuron, k)
    display = subject.tokenizer.display
    rows = zip(
        most.indices.tolist(), least.indices.tolist(), most.values.tolist(), least.values.tolist(),
        strict=True,
    )  # fmt: skip
    return [
        OutputTokens(
            tuple(display[t] for t in up),
            tuple(display[t] for t in down),
            tuple(by),
            tuple(down_by),
        )
        for up, down, by, down_by in rows
    ]


@torch.inference_mode()
def logit_effects(subject: Subject, layer: int, neurons: Sequence[int]) -> Tensor:
    """(neuron, token) float32: logit per unit of activation, times the norm's divisor."""
    written = output_weights(subject, layer, neurons)  # (neuron, d_model)
    base = subject.model.base_model
    norm = next(filter(None, (_submodule(base, path) for path in FINAL_NORMS)), None)
    if norm is not None:
        written = written * norm_gain(norm, written.shape[1])
    projection = _submodule(base, OUTPUT_PROJECTION)
    if projection is not None:
        written = projection(written.to(subject.model.dtype)).float()
    unembedding = subject.model.get_output_embeddings()
    if unembedding is None:
        raise SubjectError(f"{subject.name} has no unembedding, so its units promote no tokens")
    weight: Tensor = unembedding.weight
    known = weight[: subject.tokenizer.n_tokens].float()  # (token, d_model); the rest is padding
    return written @ known.T


def _submodule(module: nn.Module, path: str) -> nn.Module | None:
    """None where there is none, or where the architecture leaves it out."""
    found: object = module
    for name in path.split("."):
        found = getattr(found, name, None)
    return found if isinstance(found, nn.Module) else None
