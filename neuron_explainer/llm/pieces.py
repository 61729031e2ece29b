"""Text to the token ids of a local model, piece by piece: so each piece's place is known.

The values 0 to 10 after a tab are those of Bills et al. 2023, `simulator.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerBase

from neuron_explainer.errors import BadRequest, UsageError
from neuron_explainer.llm.client import PieceTokenizer

_ANCHORS = ("\n", "\ue000")
"""Stand before a piece while it is encoded, where a space is put before every text."""
_IN_NO_TEXT = "\U0010ffff" * 3
"""Three times a code point that is no character."""
_TAB, _LINE_BREAK = "\t", "\n"
_N_VALUES = 11


class HfPieceTokenizer:
    """A fast tokenizer of transformers; text never becomes one of its special tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """UsageError for a tokenizer that has no tokenizer.json, or an empty one."""
        self._backend = text_backend(tokenizer)
        self._start = _start(tokenizer)
        whole, *parts = self._ids(["the fox", "the", "fox"])
        if len(set(whole).union(*parts)) < 2:
            raise UsageError("the tokenizer knows no words; is tokenizer.json missing?")
        adds_space = whole == tuple(i for part in parts for i in part)
        self._anchors = _ANCHORS if adds_space else ("",)

    @property
    def start(self) -> tuple[int, ...]:
        """The BOS token, where the tokenizer itself puts one before a text; else nothing."""
        return self._start

    def encode(self, pieces: Sequence[str]) -> list[tuple[int, ...]]:
        """Ids of each piece, as it stands within a text: no special token, no space put before."""
        found: list[tuple[int, ...]] = [()] * len(pieces)
        left = list(range(len(pieces)))
        for anchor in self._anchors:
            before, *encoded = self._ids([anchor, *(anchor + pieces[i] for i in left)])
            is_whole = [ids[: len(before)] == before for ids in encoded]
            for i, ids, whole in zip(left, encoded, is_whole, strict=True):
                if whole:
                    found[i] = ids[len(before) :]
            left = [i for i, whole in zip(left, is_whole, strict=True) if not whole]
        if left:
            raise BadRequest(f"the tokenizer has no ids for {pieces[left[0]]!r} within a text")
        return found

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Ids of a text that begins with this one: where a space is put before, it is."""
        return self._ids([text])[0]

    def _ids(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [tuple(encoding.ids) for encoding in encodings]


class ValueTokens(NamedTuple):
    """What a `PromptLogprobRequest` asks for."""

    values: tuple[tuple[int, ...], ...]
    """Ids of 0 to 10 as they follow a tab."""
    end: int
    """The first id of a line break."""


def read_value_tokens(pieces: PieceTokenizer) -> ValueTokens:
    """The values are one token each; 10 may be the tokens of `1` and `0`.

    UsageError for a tokenizer that makes one token of a tab and a value, or other than that.
    """
    numbers = [str(value) for value in range(_N_VALUES)]
    tab, line_break, *after_tab = pieces.encode(
        [_TAB, _LINE_BREAK, *(_TAB + number for number in numbers)]
    )
    values = tuple(ids[len(tab) :] for ids in after_tab)
    singles = {value for value in values if len(value) == 1}
    for number, ids, value in zip(numbers, after_tab, values, strict=True):
        is_pair = len(value) == 2 and value == values[int(number[0])] + values[int(number[-1])]
        if ids[: len(tab)] != tab or not (len(value) == 1 or (len(number) == 2 and is_pair)):
            raise UsageError(
                f"the tokenizer does not keep the value {number} after a tab apart (it makes "
                f"{len(ids)} tokens of both); take another simulator model"
            )
    if len(singles) < _N_VALUES - 1 or len(set(values)) < _N_VALUES:
        raise UsageError("the tokenizer has one token for two values; take another simulator model")
    return ValueTokens(values, line_break[0])


def text_backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """A copy that takes every text as text; UsageError when there is no tokenizer.json.

    A Unigram model would find its special tokens by itself: there they get names of no text.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise UsageError(
            f"{type(tokenizer).__name__} has no tokenizer.json; only such tokenizers are read"
        )
    for_text = Tokenizer.from_str(backend.to_str())
    if isinstance(backend.model, models.Unigram):
        state = json.loads(backend.to_str())["model"]
        special = {t.content for t in backend.get_added_tokens_decoder().values() if t.special}
        pieces = [
            (f"{_IN_NO_TEXT}{i}" if piece in special else piece, score)
            for i, (piece, score) in enumerate(state["vocab"])
        ]
        for_text.model = models.Unigram(pieces, state["unk_id"], state["byte_fallback"])
    for_text.no_padding()
    for_text.no_truncation()
    for_text.encode_special_tokens = True
    return for_text


def _start(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    bos = tokenizer.bos_token_id
    begins_with = tokenizer("a").input_ids[:1]
    return (bos,) if bos is not None and begins_with == [bos] else ()
