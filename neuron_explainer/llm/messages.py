"""One question to a language model, and its answer: immutable and complete."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """Everything that can change an answer, and nothing that cannot."""

    model: str
    messages: tuple[Message, ...]
    max_tokens: int
    """Of the answer; a reasoning model's thoughts count too."""
    temperature: float | None = None
    """None: not sent, as reasoning models demand."""
    top_p: float | None = None
    n_top_logprobs: int | None = None
    """Alternatives wanted with each token of the answer; None: no logprobs."""
    json_schema: str | None = None
    """JSON text of a strict schema that the answer must follow."""
    reasoning_effort: str | None = None
    seed: int | None = None

    def key(self) -> str:
        """Hex digest that names the question: equal questions, equal keys."""
        text = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """One token of an answer."""

    token: str
    logprob: float
    """Natural logarithm."""
    top: tuple[tuple[str, float], ...]
    """(token, logprob) of the most probable alternatives, the most probable first."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, as the server counts them."""

    n_prompt_tokens: int
    n_cached_tokens: int
    """Of the prompt, read from the server's cache."""
    n_completion_tokens: int


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer."""

    text: str
    model: str
    """As the server names it."""
    finish_reason: str
    """`stop`, or `length` when it was cut off at `max_tokens`."""
    usage: Usage | None
    """None: the server does not say."""
    logprobs: tuple[TokenLogprobs, ...] | None
    """One a token of the text; None: not asked for, or not given."""
    is_cached: bool = False
    """It was given before, and cost nothing now."""
