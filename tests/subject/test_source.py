"""Activations are the model's own, and reading them leaves no trace and computes no more."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from neuron_explainer.errors import UsageError
from neuron_explainer.subject.hooks import reading_inputs
from neuron_explainer.subject.model import Subject
from neuron_explainer.subject.source import ActivationSource, SubjectSource
from tests.tiny_models import tiny_subject

TOKENS = torch.arange(60).view(5, 12)  # (batch, seq)


@pytest.fixture
def subject() -> Subject:
    return tiny_subject(n_layer=3)


def read(source: ActivationSource, tokens: Tensor = TOKENS) -> dict[int, Tensor]:
    found: dict[int, Tensor] = {}
    source.read(
        tokens,
        source.layers,
        lambda layer, acts, _: found.__setitem__(layer, acts.clone()),
    )
    return found


def n_hooks(model: nn.Module) -> int:
    return sum(
        len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules()
    )


def count_calls(model: nn.Module) -> Counter[str]:
    """Names of the modules that are computed, as they are."""
    calls: Counter[str] = Counter()
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: calls.update([name]))
    return calls


def test_activations_are_the_output_of_the_activation_function(subject: Subject) -> None:
    expected: dict[int, Tensor] = {}
    for layer, block in enumerate(subject.model.transformer.h):
        block.mlp.act.register_forward_hook(
            lambda _module, _args, output, layer=layer: expected.__setitem__(layer, output.clone())
        )
    found = read(SubjectSource(subject))
    assert list(found) == list(expected) == [0, 1, 2]
    for layer, acts in found.items():
        assert acts.shape == (5, 12, subject.d_mlp)
        assert torch.equal(acts, expected[layer])


def test_a_subset_of_the_layers_gives_what_all_of_them_give(subject: Subject) -> None:
    every = read(SubjectSource(subject))
    for layers in ([0], [2], [0, 2], [2, 1, 1]):
        source = SubjectSource(subject, layers)
        found = read(source)
        assert list(found) == list(source.layers) == sorted(set(layers))
        assert all(torch.equal(acts, every[layer]) for layer, acts in found.items())


@pytest.mark.parametrize("deepest", [0, 1, 2])
def test_nothing_behind_the_deepest_layer_is_computed(subject: Subject, deepest: int) -> None:
    calls = count_calls(subject.model)
    read(SubjectSource(subject, range(deepest + 1)))
    for layer in range(3):
        assert calls[f"transformer.h.{layer}.mlp.act"] == int(layer <= deepest)
        assert calls[f"transformer.h.{layer}.mlp.c_proj"] == int(layer < deepest)
    assert calls["transformer.ln_f"] == calls["lm_head"] == 0


@pytest.mark.parametrize("error", [RuntimeError("full"), KeyboardInterrupt()], ids=repr)
def test_no_hook_stays_after_an_exception_in_the_receiver(
    subject: Subject, error: BaseException
) -> None:
    def fail(_layer: int, _activations: Tensor, _counted: Tensor | None) -> None:
        raise error

    with pytest.raises(type(error)):
        SubjectSource(subject).read(TOKENS, [0], fail)
    assert n_hooks(subject.model) == 0


def test_no_hook_stays_after_a_forward_that_was_ended(subject: Subject) -> None:
    read(SubjectSource(subject))
    assert n_hooks(subject.model) == 0


def test_a_forward_that_is_not_ended_gives_what_it_gives_without_hooks(subject: Subject) -> None:
    seen: list[int] = []
    modules = {i: block.mlp.c_proj for i, block in enumerate(subject.model.transformer.h)}
    with torch.no_grad():
        expected = subject.model(TOKENS).logits
        with reading_inputs(modules, lambda layer, _: seen.append(layer)):
            logits = subject.model(TOKENS).logits
    assert torch.equal(logits, expected)
    assert seen == [0, 1, 2]
    assert n_hooks(subject.model) == 0


def test_hooks_that_could_not_all_be_set_are_all_removed(subject: Subject) -> None:
    modules = {0: subject.model.transformer.h[0].mlp.c_proj, 1: None}
    with pytest.raises(AttributeError), reading_inputs(modules, lambda *_: None):  # type: ignore[arg-type]
        pass
    assert n_hooks(subject.model) == 0


def test_reading_the_same_block_again_gives_the_same_bits(subject: Subject) -> None:
    source = SubjectSource(subject)
    first, second = read(source), read(source)
    assert all(torch.equal(first[layer], second[layer]) for layer in first)
    assert not any(acts.requires_grad for acts in first.values())


@pytest.mark.parametrize("layers", [[3], [0, 3], [-1]])
def test_a_layer_that_the_subject_has_not_is_refused(subject: Subject, layers: list[int]) -> None:
    with pytest.raises(UsageError, match=r"is not in tiny, which has layers 0\.\.2"):
        SubjectSource(subject, layers)


def test_no_layer_at_all_is_refused(subject: Subject) -> None:
    with pytest.raises(UsageError, match="no layer to read"):
        SubjectSource(subject, [])
