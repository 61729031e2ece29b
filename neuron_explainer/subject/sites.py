"""Where in a model a unit is read, for each architecture that is known."""

from __future__ import annotations

from enum import StrEnum

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from neuron_explainer.errors import SubjectError, UsageError

DOWN_PROJECTIONS = {
    "gemma": "layers.{layer}.mlp.down_proj",
    "gemma2": "layers.{layer}.mlp.down_proj",
    "gemma3_text": "layers.{layer}.mlp.down_proj",
    "gpt2": "h.{layer}.mlp.c_proj",
    "gpt_neo": "h.{layer}.mlp.c_proj",
    "gpt_neox": "layers.{layer}.mlp.dense_4h_to_h",
    "llama": "layers.{layer}.mlp.down_proj",
    "mistral": "layers.{layer}.mlp.down_proj",
    "opt": "decoder.layers.{layer}.fc2",
    "phi": "layers.{layer}.mlp.fc2",
    "qwen2": "layers.{layer}.mlp.down_proj",
    "qwen3": "layers.{layer}.mlp.down_proj",
}
"""`model_type` -> path, below the base model, of the module whose input is a layer's neurons.

A gated MLP's neuron is act(gate)·up, which is just what its down projection takes in.
"""


class Site(StrEnum):
    MLP_POST_ACT = "mlp_post_act"
    """Input of the MLP's down projection: one unit a neuron."""


def find_down_projection(config: PretrainedConfig, site_module: str | None = None) -> str:
    """Path of a layer's down projection, with `{layer}` for its number.

    `site_module` names it for a model that is not in the table. SubjectError when nothing does,
    and for a mixture of experts, whose neurons see only the tokens that are routed to them.
    """
    n_experts = max(
        getattr(config, name, None) or 0
        for name in ("num_experts", "num_local_experts", "n_routed_experts")
    )
    if n_experts > 1:
        raise SubjectError(
            f"a mixture of {n_experts} experts ({config.model_type}) cannot be read: "
            "a token that is not routed to an expert has no activation there"
        )
    path = site_module or DOWN_PROJECTIONS.get(config.model_type)
    if path is None:
        raise SubjectError(
            f"models of type {config.model_type!r} are not known (known: "
            f"{', '.join(sorted(DOWN_PROJECTIONS))}); name the module whose input is the neurons' "
            "activations with --site-module, such as layers.{layer}.mlp.down_proj"
        )
    return path


def down_projection(model: PreTrainedModel, path: str, layer: int) -> nn.Module:
    """The module at `path` of `layer`; UsageError when the model has no such module."""
    try:
        return model.base_model.get_submodule(path.replace("{layer}", str(layer)))
    except AttributeError as error:
        raise UsageError(
            f"the model has no module {path!r}; below {type(model.base_model).__name__} a path of "
            "--site-module looks like layers.{layer}.mlp.down_proj"
        ) from error


def layer_path(down_projection_path: str) -> str:
    """`layers.{layer}.mlp.down_proj` -> `layers.{layer}`: the module that holds a whole layer."""
    before, _, _ = down_projection_path.partition("{layer}")
    return before + "{layer}"


def n_inputs(module: nn.Module) -> int:
    """How many values a projection takes in: GPT-2's Conv1D keeps its weight as (in, out)."""
    weight = module.weight
    assert isinstance(weight, nn.Parameter)
    return weight.shape[1] if isinstance(module, nn.Linear) else weight.shape[0]
