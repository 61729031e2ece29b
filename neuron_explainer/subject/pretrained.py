"""Loading a model and its tokenizer, from the hub or a local folder: whole, or not at all."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from neuron_explainer.errors import NeuronExplainerError, SubjectError, UsageError
from neuron_explainer.subject.hub import is_here_alone

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A causal language model in evaluation mode, and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


class Placement(NamedTuple):
    """Where a model is to be, and in what numbers."""

    device: torch.device
    dtype: torch.dtype


def load_pretrained(
    name: str, *, dtype: str = "auto", device: str = "auto", most_bytes: float = math.inf
) -> Pretrained:
    """A hub id or a local folder -> a model and its tokenizer.

    Weights come from safetensors files alone; neither pickles nor code from the model's folder
    are run. `dtype` auto: float32 on a CPU, bfloat16 elsewhere. `device` auto: an accelerator
    where there is one. SubjectError for what cannot be loaded whole, and for a model that takes
    more than `most_bytes`, before its weights are fetched.
    """
    placement = resolve_placement(dtype, device)
    config = read_config(name)
    tokenizer = load_tokenizer(name)
    return Pretrained(load_weights(name, config, placement, most_bytes=most_bytes), tokenizer)


def resolve_placement(dtype: str, device: str) -> Placement:
    """UsageError for a dtype that is not known, or a device that is not on this machine."""
    torch_device = _resolve_device(device)
    return Placement(torch_device, _resolve_dtype(dtype, torch_device))


def read_config(name: str, *, only_here: bool = False) -> PretrainedConfig:
    """only_here: no hub is asked, whether it could be reached or not."""
    with loading(name):
        config: PretrainedConfig = AutoConfig.from_pretrained(
            _expanded(name),
            trust_remote_code=False,
            local_files_only=only_here or is_here_alone(name),
        )
    return config


def load_tokenizer(name: str, *, only_here: bool = False) -> PreTrainedTokenizerBase:
    """only_here: see `read_config`."""
    with loading(name):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            _expanded(name),
            trust_remote_code=False,
            local_files_only=only_here or is_here_alone(name),
        )
    return tokenizer


def load_weights(
    name: str,
    config: PretrainedConfig,
    placement: Placement,
    *,
    most_bytes: float = math.inf,
    only_here: bool = False,
) -> PreTrainedModel:
    """The model of `config`, in evaluation mode; SubjectError unless every weight is there.

    only_here: see `read_config`.
    """
    with loading(name):
        _require_room(name, config, placement.dtype, most_bytes)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            _expanded(name),
            config=config,
            dtype=placement.dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=only_here or is_here_alone(name),
            ignore_mismatched_sizes=True,  # reported, and refused below
            output_loading_info=True,
        )
    model: PreTrainedModel = loaded[0]
    report: Mapping[str, Any] = loaded[1]
    require_all_weights(name, report)
    unused = sorted(report["unexpected_keys"])
    if unused:
        logger.warning("%s: %d weights are not used, such as %s", name, len(unused), unused[0])
    nn.Module.to(model, placement.device)
    model.train(False)
    return model


def make_without_weights(
    config: PretrainedConfig, dtype: torch.dtype = torch.float32
) -> PreTrainedModel:
    """The modules and their shapes; no parameter takes room."""
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model


@contextmanager
def loading(name: str, kind: str = "a causal language model") -> Iterator[None]:
    """SubjectError for whatever the files of a model make transformers and tokenizers raise.

    kind: what the files should be of.
    """
    is_path = "/" in name and name.startswith((".", "/", "~"))
    if is_path and not Path(name).expanduser().is_dir():
        raise SubjectError(f"no model folder at {name}")
    try:
        with _quiet():
            yield
    except NeuronExplainerError:
        raise
    except Exception as error:  # an unknown tokenizer raises no more than Exception itself
        raise SubjectError(
            f"cannot load model {name!r}: {_reason(error)}; give a hub id, or a folder "
            f"with config.json, tokenizer.json and safetensors of {kind}"
        ) from error


def _require_room(
    name: str, config: PretrainedConfig, dtype: torch.dtype, most_bytes: float
) -> None:
    """SubjectError when the parameters take more: the system would end the run without a word."""
    model = make_without_weights(config, dtype)
    n_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    if n_bytes > most_bytes:
        raise SubjectError(
            f"{name} takes {n_bytes / 1e9:.1f} GB in {str(dtype).removeprefix('torch.')} and "
            f"{most_bytes / 1e9:.1f} GB are there; try --dtype bfloat16, or a smaller model"
        )


def require_all_weights(name: str, report: Mapping[str, Any]) -> None:
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
def _quiet() -> Iterator[None]:
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


def _expanded(name: str) -> str:
    return str(Path(name).expanduser())
