"""Text to token ids as the subject reads it, and token ids to strings that a person can read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerBase

from neuron_explainer.errors import SubjectError
from neuron_explainer.subject.chat import ChatFrame, read_chat_frame
from neuron_explainer.subject.token_display import display_strings

MAX_PIECE_CHARS = 1_000_000
"""A longer text is encoded in pieces, cut at white space: all at once costs 100 times its size."""

MAX_BATCH_CHARS = 4_000_000
"""Pieces are encoded together up to about this much."""

_CUT_WITHIN = 10_000
"""A space is looked for in so many characters after the piece is full."""
_CUTS = (re.compile(r"(?<=\S) (?=\S)"), re.compile(r"(?<=\S)\s"))

_IN_NO_TEXT = "\U0010ffff" * 3
"""Three times a code point that is no character."""

TokenIds = NDArray[np.int32]


class SubjectTokenizer:
    """The subject's tokenizer, as the collector needs it: no padding, no truncation.

    Text never becomes a special token: a document that holds the characters `<|endoftext|>` is
    encoded as those characters. `chat_template`: every document is one message of a user, in the
    tokenizer's own chat template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, chat_template: bool = False) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise SubjectError(
                f"{type(tokenizer).__name__} has no tokenizer.json; only such tokenizers are read"
            )
        if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
            raise SubjectError("the tokenizer names no token that separates documents")
        self._backend = backend
        self._backend.no_padding()
        self._backend.no_truncation()
        bos = tokenizer.bos_token_id
        self.separator_id: int = bos if bos is not None else tokenizer.eos_token_id
        """Stands before every document, as in the text the subject was trained on."""
        self._chat: ChatFrame | None = None
        if chat_template:
            self._backend.encode_special_tokens = False
            self._chat = read_chat_frame(tokenizer, backend, self.separator_id)
        self._text_backend = _without_special_pieces(backend)
        self._text_backend.encode_special_tokens = True

    @property
    def n_tokens(self) -> int:
        """One more than the largest token id; there may be ids that no token has."""
        return max(self._backend.get_vocab(with_added_tokens=True).values()) + 1

    def serialized(self) -> str:
        """Everything that decides how text becomes ids."""
        plain = f"{self.separator_id} {self._backend.to_str()}"
        return plain if self._chat is None else f"{self._chat.serialized()} {plain}"

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Ids of each text, (token,), in the chat template if there is one; no separator."""
        if self._chat is None:
            return self.encode_bare(texts)
        framed = self.encode_bare([self._chat.around(text) for text in texts])
        return [self._chat.complete(ids) for ids in framed]

    def encode_bare(self, texts: Sequence[str]) -> list[TokenIds]:
        """Ids of each text alone, whatever its length; memory grows with the ids."""
        parts: list[list[TokenIds]] = [[] for _ in texts]
        pieces = ((i, piece) for i, text in enumerate(texts) for piece in self._cut(text))
        for batch in _batches(pieces):
            encodings = self._text_backend.encode_batch_fast(
                [piece for _, piece in batch], add_special_tokens=False
            )
            for (i, _), encoding in zip(batch, encodings, strict=True):
                parts[i].append(np.array(encoding.ids, dtype=np.int32))
        return [ids[0] if len(ids) == 1 else np.concatenate(ids) for ids in parts]

    @cached_property
    def display(self) -> tuple[str, ...]:
        """A different string for every token id; incomplete UTF-8 shows its bytes, `<0xE2>`."""
        return display_strings(self._backend)

    def _cut(self, text: str) -> Iterator[str]:
        """The text in pieces, each but the last of MAX_PIECE_CHARS or a little more.

        Cut between words, so that the ids are those of the whole text; where there is no white
        space for long, the ids around a cut may differ.
        """
        start = 0
        while len(text) - start > MAX_PIECE_CHARS + _CUT_WITHIN:
            end = _where_to_cut(text, start + MAX_PIECE_CHARS)
            yield text[start:end]
            start = end + (self._adds_space and text[end] == " ")
        yield text[start:]

    @cached_property
    def _adds_space(self) -> bool:
        """Whether a space is put before every text, which then need not be there at a cut."""
        whole, *parts = self._text_backend.encode_batch_fast(
            ["the fox", "the", "fox"], add_special_tokens=False
        )
        return list(whole.ids) == list(chain.from_iterable(part.ids for part in parts))


def _without_special_pieces(backend: Tokenizer) -> Tokenizer:
    """The tokenizer for text: a Unigram model would find its special tokens in it by itself."""
    if not isinstance(backend.model, models.Unigram):
        return backend
    state = json.loads(backend.to_str())["model"]
    special = {t.content for t in backend.get_added_tokens_decoder().values() if t.special}
    pieces = [
        (f"{_IN_NO_TEXT}{i}" if piece in special else piece, score)
        for i, (piece, score) in enumerate(state["vocab"])
    ]
    for_text = Tokenizer.from_str(backend.to_str())
    for_text.model = models.Unigram(pieces, state["unk_id"], state["byte_fallback"])
    return for_text


def _where_to_cut(text: str, full: int) -> int:
    for pattern in _CUTS:
        match = pattern.search(text, full, full + _CUT_WITHIN)
        if match is not None:
            return match.start()
    return full


def _batches(pieces: Iterable[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    batch: list[tuple[int, str]] = []
    n_chars = 0
    for i, piece in pieces:
        batch.append((i, piece))
        n_chars += len(piece)
        if n_chars >= MAX_BATCH_CHARS:
            yield batch
            batch, n_chars = [], 0
    if batch:
        yield batch
