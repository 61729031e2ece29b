"""Where in a model a unit is read, for each architecture that is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from neuron_explainer.errors import SubjectError


class Site(StrEnum):
    MLP_POST_ACT = "mlp_post_act"
    """Input of the MLP's down projection: one unit a neuron."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """What must be known of a model family to read its MLP neurons."""

    down_projection: str
    """Path, below the base model, of the module whose input is a layer's neurons."""
    n_layers: Callable[[PretrainedConfig], int]
    d_mlp: Callable[[PretrainedConfig], int]
    n_ctx: Callable[[PretrainedConfig], int]


ARCHITECTURES: dict[str, Architecture] = {
    "gpt2": Architecture(
        down_projection="h.{layer}.mlp.c_proj",
        n_layers=lambda config: config.n_layer,
        d_mlp=lambda config: config.n_inner or 4 * config.n_embd,
        n_ctx=lambda config: config.n_positions,
    ),
}


def down_projection(model: PreTrainedModel, layer: int) -> nn.Module:
    """The module of `layer` whose input is that layer's MLP neurons."""
    path = find_architecture(model.config).down_projection
    return model.base_model.get_submodule(path.format(layer=layer))


def find_architecture(config: PretrainedConfig) -> Architecture:
    """The entry for a model's `model_type`; SubjectError when there is none."""
    try:
        return ARCHITECTURES[config.model_type]
    except KeyError:
        known = ", ".join(sorted(ARCHITECTURES))
        raise SubjectError(
            f"models of type {config.model_type!r} cannot be read yet; known types: {known}"
        ) from None
