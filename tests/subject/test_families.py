"""Every known architecture is read where its neurons are, on seeded tiny configurations."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    OPTConfig,
    PhiConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from neuron_explainer.errors import SubjectError, UsageError
from neuron_explainer.subject.model import Subject, make_subject
from neuron_explainer.subject.sites import DOWN_PROJECTIONS, find_down_projection
from neuron_explainer.subject.source import SubjectSource
from neuron_explainer.subject.tokens import SubjectTokenizer
from tests.tiny_models import byte_tokenizer

N_LAYERS, D_MLP = 3, 24
COMMON: dict[str, Any] = {
    "vocab_size": 260, "max_position_embeddings": 32, "hidden_size": 16, "num_attention_heads": 2,
    "num_hidden_layers": N_LAYERS, "intermediate_size": D_MLP,
}  # fmt: skip
GROUPED: dict[str, Any] = {**COMMON, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}


@dataclass(frozen=True)
class Family:
    """A tiny configuration, and by hand where its neurons are."""

    config: PretrainedConfig
    down_projection: Callable[[Any, int], nn.Module]


def gated(model: Any, layer: int) -> nn.Module:
    module: nn.Module = model.model.layers[layer].mlp.down_proj
    return module


FAMILIES = {
    "gemma": Family(GemmaConfig(**GROUPED), gated),
    "gemma2": Family(Gemma2Config(**GROUPED, sliding_window=8), gated),
    "gemma3_text": Family(Gemma3TextConfig(**GROUPED, sliding_window=8), gated),
    "gpt2": Family(
        GPT2Config(vocab_size=260, n_positions=32, n_embd=16, n_head=2, n_layer=3, n_inner=D_MLP),
        lambda model, layer: model.transformer.h[layer].mlp.c_proj,
    ),
    "gpt_neo": Family(
        GPTNeoConfig(
            vocab_size=260, max_position_embeddings=32, hidden_size=16, num_heads=2, num_layers=3,
            attention_types=[[["global", "local", "global"], 1]], intermediate_size=D_MLP,
        ),
        lambda model, layer: model.transformer.h[layer].mlp.c_proj,
    ),
    "gpt_neox": Family(
        GPTNeoXConfig(**COMMON),
        lambda model, layer: model.gpt_neox.layers[layer].mlp.dense_4h_to_h,
    ),
    "llama": Family(LlamaConfig(**GROUPED), gated),
    "mistral": Family(MistralConfig(**GROUPED), gated),
    "opt": Family(
        OPTConfig(
            vocab_size=260, max_position_embeddings=32, hidden_size=16, num_attention_heads=2,
            num_hidden_layers=3, ffn_dim=D_MLP, word_embed_proj_dim=16,
        ),
        lambda model, layer: model.model.decoder.layers[layer].fc2,
    ),
    "phi": Family(PhiConfig(**COMMON), lambda model, layer: model.model.layers[layer].mlp.fc2),
    "qwen2": Family(Qwen2Config(**GROUPED), gated),
    "qwen3": Family(Qwen3Config(**GROUPED), gated),
}  # fmt: skip


def tiny(family: Family) -> Subject:
    torch.manual_seed(0)
    config = copy.deepcopy(family.config)  # a test may change that of its model
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.3)
    return make_subject("tiny", model, SubjectTokenizer(byte_tokenizer()))


def plain_activations(model: PreTrainedModel, family: Family, tokens: Tensor) -> list[Tensor]:
    """From the whole forward pass, by hooks of this test's own."""
    seen: list[Tensor] = []
    for layer in range(N_LAYERS):
        family.down_projection(model, layer).register_forward_pre_hook(
            lambda _module, arguments: seen.append(arguments[0].detach().clone())
        )
    with torch.no_grad():
        model(tokens)
    return [acts.view(*tokens.shape, -1) for acts in seen]


def read_layers(source: SubjectSource, tokens: Tensor, layers: Sequence[int]) -> dict[int, Tensor]:
    read: dict[int, Tensor] = {}
    source.read(tokens, layers, lambda layer, acts, _: read.update({layer: acts.clone()}))
    return read


@pytest.mark.parametrize("name", FAMILIES)
def test_the_residual_stream_that_is_measured_is_that_which_enters_the_layer(name: str) -> None:
    subject = tiny(FAMILIES[name])
    tokens = torch.randint(1, 256, (3, 7), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        hidden = subject.model(tokens, output_hidden_states=True).hidden_states
    found: dict[int, Tensor | None] = {}
    SubjectSource(subject, max_norm_ratio=1.05).read(
        tokens, range(N_LAYERS), lambda layer, _, counted: found.update({layer: counted})
    )
    for layer, counted in found.items():
        norms = hidden[layer].norm(dim=-1)
        expected = norms <= 1.05 * norms.median()
        assert counted is not None
        assert counted.tolist() == expected.tolist()
    assert sum(int(counted.sum()) for counted in found.values()) < N_LAYERS * tokens.numel()


def test_every_known_architecture_has_a_test() -> None:
    assert set(FAMILIES) == set(DOWN_PROJECTIONS)


@pytest.mark.parametrize("name", FAMILIES)
def test_neurons_are_those_of_a_plain_hook_on_the_whole_forward_pass(name: str) -> None:
    family = FAMILIES[name]
    subject = tiny(family)
    assert (subject.n_layers, subject.d_mlp, subject.n_ctx) == (N_LAYERS, D_MLP, 32)
    tokens = torch.randint(1, 256, (3, 7), generator=torch.Generator().manual_seed(1))
    source = SubjectSource(subject)
    read = read_layers(source, tokens, source.layers)
    stopped = read_layers(source, tokens, [0, 1])
    expected = plain_activations(subject.model, family, tokens)
    assert list(read) == [0, 1, 2]
    assert list(stopped) == [0, 1]
    for layer, acts in enumerate(expected):
        assert acts.shape == (3, 7, D_MLP)
        assert acts.std() > 0
        torch.testing.assert_close(read[layer], acts, rtol=0, atol=0)
    for layer, acts in stopped.items():
        torch.testing.assert_close(acts, expected[layer], rtol=0, atol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_that_go_on_from_a_beginning_are_read_as_if_whole(name: str) -> None:
    source = SubjectSource(tiny(FAMILIES[name]))
    generator = torch.Generator().manual_seed(2)
    prefixes = torch.randint(1, 256, (2, 5), generator=generator)
    rest = torch.randint(1, 256, (4, 6), generator=generator)
    of_row = torch.tensor([1, 0, 1, 1])
    whole = torch.cat([prefixes[of_row], rest], dim=1)
    for layer in (0, 2):
        begun = source.begin(prefixes, layer)
        expected = read_layers(source, whole, [layer])[layer][:, 5:]

        def compare(_layer: int, acts: Tensor, _counted: Tensor | None, expected=expected) -> None:
            torch.testing.assert_close(acts, expected, rtol=1e-4, atol=1e-5)

        source.read_after(begun, of_row, rest, compare)
        source.read_after(begun, of_row, rest, compare)  # it may be gone on from again


def test_a_gated_neuron_is_the_activation_of_its_gate_times_up() -> None:
    subject = tiny(FAMILIES["llama"])
    mlp = subject.model.model.layers[1].mlp
    inputs: list[Tensor] = []
    mlp.register_forward_pre_hook(lambda _module, arguments: inputs.append(arguments[0]))
    read = read_layers(SubjectSource(subject), torch.tensor([[1, 2, 3]]), [1])
    with torch.no_grad():
        expected = nn.functional.silu(mlp.gate_proj(inputs[0])) * mlp.up_proj(inputs[0])
    torch.testing.assert_close(read[1], expected)


def test_a_mixture_of_experts_is_refused() -> None:
    config = MixtralConfig(**GROUPED, num_local_experts=4)
    with pytest.raises(SubjectError, match=r"mixture of 4 experts \(mixtral\) cannot be read"):
        find_down_projection(config, "layers.{layer}.mlp.down_proj")


def test_an_unknown_architecture_is_read_by_the_module_that_the_user_names() -> None:
    family = FAMILIES["llama"]
    subject = tiny(family)
    subject.model.config.model_type = "of_my_own"
    with pytest.raises(SubjectError, match="--site-module"):
        make_subject("mine", subject.model, subject.tokenizer)
    path = "layers.{layer}.mlp.down_proj"
    mine = make_subject("mine", subject.model, subject.tokenizer, site_module=path)
    assert mine.site_module(2) is gated(subject.model, 2)
    with pytest.raises(UsageError, match="the model has no module 'layers"):
        make_subject("mine", subject.model, subject.tokenizer, site_module="layers.{layer}.ffn")
