"""The tokens a neuron promotes are those of the written-out product, in every architecture."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import OPTConfig

from neuron_explainer.subject.model import Subject
from neuron_explainer.subject.output_tokens import (
    TILE,
    OutputTokenReader,
    logit_effects,
    output_tokens,
)
from tests.subject.test_families import FAMILIES, Family, tiny

PLUS_ONE = {"gemma", "gemma2", "gemma3_text"}
NORM_BEHIND = {"gemma2", "gemma3_text"}


def with_odd_gains(name: str) -> Subject:
    """Gains of a new model are all 1, with which a test of them says nothing."""
    subject = tiny(FAMILIES[name])
    generator = torch.Generator().manual_seed(3)
    for parameter in subject.model.parameters():
        if parameter.ndim == 1:
            parameter.data = torch.randn(parameter.shape, generator=generator)
    return subject


def gain_by_hand(name: str, norm: Any) -> Tensor:
    weight: Tensor = norm.weight.detach()
    return weight + 1 if name in PLUS_ONE else weight


def final_norm(name: str, base: Any) -> Any:
    if name == "opt":
        return base.decoder.final_layer_norm
    names = {"gpt2": "ln_f", "gpt_neo": "ln_f", "gpt_neox": "final_layer_norm",
             "phi": "final_layernorm"}  # fmt: skip
    return getattr(base, names.get(name, "norm"))


@pytest.mark.parametrize("name", FAMILIES)
def test_effects_are_those_of_an_explicit_loop(name: str) -> None:
    subject = with_odd_gains(name)
    family, model = FAMILIES[name], subject.model
    projection: Any = family.down_projection(model, 1)
    gain = gain_by_hand(name, final_norm(name, model.base_model))
    if name in NORM_BEHIND:
        behind = model.model.layers[1].post_feedforward_layernorm
        gain = gain * gain_by_hand(name, behind)
    unembedding = model.get_output_embeddings().weight.detach()
    neurons = [5, 0, 23]
    effects = logit_effects(subject, 1, neurons)
    assert effects.shape == (3, subject.tokenizer.n_tokens)
    for row, neuron in zip(effects, neurons, strict=True):
        is_conv1d = name == "gpt2"
        weight = projection.weight.detach()
        written = weight[neuron] if is_conv1d else weight[:, neuron]
        for token in (0, 97, 256):
            expected = sum(
                float(u) * float(g) * float(w)
                for u, g, w in zip(unembedding[token], gain, written, strict=True)
            )
            assert float(row[token]) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_tokens_are_ranked_by_their_effect() -> None:
    subject = with_odd_gains("llama")
    (row,) = logit_effects(subject, 2, [7]).tolist()
    display = subject.tokenizer.display
    ranked = [display[token] for token in sorted(range(len(row)), key=lambda t: -row[t])]
    (tokens,) = output_tokens(subject, 2, [7], k=6)
    assert tokens.promoted == tuple(ranked[:6])
    assert tokens.suppressed == tuple(ranked[:-7:-1])


def test_turning_a_neuron_round_swaps_what_it_promotes_and_suppresses() -> None:
    subject = with_odd_gains("gpt2")
    (before,) = output_tokens(subject, 0, [3])
    subject.site_module(0).weight.data[3] *= -1
    (after,) = output_tokens(subject, 0, [3])
    assert (after.promoted, after.suppressed) == (before.suppressed, before.promoted)


def test_a_neuron_that_is_switched_on_raises_the_logits_it_promotes() -> None:
    """The last layer writes to the final norm directly; the norm divides by one number a token."""
    subject = with_odd_gains("llama")
    gain = subject.model.model.norm.weight.detach()
    written = subject.site_module(2).weight.detach()[:, 4]
    stream = torch.zeros_like(written)
    with torch.no_grad():
        logits = subject.model.lm_head(subject.model.model.norm(stream + 1e3 * written))
    effects = logit_effects(subject, 2, [4])[0]
    ratio = logits[: len(effects)] / effects
    assert float(gain.std()) > 0
    torch.testing.assert_close(ratio, ratio[0].expand_as(ratio), rtol=1e-3, atol=0)


def test_embeddings_narrower_than_the_stream_are_reached_through_their_projection() -> None:
    config = OPTConfig(
        vocab_size=260, max_position_embeddings=32, hidden_size=16, num_attention_heads=2,
        num_hidden_layers=3, ffn_dim=24, word_embed_proj_dim=8, do_layer_norm_before=False,
    )  # fmt: skip
    subject = tiny(Family(config, lambda model, layer: model.model.decoder.layers[layer].fc2))
    decoder = subject.model.model.decoder
    expected = (
        subject.model.get_output_embeddings().weight
        @ decoder.project_out.weight
        @ decoder.layers[0].fc2.weight[:, 9]
    )
    found = logit_effects(subject, 0, [9])[0]
    torch.testing.assert_close(found, expected.detach()[: len(found)])


def test_a_reader_gives_the_same_as_all_at_once_and_computes_neighbours_together() -> None:
    subject = with_odd_gains("gpt2")
    reader = OutputTokenReader(subject, k=4)
    all_at_once = [output_tokens(subject, layer, range(24), k=4) for layer in range(3)]
    for layer, neuron in [(0, 0), (2, 23), (0, 23), (1, 7), (0, 0)]:
        assert reader.read(layer, neuron) == all_at_once[layer][neuron]
    subject.site_module(0).weight.data *= -1  # what was computed is not computed again
    assert subject.d_mlp <= TILE
    assert reader.read(0, 12) == all_at_once[0][12]
