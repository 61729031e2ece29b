"""Logprobs in the three shapes that servers give them in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.llm.rule_logprobs import Choice, logprob_of
from tests.llm.rule_tokens import RuleTokenizer

Choices = Sequence[Choice]
"""What may stand at one place."""


def chat_shape(
    tokenizer: RuleTokenizer, ids: Sequence[int], places: Sequence[Choices]
) -> dict[str, Any]:
    """Of /v1/chat/completions."""

    def entry(choice: Choice) -> dict[str, Any]:
        raw, text = tokenizer.bytes_of[choice.token_id], tokenizer.text_of[choice.token_id]
        return {"token": text, "logprob": choice.logprob, "bytes": list(raw)}

    content = [
        {**entry(Choice(i, logprob_of(i, choices))), "top_logprobs": list(map(entry, choices))}
        for i, choices in zip(ids, places, strict=True)
    ]
    return {"content": content, "refusal": None}


def completion_shape(
    tokenizer: RuleTokenizer, ids: Sequence[int], places: Sequence[Choices], *, is_start: bool
) -> dict[str, Any]:
    """Of /v1/completions; is_start: nothing is known of the first token, which begins a prompt."""
    texts = [tokenizer.text_of[i] for i in ids]
    logprobs: list[float | None] = [
        logprob_of(i, choices) for i, choices in zip(ids, places, strict=True)
    ]
    tops: list[dict[str, float] | None] = [
        {tokenizer.text_of[c.token_id]: c.logprob for c in choices} for choices in places
    ]
    if is_start:
        logprobs[0] = tops[0] = None
    offsets = [0]
    for text in texts[:-1]:
        offsets.append(offsets[-1] + len(text))
    return {
        "tokens": texts, "token_logprobs": logprobs, "top_logprobs": tops, "text_offset": offsets,
    }  # fmt: skip


def vllm_shape(
    tokenizer: RuleTokenizer, prompt: Sequence[int], places: Sequence[Choices]
) -> list[dict[str, Any] | None]:
    """vLLM's `prompt_logprobs`: by token id, the prompt's own token always among them."""
    found: list[dict[str, Any] | None] = [None]
    for token_id, choices in zip(prompt[1:], places[1:], strict=True):
        shown = {c.token_id: c.logprob for c in choices}
        shown.setdefault(token_id, logprob_of(token_id, choices))
        found.append(
            {
                str(i): {"logprob": p, "rank": rank, "decoded_token": tokenizer.text_of[i]}
                for rank, (i, p) in enumerate(shown.items(), start=1)
            }
        )
    return found
