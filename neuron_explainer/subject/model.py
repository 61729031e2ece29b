"""Loading the model that is explained: the bundled one, a hub id, or a local folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from neuron_explainer.errors import SubjectError, UsageError
from neuron_explainer.subject.sites import Architecture, find_architecture
from neuron_explainer.subject.tokens import SubjectTokenizer

BUNDLED = "bundled"
BUNDLED_FOLDER = Path(__file__).parent / "bundled"
PROBE = "The quick brown fox, 42."
_NOT_CONTENT = {"_name_or_path", "transformers_version", "architectures", "dtype"}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Subject:
    """A loaded model, its tokenizer, and what is known of its shape."""

    name: str
    model: PreTrainedModel
    tokenizer: SubjectTokenizer
    architecture: Architecture

    @property
    def n_layers(self) -> int:
        return self.architecture.n_layers(self.model.config)

    @property
    def d_mlp(self) -> int:
        return self.architecture.d_mlp(self.model.config)

    @property
    def n_ctx(self) -> int:
        return self.architecture.n_ctx(self.model.config)

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


def load_subject(name: str = BUNDLED, *, dtype: str = "auto", device: str = "auto") -> Subject:
    """`bundled`, a hub id or a local folder -> a model ready to be read.

    Weights come from safetensors files alone; neither pickles nor code from the model's folder
    are run. `dtype` auto: float32 on a CPU, bfloat16 elsewhere. `device` auto: an accelerator
    where there is one.
    """
    torch_device = _resolve_device(device)
    torch_dtype = _resolve_dtype(dtype, torch_device)
    location = str(BUNDLED_FOLDER if name == BUNDLED else Path(name).expanduser())
    if "/" in name and name.startswith((".", "/", "~")) and not Path(name).expanduser().is_dir():
        raise SubjectError(f"no model folder at {name}")
    try:
        config = AutoConfig.from_pretrained(location, trust_remote_code=False)
        find_architecture(config)  # before the weights are fetched
        tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=False)
        with _quiet_loading():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                location,
                dtype=torch_dtype,
                use_safetensors=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # reported, and refused below
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, SafetensorError, StrictDataclassError) as error:
        raise SubjectError(f"cannot load model {name!r}: {_first_line(error)}") from error
    model, report = loaded
    _require_all_weights(name, report)
    nn.Module.to(model, torch_device)
    return make_subject(name, model, SubjectTokenizer(tokenizer))


def make_subject(name: str, model: PreTrainedModel, tokenizer: SubjectTokenizer) -> Subject:
    """A subject from a model already in memory; it is put in evaluation mode."""
    n_embeddings: int = model.config.vocab_size
    if tokenizer.n_tokens > n_embeddings:
        raise SubjectError(
            f"{name}: the tokenizer has {tokenizer.n_tokens} tokens, the model knows {n_embeddings}"
        )
    if len(set(tokenizer.encode([PROBE])[0])) < 2:
        raise SubjectError(f"{name}: its tokenizer knows no words; is tokenizer.json missing?")
    model.train(False)
    return Subject(name, model, tokenizer, find_architecture(model.config))


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


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _bytes_of(tensor: Tensor) -> bytes:
    flat = tensor.detach().contiguous().cpu().view(-1)
    return flat.view(torch.uint8).numpy().tobytes()
