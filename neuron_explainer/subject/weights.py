"""What a unit's own weights read from the residual stream and write to it, norms included."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neuron_explainer.errors import SubjectError
from neuron_explainer.subject.model import Subject

NORM_BEHIND_MLP = "post_feedforward_layernorm"
"""Within a layer of Gemma 2 and 3; its scale also depends on the other neurons."""
_LLAMA = ("post_attention_layernorm", "mlp.gate_proj")
_GEMMA = ("pre_feedforward_layernorm", "mlp.gate_proj")
READS = {
    "gemma": _LLAMA,
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "gpt2": ("ln_2", "mlp.c_fc"),
    "gpt_neo": ("ln_2", "mlp.c_fc"),
    "gpt_neox": ("post_attention_layernorm", "mlp.dense_h_to_4h"),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "opt": ("final_layer_norm", "fc1"),
    "phi": ("input_layernorm", "mlp.fc1"),
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
}
"""`model_type` -> the norm before the MLP and the projection into its neurons, within a layer.

Of a gated MLP it is the gate: what decides whether the neuron is active.
"""


def output_weights(subject: Subject, layer: int, neurons: Sequence[int] | None = None) -> Tensor:
    """(neuron, d_model) float32: what each neuron adds to the residual stream; None: all of them.

    Times the gain of the norm behind the MLP, where there is one.
    """
    written = _by_neuron(subject.site_module(layer), neurons, is_output=True)
    behind = getattr(subject.layer_module(layer), NORM_BEHIND_MLP, None)
    return written if behind is None else written * norm_gain(behind, written.shape[1])


def input_weights(subject: Subject, layer: int, neurons: Sequence[int] | None = None) -> Tensor:
    """(neuron, d_model) float32: what each neuron reads, times the gain of the norm before.

    SubjectError for an architecture whose input projection is not known.
    """
    config = subject.model.config
    if config.model_type not in READS:
        raise SubjectError(
            f"what neurons read is not known for models of type {config.model_type!r} (known: "
            f"{', '.join(sorted(READS))})"
        )
    if not getattr(config, "do_layer_norm_before", True):
        raise SubjectError(f"{subject.name} has its norms behind its layers, not before")
    norm_path, path = READS[config.model_type]
    block = subject.layer_module(layer)
    read = _by_neuron(block.get_submodule(path), neurons, is_output=False)
    return read * norm_gain(block.get_submodule(norm_path), read.shape[1])


def norm_gain(norm: nn.Module, d_model: int) -> Tensor:
    """(d_model,) float32, measured: some norms keep the gain as it is, Gemma's as gain - 1.

    The input 1, -1, 1, … has mean 0 and variance 1 (d_model is even), so that a LayerNorm and an
    RMSNorm both leave it as it is before the gain; the difference to its negative has no bias.
    """
    parameter = next(norm.parameters(), None)
    if parameter is None:
        return torch.ones(d_model)
    signs = torch.ones(d_model, dtype=parameter.dtype, device=parameter.device)
    signs[1::2] = -1
    difference: Tensor = norm(signs) - norm(-signs)
    return difference.float() / 2 * signs.float()


def _by_neuron(projection: nn.Module, neurons: Sequence[int] | None, *, is_output: bool) -> Tensor:
    """(neuron, d_model) float32. A Linear keeps its weight as (out, in), a Conv1D as (in, out)."""
    weight = projection.weight
    assert isinstance(weight, nn.Parameter)
    by_neuron = weight.T if isinstance(projection, nn.Linear) is is_output else weight
    chosen = by_neuron if neurons is None else by_neuron[list(neurons)]
    return chosen.float()
