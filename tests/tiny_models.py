"""Small seeded subjects, built in place: no downloads, a fraction of a second on a CPU."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from neuron_explainer.subject.model import Subject, make_subject
from neuron_explainer.subject.tokens import SubjectTokenizer

SEPARATOR = "<|endoftext|>"


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer without merges: one token a byte, and the separator as id 256."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: i for i, piece in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([SEPARATOR])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=SEPARATOR, eos_token=SEPARATOR
    )


def tiny_gpt2(
    n_layer: int = 2, n_embd: int = 16, seed: int = 0, n_ctx: int = 64
) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=257, n_positions=n_ctx, n_layer=n_layer, n_embd=n_embd, n_head=2,
        bos_token_id=256, eos_token_id=256,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    for parameter in model.parameters():  # spread the activations: the default scale is 0.02
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def tiny_subject(n_layer: int = 2, n_embd: int = 16, seed: int = 0) -> Subject:
    tokenizer = SubjectTokenizer(byte_tokenizer())
    return make_subject("tiny", tiny_gpt2(n_layer, n_embd, seed), tokenizer)


def save_tiny_model(
    folder: Path, n_layer: int = 2, n_embd: int = 16, seed: int = 0, n_ctx: int = 64
) -> Path:
    """The tiny model and its tokenizer as files, for code that loads from a folder."""
    tiny_gpt2(n_layer, n_embd, seed, n_ctx).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
