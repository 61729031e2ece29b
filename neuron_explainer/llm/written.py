"""Tokens as a local model writes them, and the text that each of them adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from neuron_explainer.llm.messages import TokenLogprobs

_CUT_CHARACTER = "\ufffd"
"""What a decoder shows for bytes that are no whole character."""


class WrittenText:
    """The tokens' strings, one after the other, are the text.

    A token that ends within a character has an empty string; the one that completes the character
    has all of it.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, before: Sequence[int], stop: str | None = None
    ) -> None:
        """before: ids of some text, as decoders treat the first token of all in their own way.
        stop: ends the text, and is not part of it.
        """
        self.is_stopped = False
        self._tokenizer = tokenizer
        self._stop = stop
        self._before = list(before)  # the last whole tokens
        self._open: list[int] = []  # since then: the bytes of a character that is not whole
        self._tokens: list[TokenLogprobs] = []

    def add(self, token: int, logprobs: Tensor, n_top: int) -> None:
        """logprobs: (vocabulary,), of which the `n_top` highest are shown."""
        top = logprobs.topk(n_top)
        alternatives = tuple(
            (self._added_by(other), logprob)
            for other, logprob in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        )
        string = self._added_by(token)
        if string.endswith(_CUT_CHARACTER):
            self._open.append(token)
            string = ""
        else:
            self._before, self._open = [*self._open, token] if string else self._before, []
        if self._stop is not None and self._stop in string:
            string = string[: string.index(self._stop)]
            self.is_stopped = True
        if string or not self.is_stopped:
            self._tokens.append(TokenLogprobs(string, logprobs[token].item(), alternatives))

    def finish(self) -> tuple[TokenLogprobs, ...]:
        """All tokens; what is left of a character goes to the last."""
        if self._open and not self.is_stopped:
            last = self._tokens[-1]
            self._tokens[-1] = replace(last, token=last.token + _CUT_CHARACTER)
            self._open = []
        return tuple(self._tokens)

    def _added_by(self, token: int) -> str:
        """With what is open before it; ends with the mark of a cut character if still open."""
        before = self._decode(self._before)
        text = self._decode([*self._before, *self._open, token])
        return text[len(before) :] if text.startswith(before) else _CUT_CHARACTER

    def _decode(self, ids: Sequence[int]) -> str:
        text = self._tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return str(text)
