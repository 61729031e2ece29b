"""A model that is asked is loaded as the subject is: whole, or refused in one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BloomConfig, BloomForCausalLM

from neuron_explainer.errors import SubjectError, UsageError
from neuron_explainer.subject.pretrained import load_pretrained, load_tokenizer
from tests.tiny_models import byte_tokenizer, save_tiny_model, tiny_gpt2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "model")


def test_a_saved_model_and_its_tokenizer_are_those_that_were_saved(folder: Path) -> None:
    loaded = load_pretrained(str(folder), device="cpu")
    saved = tiny_gpt2().state_dict()
    assert all(torch.equal(saved[name], x) for name, x in loaded.model.state_dict().items())
    assert not loaded.model.training
    assert loaded.model.dtype == torch.float32
    assert loaded.tokenizer("the fox").input_ids == byte_tokenizer()("the fox").input_ids


def test_the_dtype_asked_for_is_the_one_of_all_weights(folder: Path) -> None:
    model = load_pretrained(str(folder), device="cpu", dtype="bfloat16").model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_an_architecture_whose_neurons_are_unknown_can_still_be_asked(folder: Path) -> None:
    config = BloomConfig(vocab_size=257, hidden_size=16, n_layer=1, n_head=2)
    BloomForCausalLM(config).save_pretrained(folder)
    assert load_pretrained(str(folder), device="cpu").model.config.model_type == "bloom"


def test_a_tokenizer_can_be_had_without_the_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert load_tokenizer(str(folder))("a").input_ids == byte_tokenizer()("a").input_ids


def test_what_is_not_whole_is_refused_in_one_line(folder: Path) -> None:
    n_bytes = sum(4 * parameter.numel() for parameter in tiny_gpt2().parameters())
    with pytest.raises(SubjectError, match=r"takes 0\.0 GB in float32 and 0\.0 GB are there"):
        load_pretrained(str(folder), device="cpu", most_bytes=n_bytes - 1)
    path = folder / "model.safetensors"
    weights = load_file(path)
    save_file({k: v for k, v in weights.items() if "c_fc" not in k}, path, {"format": "pt"})
    with pytest.raises(SubjectError, match=r"no weights for transformer\.h\.0\.mlp.* and 3 more"):
        load_pretrained(str(folder), device="cpu")
    with pytest.raises(SubjectError, match="no model folder at /no/such"):
        load_pretrained("/no/such")
    with pytest.raises(SubjectError, match="no model folder at /no/such"):
        load_tokenizer("/no/such")
    with pytest.raises(UsageError, match="unknown dtype 'int8'"):
        load_pretrained(str(folder), dtype="int8")
