"""Loading the model that is explained: the bundled one, a hub id, or a local folder."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.activations import ACT2FN
from transformers.utils import logging as transformers_logging

from neuron_explainer.errors import NeuronExplainerError, SubjectError, UsageError
from neuron_explainer.subject.sites import (
    down_projection,
    find_down_projection,
    layer_path,
    n_inputs,
)
from neuron_explainer.subject.tokens import SubjectTokenizer

logger = logging.getLogger(__name__)

BUNDLED = "bundled"
BUNDLED_FOLDER = Path(__file__).parent / "bundled"
PROBE = "The quick brown fox, 42."
_ACTIVATION_FIELDS = ("activation_function", "hidden_act", "hidden_activation")
_NOT_CONTENT = {"_name_or_path", "transformers_version", "architectures", "dtype"}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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


def load_subject(
    name: str = BUNDLED,
    *,
    dtype: str = "auto",
    device: str = "auto",
    site_module: str | None = None,
    activation_function: str | None = None,
    chat_template: bool = False,
    most_bytes: float = math.inf,
) -> Subject:
    """`bundled`, a hub id or a local folder -> a model ready to be read.

    Weights come from safetensors files alone; neither pickles nor code from the model's folder
    are run. `dtype` auto: float32 on a CPU, bfloat16 elsewhere. `device` auto: an accelerator
    where there is one. `site_module`: see `find_down_projection`. `activation_function` replaces
    the MLP's, such as `quick_gelu`, x·sigmoid(1.702x), with which the published GPT-2 activations
    were made (Bills et al. 2023, README of 2023-08-30). `chat_template`: see `SubjectTokenizer`.
    SubjectError for a model that takes more than `most_bytes`, before its weights are fetched.
    """
    torch_device = _resolve_device(device)
    torch_dtype = _resolve_dtype(dtype, torch_device)
    location = str(BUNDLED_FOLDER if name == BUNDLED else Path(name).expanduser())
    if "/" in name and name.startswith((".", "/", "~")) and not Path(name).expanduser().is_dir():
        raise SubjectError(f"no model folder at {name}")
    with _loading(name):
        config = AutoConfig.from_pretrained(location, trust_remote_code=False)
        find_down_projection(config, site_module)  # before the weights are fetched
        if activation_function is not None:
            _set_activation_function(config, activation_function)
        _require_room(name, config, torch_dtype, most_bytes)
        tokenizer = SubjectTokenizer(
            AutoTokenizer.from_pretrained(location, trust_remote_code=False),
            chat_template=chat_template,
        )
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            location,
            config=config,
            dtype=torch_dtype,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # reported, and refused below
            output_loading_info=True,
        )
    model, report = loaded
    _require_all_weights(name, report)
    unused = sorted(report["unexpected_keys"])
    if unused:
        logger.warning("%s: %d weights are not used, such as %s", name, len(unused), unused[0])
    nn.Module.to(model, torch_device)
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


def _set_activation_function(config: PretrainedConfig, name: str) -> None:
    """Under whatever name the architecture has for it; UsageError for one that is not known."""
    if name not in ACT2FN:
        raise UsageError(f"unknown --activation-function {name!r}; one of {', '.join(ACT2FN)}")
    fields = [field for field in _ACTIVATION_FIELDS if hasattr(config, field)]
    if not fields:
        raise UsageError(f"{config.model_type} models do not name their activation function")
    for field in fields:
        setattr(config, field, name)


def _require_room(
    name: str, config: PretrainedConfig, dtype: torch.dtype, most_bytes: float
) -> None:
    """SubjectError when the parameters take more: the system would end the run without a word."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    n_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    if n_bytes > most_bytes:
        raise SubjectError(
            f"{name} takes {n_bytes / 1e9:.1f} GB in {str(dtype).removeprefix('torch.')} and "
            f"{most_bytes / 1e9:.1f} GB are there; try --dtype bfloat16, or a smaller model"
        )


def _require_all_weights(name: str, report: Mapping[str, Any]) -> None:
    """SubjectError when a weight is missing or misshapen: the loader then draws it at random."""
    for key, found, expected in sorted(report["mismatched_keys"]):
        raise SubjectError(
            f"cannot load model {name!r}: {key} has shape {tuple(found)}, "
            f"its configuration says {tuple(expected)}"
        )
    missing = sorted(report["missing_keys"])
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise SubjectError(f"cannot load model {name!r}: no weights for {missing[0]}{more}")


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """SubjectError for whatever the files of a model make transformers and tokenizers raise."""
    try:
        with _quiet_loading():
            yield
    except NeuronExplainerError:
        raise
    except Exception as error:  # an unknown tokenizer raises no more than Exception itself
        raise SubjectError(
            f"cannot load model {name!r}: {_reason(error)}; give a hub id, or a folder "
            "with config.json, tokenizer.json and safetensors of a causal language model"
        ) from error


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """No bar for the milliseconds that it takes to load weights, and no table of what is wrong."""
    was_enabled = transformers_logging.is_progress_bar_enabled()
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if was_enabled:
            transformers_logging.enable_progress_bar()


def _resolve_device(device: str) -> torch.device:
    if device == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator if accelerator is not None else torch.device("cpu")
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:  # unknown, or not on this machine
        reason = _first_line(error)
        raise UsageError(f"cannot use device {device!r} ({reason}); try cpu or cuda") from error
    return torch.device(device)


def _resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if dtype not in DTYPES:
        raise UsageError(f"unknown dtype {dtype!r}; one of auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]


def _reason(error: Exception) -> str:
    """One line; with what a heading is of, and the kind of error where its text is a mere name."""
    head, *rest = [line.strip() for line in str(error).strip().splitlines()] or [""]
    text = f"{head} {rest[0]}" if head.endswith(":") and rest else head
    return text.rstrip(".") if " " in text else f"{type(error).__name__} {text}".rstrip()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _bytes_of(tensor: Tensor) -> bytes:
    flat = tensor.detach().contiguous().cpu().view(-1)
    return flat.view(torch.uint8).numpy().tobytes()
