"""Texts as vectors: the hidden states of a local encoder, pooled (Reimers and Gurevych 2019).

1. A text is encoded with its special tokens, and cut where the model ends.
2. The last layer's states are pooled: their mean over the text's tokens, or the first one.
3. Each vector is divided by its length, so that a product of two is their cosine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

TOKENS_AT_ONCE = 4096
"""Of a batch, padding included."""

Vectors: TypeAlias = NDArray[np.float32]
"""(text, dimension), each of length 1."""


class Pooling(StrEnum):
    MEAN = "mean"
    FIRST = "first"
    """The state at the first token, which is `[CLS]` in BERT."""


@dataclass(frozen=True, slots=True)
class EmbeddingChoices:
    """How a model was trained to be asked."""

    pooling: Pooling
    n_ctx: int
    """Tokens of a text, special ones included; the rest is cut off."""
    query_prefix: str = ""
    document_prefix: str = ""
    is_lower_case: bool = False
    """Texts are put into lower case first."""


class EmbeddingModel:
    """An encoder in memory. Texts alike in length are read together, which changes no result."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        choices: EmbeddingChoices,
    ) -> None:
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._choices = choices

    def fingerprint(self) -> str:
        """Of all that a vector depends on: weights, vocabulary, choices."""
        digest = hashlib.blake2b(digest_size=8)
        digest.update(repr(astuple(self._choices)).encode())
        digest.update(repr(sorted(self._tokenizer.get_vocab().items())).encode())
        for name, weights in sorted(self._model.state_dict().items()):
            digest.update(name.encode())
            digest.update(weights.detach().cpu().contiguous().view(torch.uint8).numpy())
        return digest.hexdigest()

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """(dimension,), of length 1."""
        query: NDArray[np.float32] = self._embed([self._choices.query_prefix + text])[0]
        return query

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """In the order of the texts."""
        return self._embed([self._choices.document_prefix + text for text in texts])

    def _embed(self, texts: Sequence[str]) -> Vectors:
        if self._choices.is_lower_case:
            texts = [text.lower() for text in texts]
        ids: list[list[int]] = self._tokenizer(
            list(texts), truncation=True, max_length=self._choices.n_ctx
        )["input_ids"]
        by_length = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        parts = [self._embed_ids([ids[i] for i in batch]) for batch in _batches(by_length, ids)]
        vectors = np.concatenate(parts)
        ordered = np.empty_like(vectors)
        ordered[by_length] = vectors
        return ordered

    def _embed_ids(self, ids: Sequence[Sequence[int]]) -> Vectors:
        """(text, token) of any lengths -> (text, dimension)."""
        longest = max(map(len, ids))
        padded = torch.zeros(len(ids), longest, dtype=torch.long)  # what is not read may be any
        mask = torch.zeros(len(ids), longest, dtype=torch.long)
        for row, tokens in enumerate(ids):
            padded[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        device = self._model.device
        with torch.inference_mode():
            states = self._model(
                input_ids=padded.to(device), attention_mask=mask.to(device)
            ).last_hidden_state.float()  # (text, token, dimension)
            pooled = self._pool(states, mask.to(device))
            vectors: Vectors = torch.nn.functional.normalize(pooled, dim=1).cpu().numpy()
        return vectors

    def _pool(self, states: Tensor, mask: Tensor) -> Tensor:
        if self._choices.pooling is Pooling.FIRST:
            return states[:, 0]
        weights = mask[:, :, None].float()
        return (states * weights).sum(1) / weights.sum(1)


def _batches(order: Iterable[int], ids: Sequence[Sequence[int]]) -> Iterable[list[int]]:
    """Of texts that are ordered by length, shortest first; TOKENS_AT_ONCE each at the most."""
    batch: list[int] = []
    for i in order:
        if batch and (len(batch) + 1) * len(ids[i]) > TOKENS_AT_ONCE:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
