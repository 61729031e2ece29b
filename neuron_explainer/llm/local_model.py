"""A model of transformers as local clients ask it: keys and values kept, few logits computed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache

from neuron_explainer.errors import LLMError, UsageError
from neuron_explainer.llm.shared_prefix import (
    NO_TOKENS,
    KeyValues,
    KeyValueStore,
    key_values_of,
)
from neuron_explainer.llm.token_tree import TokenTree

logger = logging.getLogger(__name__)

CPU_READ_AT_ONCE, ACCELERATOR_READ_AT_ONCE = 128, 1024
"""Tokens of a prompt a forward pass: more would cost memory and gain little time."""
MAX_KEPT_BYTES = 1 << 30
_LAYER_TYPES = {"full_attention", "sliding_attention"}
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 6e-2}
_N_PROBE = 6
_N_SPEED_PROMPT, _N_SPEED_ANSWER = 128, 8


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens a second, one request at a time."""

    read: float
    """Of a prompt."""
    write: float
    """Of an answer."""


class LocalModel:
    """A causal language model, in memory. Not to be used from two threads at once: use `executor`.

    The methods raise LLMError when torch fails, as when memory is short.
    """

    def __init__(self, model: PreTrainedModel, *, max_kept_bytes: int = MAX_KEPT_BYTES) -> None:
        """`max_kept_bytes`: for the keys and values of prompt beginnings.

        UsageError for an architecture that does not work by attention to all that precedes.
        """
        self.model = model.eval()
        self.kept = KeyValueStore(max_kept_bytes)
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="local-model")
        self._config = model.config.get_text_config()
        _require_attention(self._config)
        self._windows = _attention_windows(self._config)
        self._rows_suffice: bool | None = None

    @property
    def n_ctx(self) -> int:
        """Tokens that fit into a prompt and its answer."""
        n_ctx: int = self._config.max_position_embeddings
        return n_ctx

    @property
    def n_embeddings(self) -> int:
        """One more than the largest token id."""
        n_embeddings: int = self.model.get_input_embeddings().weight.shape[0]
        return n_embeddings

    def close(self) -> None:
        """Ends the thread, after what it is at."""
        self.executor.shutdown()

    def read(self, ids: tuple[int, ...]) -> KeyValues:
        """Keys and values of all ids; those of the first ones may be there already."""
        known = self.kept.longest(ids)
        if len(known.ids) == len(ids):
            return known
        cache = known.growing(len(ids))
        with torch_failures(), torch.inference_mode():
            self._extend(ids[len(known.ids) :], cache)
        read = key_values_of(ids, cache)
        self.kept.put(read)
        return read

    def require_trees(self) -> None:
        """UsageError for an architecture that cannot read a tree of tokens.

        Found out by reading some tokens both ways, once; and whether the logits of single tokens
        are had from those rows of the output matrix, which is much less to compute.
        """
        if self._rows_suffice is None:
            self._rows_suffice = self._probe()
            self.kept.clear()
            if not self._rows_suffice:
                logger.info(
                    "%s does more to its logits than a matrix; its own head is used",
                    self._config.model_type,
                )

    @property
    def uses_output_rows(self) -> bool:
        """Of the output matrix, for the logits of single tokens."""
        return bool(self._rows_suffice)

    def tree_logits(
        self, prefix: tuple[int, ...], tree: TokenTree, nodes: Sequence[int], rows: Sequence[int]
    ) -> Tensor:
        """(node, row): logits of the tokens `rows` after each of `nodes`, float32.

        The tree's root is the last token of `prefix`.
        """
        before = self.read(prefix[:-1])
        with torch_failures(), torch.inference_mode():
            arguments = self._tree_arguments(before, tree)
            if self._rows_suffice:
                hidden = self.model.base_model(**arguments).last_hidden_state[0]  # (node, d_model)
                logits = self._row_logits(hidden[_index(nodes, hidden)], _index(rows, hidden))
            else:
                logits = self._head_logits(arguments, nodes)[:, list(rows)]
        if not logits.isfinite().all():
            raise self._no_numbers()
        return logits.float().cpu()

    def next_logits(self, ids: Sequence[int], cache: Cache) -> Tensor:
        """(vocabulary,) float32, after `ids`, which the cache then holds."""
        with torch_failures(), torch.inference_mode():
            self._extend(ids[:-1], cache)
            last = torch.tensor([ids[-1:]], device=self.model.device)
            output = self.model(input_ids=last, past_key_values=cache, use_cache=True)
        logits: Tensor = output.logits[0, -1].float().cpu()
        if logits.isnan().any():
            raise self._no_numbers()
        return logits

    def measure_speed(self) -> Speed:
        """From a short probe, after a warm-up; for an estimate of how long work will take."""
        ids = _spread_ids(self.n_embeddings, min(_N_SPEED_PROMPT, self.n_ctx - _N_SPEED_ANSWER))
        n_tokens = len(ids) + _N_SPEED_ANSWER
        self.next_logits(ids, NO_TOKENS.growing(n_tokens))
        cache = NO_TOKENS.growing(n_tokens)
        started = time.perf_counter()
        self.next_logits(ids, cache)
        read_at = time.perf_counter()
        for token in ids[:_N_SPEED_ANSWER]:
            self.next_logits([token], cache)
        ended = time.perf_counter()
        return Speed(len(ids) / (read_at - started), _N_SPEED_ANSWER / (ended - read_at))

    def _extend(self, ids: Sequence[int], cache: Cache) -> None:
        device = self.model.device
        n_at_once = CPU_READ_AT_ONCE if device.type == "cpu" else ACCELERATOR_READ_AT_ONCE
        for first in range(0, len(ids), n_at_once):
            tokens = torch.tensor([ids[first : first + n_at_once]], device=device)
            self.model.base_model(input_ids=tokens, past_key_values=cache, use_cache=True)

    def _tree_arguments(self, before: KeyValues, tree: TokenTree) -> dict[str, Any]:
        device, n_before = self.model.device, len(before.ids)
        depths = np.array(tree.depths)
        sees = np.ones((len(tree), n_before + len(tree)), dtype=np.bool_)
        sees[:, n_before:] = tree.sees()
        positions = np.concatenate([np.arange(n_before), n_before + depths])
        distances = n_before + depths[:, None] - positions  # (node, token)
        masks = {
            name: self._additive(sees if window is None else sees & (distances < window))
            for name, window in self._windows.items()
        }
        return {
            "input_ids": torch.tensor([tree.ids], device=device),
            "position_ids": torch.tensor(n_before + depths, device=device)[None],
            "attention_mask": masks.get("", masks),
            "past_key_values": before.fixed(),
            "use_cache": True,
        }

    def _additive(self, sees: np.ndarray[Any, np.dtype[np.bool_]]) -> Tensor:
        """(1, 1, query, key): 0 where seen, the least number elsewhere; every kernel takes that."""
        mask = torch.zeros(sees.shape, dtype=self.model.dtype)
        mask.masked_fill_(torch.from_numpy(~sees), torch.finfo(mask.dtype).min)
        return mask.to(self.model.device)[None, None]

    def _row_logits(self, hidden: Tensor, rows: Tensor) -> Tensor:
        """hidden: (node, d_model) -> (node, row)."""
        head = self.model.get_output_embeddings()
        bias = getattr(head, "bias", None)
        logits = torch.nn.functional.linear(
            hidden, head.weight[rows], None if bias is None else bias[rows]
        ).float()
        logits = logits * getattr(self._config, "logit_scale", 1.0)  # Cohere
        logits = logits / getattr(self._config, "logits_scaling", 1.0)  # Granite
        cap = getattr(self._config, "final_logit_softcapping", None)  # Gemma 2
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def _head_logits(self, arguments: dict[str, Any], nodes: Sequence[int]) -> Tensor:
        """(node, vocabulary), by the model's own head."""
        keep = torch.tensor(list(nodes), device=self.model.device)
        logits: Tensor = self.model(**arguments, logits_to_keep=keep).logits[0]
        return logits

    def _probe(self) -> bool:
        """Reads a few tokens as a tree and plainly; whether rows of the output matrix suffice."""
        if "local" in getattr(self._config, "attention_layers", ()):
            raise self._unfit()  # GPT-Neo: its window counts rows, not positions
        ids = _spread_ids(self.n_embeddings, _N_PROBE + 5)
        prefix, own, other = ids[:_N_PROBE], ids[_N_PROBE:], (ids[0], *ids[_N_PROBE + 1 :])
        tree = TokenTree(prefix[-1])
        tree.add(other)
        nodes = tree.add(own)
        with torch.inference_mode():
            plain = self.model(input_ids=torch.tensor([ids], device=self.model.device)).logits[0]
            plain = plain[_N_PROBE - 1 :].float()  # (node, vocabulary)
            try:
                arguments = self._tree_arguments(self.read(prefix[:-1]), tree)
                whole = self._head_logits(arguments, nodes).float()
            except (
                LLMError,
                RuntimeError,
                TypeError,
                ValueError,
                LookupError,
                AttributeError,
            ) as error:
                raise self._unfit() from error
            if whole.shape != plain.shape or not self._agree(whole, plain):
                raise self._unfit()
            hidden = self.model.base_model(**arguments).last_hidden_state[0]
            if hidden.shape[-1] != self.model.get_output_embeddings().weight.shape[-1]:
                return False
            rows = _index(ids, hidden)
            by_rows = self._row_logits(hidden[_index(nodes, hidden)], rows)
            return self._agree(by_rows, plain[:, rows])

    def _agree(self, found: Tensor, expected: Tensor) -> bool:
        error = (found.float() - expected).abs().max().item()
        spread = (expected.max() - expected.min()).item()
        return error <= _TOLERANCE.get(self.model.dtype, 1e-3) * spread

    def _no_numbers(self) -> LLMError:
        dtype = str(self.model.dtype).removeprefix("torch.")
        return LLMError(f"the model's logits in {dtype} are no numbers; try another --dtype")

    def _unfit(self) -> UsageError:
        return UsageError(
            f"models of type {self._config.model_type!r} cannot be read as a tree of tokens here; "
            "take another simulator model, or serve this one with an OpenAI-compatible server"
        )


@contextmanager
def torch_failures() -> Iterator[None]:
    """LLMError for what torch cannot do, such as to get more memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise LLMError(f"the local model failed: {reason}") from error


def _require_attention(config: PretrainedConfig) -> None:
    kind = config.model_type
    other = set(getattr(config, "layer_types", None) or ()) - _LAYER_TYPES
    if other:
        raise UsageError(f"models with layers of {min(other)} ({kind!r}) cannot be asked here")
    if not hasattr(config, "max_position_embeddings"):
        raise UsageError(
            f"the configuration of {kind!r} models does not say how many tokens they read; they "
            "cannot be asked here"
        )


def _attention_windows(config: PretrainedConfig) -> dict[str, int | None]:
    """Tokens that a token sees back, itself included, by type of layer; None: all of them.

    With the one key "" where all layers are alike.
    """
    window = getattr(config, "sliding_window", None)
    if getattr(config, "layer_types", None) is None:
        return {"": window}
    return {"full_attention": None, "sliding_attention": window}


def _spread_ids(n_embeddings: int, n: int) -> tuple[int, ...]:
    """Different ids from all over the vocabulary."""
    return tuple((1 + 2 * i) * n_embeddings // (2 * n) for i in range(n))


def _index(ids: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor(list(ids), device=like.device)
