"""Seeded tiny models of many architectures, and what they expect, found the slow and plain way."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PhiConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from neuron_explainer.llm.messages import PromptLogprobRequest

N_TOKENS, N_CTX, WINDOW = 300, 96, 8
PLAIN: dict[str, Any] = {
    "vocab_size": N_TOKENS, "max_position_embeddings": N_CTX, "hidden_size": 16,
    "num_attention_heads": 4, "num_hidden_layers": 3, "intermediate_size": 24,
}  # fmt: skip
GROUPED: dict[str, Any] = {
    **PLAIN, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "cohere": lambda: CohereConfig(**GROUPED, logit_scale=0.25),
    "gemma2": lambda: Gemma2Config(
        **GROUPED, sliding_window=WINDOW, attn_logit_softcapping=2.0, final_logit_softcapping=3.0
    ),
    "gemma3": lambda: Gemma3TextConfig(**GROUPED, sliding_window=WINDOW, sliding_window_pattern=2),
    "gpt2": lambda: GPT2Config(
        vocab_size=N_TOKENS, n_positions=N_CTX, n_embd=16, n_head=2, n_layer=3
    ),
    "gpt_neox": lambda: GPTNeoXConfig(**PLAIN),
    "granite": lambda: GraniteConfig(**GROUPED, logits_scaling=4.0),
    "llama": lambda: LlamaConfig(**GROUPED),
    "mistral": lambda: MistralConfig(**GROUPED, sliding_window=WINDOW),
    "opt": lambda: OPTConfig(
        vocab_size=N_TOKENS, max_position_embeddings=N_CTX, hidden_size=16, num_attention_heads=2,
        num_hidden_layers=3, ffn_dim=24, word_embed_proj_dim=8,
    ),
    "phi": lambda: PhiConfig(**PLAIN),
    "qwen2": lambda: Qwen2Config(
        **GROUPED, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1
    ),
    "qwen3": lambda: Qwen3Config(**GROUPED),
}  # fmt: skip

ONE_TOKEN = tuple((20 + value,) for value in range(11))
TWO_TOKENS = (*ONE_TOKEN[:10], (21, 20))
"""10 is the tokens of 1 and 0."""
TAB, UNKNOWN, END = 40, 41, 42


def tiny(config: PretrainedConfig, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """With weights large enough that the logits tell tokens apart."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


def window(
    rng: random.Random,
    prefix: tuple[int, ...],
    n_lines: int,
    values: tuple[tuple[int, ...], ...] = ONE_TOKEN,
    explanation: tuple[int, ...] = (),
) -> PromptLogprobRequest:
    """An explanation, then lines of some tokens, a tab, `unknown`, and a line break."""
    ids, positions = list(explanation), []
    for _ in range(n_lines):
        ids += [*rng.choices(range(50, N_TOKENS), k=rng.randint(1, 2)), TAB]
        positions.append(len(ids))
        ids += [UNKNOWN, END]
    return PromptLogprobRequest("tiny", prefix, tuple(ids), tuple(positions), values, END)


def plainly_expected(model: PreTrainedModel, request: PromptLogprobRequest) -> list[float]:
    """From the whole model on the whole prompt, once for each asked position and first token."""
    expected = []
    for position in request.positions:
        before = (*request.prefix, *request.ids[:position])
        firsts = sorted({value[0] for value in request.values})
        p_first = dict(zip(firsts, _shares(model, before, firsts), strict=True))
        p = []
        for value in request.values:
            first, *second = value
            seconds = [v[1] for v in request.values if len(v) == 2 and v[0] == first]
            going_on = [*seconds, request.end]
            share = 1.0
            if seconds:
                shares = _shares(model, (*before, first), going_on)
                share = shares[going_on.index(second[0] if second else request.end)].item()
            p.append(p_first[first].item() * share)
        expected.append(sum(v * p_v for v, p_v in enumerate(p)) / sum(p))
    return expected


def _shares(model: PreTrainedModel, ids: tuple[int, ...], rows: list[int]) -> Tensor:
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1]
    return logits[rows].double().softmax(-1)
