"""Small tokenizers of every family, trained in place on a handful of sentences."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

SPACE = "▁"
SENTENCES = [
    "The quick brown fox jumps over the lazy dog, and the dog lets it.",
    "A café is naïve to say “très bien” 数学 more than 42 times 😀.",
    "def quick(fox):\n    return [fox] * 10\n\n\tquick = the(dog)",
    "It's the cat's whiskers; they're all there, and we'll see.",
]
BYTE_PIECES = [f"<0x{byte:02X}>" for byte in range(256)]
SPECIAL = ["<unk>", "<s>", "</s>"]


def byte_level(*, neox: bool = False, qwen: bool = False) -> Tokenizer:
    """GPT-2's; with NeoX's runs of spaces as added tokens, or split as Qwen's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if qwen:
        words = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(words, "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    if neox or qwen:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([*SENTENCES, " " * 8, SPACE * 3], trainer)
    if neox:
        tokenizer.add_tokens([AddedToken(" " * n, normalized=True) for n in range(2, 9)])
    return tokenizer


def sentencepiece_bpe(*, metaspace: bool = False, gemma: bool = False) -> Tokenizer:
    """Llama's; with a Metaspace pre-tokenizer as Mistral's, or without a first space as Gemma's."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=120, show_progress=False)
    kept = [re.sub("[^a-zA-Zé ',.]", "", sentence) for sentence in SENTENCES]
    trained.train_from_iterator(kept, trainer)  # the other characters are left to the bytes
    model = json.loads(trained.to_str())["model"]
    runs = [SPACE * 2, SPACE * 3] if gemma else []
    pieces = [*SPECIAL, *BYTE_PIECES, *model["vocab"], *runs, *(["\n"] if gemma else [])]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    merges = [tuple(merge) for merge in model["merges"]]
    if gemma:
        merges += [(SPACE, SPACE), (SPACE * 2, SPACE)]
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    end = [decoders.ByteFallback(), decoders.Fuse()]
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), *end])
    elif gemma:
        tokenizer.normalizer = normalizers.Replace(" ", SPACE)
        tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), *end])
        tokenizer.add_tokens([AddedToken(run, normalized=False) for run in runs])
    else:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
        )
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace(SPACE, " "), *end, decoders.Strip(" ", 1, 0)]
        )
    tokenizer.add_special_tokens([*SPECIAL, "<|im_start|>", "<|im_end|>"])
    return tokenizer


def unigram() -> Tokenizer:
    """A sentencepiece unigram model with a token for each byte."""
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=100, unk_token="<unk>", special_tokens=SPECIAL, show_progress=False
    )
    trained.train_from_iterator(SENTENCES[:1], trainer)
    pieces = json.loads(trained.to_str())["model"]["vocab"]
    vocabulary = [tuple(piece) for piece in pieces[:3]]
    vocabulary += [(piece, 0.0) for piece in BYTE_PIECES]
    vocabulary += [tuple(piece) for piece in pieces[3:]]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    tokenizer.add_special_tokens([*SPECIAL, "<|im_start|>", "<|im_end|>"])
    return tokenizer


BYTE_LEVEL: dict[str, Callable[[], Tokenizer]] = {
    "gpt2": byte_level,
    "neox": lambda: byte_level(neox=True),
    "qwen": lambda: byte_level(qwen=True),
}
SENTENCEPIECE: dict[str, Callable[[], Tokenizer]] = {
    "llama": sentencepiece_bpe,
    "mistral": lambda: sentencepiece_bpe(metaspace=True),
    "gemma": lambda: sentencepiece_bpe(gemma=True),
    "unigram": unigram,
}
KINDS = {**BYTE_LEVEL, **SENTENCEPIECE}


@cache
def _state(kind: str) -> str:
    state: str = KINDS[kind]().to_str()
    return state


def wrapped(kind: str, chat_template: str | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer of one of KINDS, as transformers loads it."""
    backend = Tokenizer.from_str(_state(kind))
    bos = "<|endoftext|>" if kind in BYTE_LEVEL else "<s>"
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=bos, eos_token=bos, chat_template=chat_template
    )
