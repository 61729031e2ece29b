"""A tiny seeded encoder in the layout of sentence-transformers, saved to a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

WORDS = ("rivers", "lakes", "seas", "bridges", "over", "words", "about", "time", "years", "and")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
MODULES = ("Transformer", "Pooling", "Normalize")


def tiny_encoder() -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(SPECIAL) + len(WORDS), hidden_size=16, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=32, max_position_embeddings=24,
    )  # fmt: skip
    model = BertModel(config)
    for parameter in model.parameters():  # spread the vectors: the default scale is 0.02
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {piece: i for i, piece in enumerate((*SPECIAL, *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]",
    )  # fmt: skip


def save_tiny_embedding(folder: Path, **files: Any) -> Path:
    """The model and its tokenizer; files: by name without `.json`, what they hold."""
    tiny_encoder().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    for name, content in files.items():
        path = folder / f"{name.replace('__', '/')}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return folder


def modules(*kinds: str) -> list[dict[str, Any]]:
    """What modules.json holds."""
    paths = ("", "1_Pooling", "2_Normalize", "3_More")
    return [
        {"idx": i, "name": str(i), "path": paths[i], "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds or MODULES)
    ]
