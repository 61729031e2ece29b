"""Loading the model that is explained: the bundled one, a hub id, or a local folder."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN, NewGELUActivation

from neuron_explainer.errors import SubjectError, UsageError
from neuron_explainer.subject.hub import require_here
from neuron_explainer.subject.pretrained import (
    load_tokenizer,
    load_weights,
    loading,
    make_without_weights,
    read_config,
    resolve_placement,
)
from neuron_explainer.subject.sites import (
    down_projection,
    find_down_projection,
    layer_path,
    n_inputs,
)
from neuron_explainer.subject.tokens import SubjectTokenizer

BUNDLED = "bundled"
BUNDLED_FOLDER = Path(__file__).parent / "bundled"
PROBE = "The quick brown fox, 42."
_ACTIVATION_FIELDS = ("activation_function", "hidden_act", "hidden_activation")
_NOT_CONTENT = {"_name_or_path", "transformers_version", "architectures", "dtype"}


@dataclass(frozen=True, slots=True)
class Subject:
    """A loaded model, its tokenizer, and what is known of its shape."""

    name: str
    model: PreTrainedModel
    tokenizer: SubjectTokenizer
    down_projection: str
    """Path, below the base model, of the module whose input is a layer's neurons."""

    @property
    def n_layers(self) -> int:
        n_layers: int = self.model.config.num_hidden_layers
        return n_layers

    @property
    def d_mlp(self) -> int:
        return n_inputs(self.site_module(0))

    @property
    def n_ctx(self) -> int:
        n_ctx: int = self.model.config.max_position_embeddings
        return n_ctx

    def site_module(self, layer: int) -> nn.Module:
        """The module whose input is the neurons of `layer`."""
        return down_projection(self.model, self.down_projection, layer)

    def layer_module(self, layer: int) -> nn.Module:
        """The module whose input is the residual stream that enters `layer`."""
        return down_projection(self.model, layer_path(self.down_projection), layer)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> str:
        return str(self.model.dtype).removeprefix("torch.")

    def content_hash(self) -> str:
        """Hex digest of all that decides an activation: configuration, tokenizer, parameters."""
        config = self.model.config.to_dict()
        plain = {key: value for key, value in config.items() if key not in _NOT_CONTENT}
        digest = hashlib.blake2b(digest_size=16)
        digest.update(json.dumps(plain, sort_keys=True, default=str).encode())
        digest.update(self.tokenizer.serialized().encode())
        for name, tensor in sorted(self.model.base_model.state_dict().items()):
            digest.update(name.encode())
            digest.update(_bytes_of(tensor))
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class SubjectShape:
    """What the configuration of a model tells of a subject."""

    name: str
    n_layers: int
    d_mlp: int


def read_shape(name: str = BUNDLED, *, site_module: str | None = None) -> SubjectShape:
    """The same model and errors as of `load_subject`, without its weights and its tokenizer."""
    location = _locate(name)
    config = read_config(location)
    with loading(location):
        path = find_down_projection(config, site_module)
        model = make_without_weights(config)
        d_mlp = n_inputs(down_projection(model, path, layer=0))
    return SubjectShape(name, config.num_hidden_layers, d_mlp)


def load_subject(
    name: str = BUNDLED,
    *,
    dtype: str = "auto",
    device: str = "auto",
    site_module: str | None = None,
    activation_function: str | None = None,
    chat_template: bool = False,
    most_bytes: float = math.inf,
    only_here: bool = False,
) -> Subject:
    """`bundled`, a hub id or a local folder -> a model ready to be read.

    `dtype`, `device`, `most_bytes`: see `load_pretrained`. `site_module`: see
    `find_down_projection`. `activation_function` replaces the MLP's, such as `quick_gelu`,
    x·sigmoid(1.702x), with which the published GPT-2 activations were made (Bills et al. 2023,
    README of 2023-08-30). `chat_template`: see `SubjectTokenizer`.
    SubjectError for an architecture whose neurons are not known, before its weights are fetched,
    and with `only_here` for a model that is not on this machine: then no hub is asked.
    """
    location = _locate(name)
    if only_here:
        require_here(location)
    placement = resolve_placement(dtype, device)
    config = read_config(location, only_here=only_here)
    with loading(location):
        find_down_projection(config, site_module)  # before the weights are fetched
        if activation_function is not None:
            _set_activation_function(config, activation_function)
        plain_tokenizer = load_tokenizer(location, only_here=only_here)
        tokenizer = SubjectTokenizer(plain_tokenizer, chat_template=chat_template)
    model = load_weights(location, config, placement, most_bytes=most_bytes, only_here=only_here)
    _fuse_gelu(model)
    return make_subject(name, model, tokenizer, site_module)


def make_subject(
    name: str,
    model: PreTrainedModel,
    tokenizer: SubjectTokenizer,
    site_module: str | None = None,
) -> Subject:
    """A subject from a model already in memory; it is put in evaluation mode."""
    path = find_down_projection(model.config, site_module)
    down_projection(model, path, layer=0)
    n_embeddings: int = model.config.vocab_size
    if tokenizer.n_tokens > n_embeddings:
        raise SubjectError(
            f"{name}: the tokenizer has {tokenizer.n_tokens} tokens, the model knows {n_embeddings}"
        )
    if len(np.unique(tokenizer.encode_bare([PROBE])[0])) < 2:
        raise SubjectError(f"{name}: its tokenizer knows no words; is tokenizer.json missing?")
    model.train(False)
    return Subject(name, model, tokenizer, path)


def _locate(name: str) -> str:
    """A hub id or a folder."""
    return str(BUNDLED_FOLDER) if name == BUNDLED else name


def _fuse_gelu(model: PreTrainedModel) -> None:
    """GPT-2's GELU in one kernel in place of eight: the same function, in a fraction of the time.

    0.5x(1 + tanh(√(2/π)(x + 0.044715x³))), Hendrycks and Gimpel 2016.
    """
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))


def _set_activation_function(config: PretrainedConfig, name: str) -> None:
    """Under whatever name the architecture has for it; UsageError for one that is not known."""
    if name not in ACT2FN:
        raise UsageError(f"unknown --activation-function {name!r}; one of {', '.join(ACT2FN)}")
    fields = [field for field in _ACTIVATION_FIELDS if hasattr(config, field)]
    if not fields:
        raise UsageError(f"{config.model_type} models do not name their activation function")
    for field in fields:
        setattr(config, field, name)


def _bytes_of(tensor: Tensor) -> bytes:
    flat = tensor.detach().contiguous().cpu().view(-1)
    return flat.view(torch.uint8).numpy().tobytes()
