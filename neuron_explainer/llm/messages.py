"""One question to a language model, and its answer: immutable and complete."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol, TypeAlias

from neuron_explainer.llm.named_values import Alternatives
from neuron_explainer.llm.token_estimate import estimate_tokens

Role = Literal["system", "user", "assistant"]


class Request(Protocol):
    """What every question has, whatever it asks for."""

    @property
    def model(self) -> str:
        """Who is asked."""

    def key(self) -> str:
        """Hex digest that names the question: equal questions, equal keys."""

    def size(self) -> RequestSize:
        """What it may cost."""


class Answer(Protocol):
    """What every answer has."""

    @property
    def usage(self) -> Usage | None:
        """None: the server does not say."""

    @property
    def is_cached(self) -> bool:
        """It was given before, and cost nothing now."""


@dataclass(frozen=True, slots=True)
class RequestSize:
    """Tokens of a question, before it is asked."""

    n_prompt_tokens: int
    """About, unless the question is made of token ids."""
    n_prompt_bytes: int
    """UTF-8: no tokenizer makes more tokens of the text."""
    n_answer_tokens: int
    """At most."""

    @property
    def n_tokens(self) -> int:
        """What a limiter counts: the prompt, and the answer as long as it may get."""
        return self.n_prompt_tokens + self.n_answer_tokens


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """Asks for a text. Everything that can change an answer, and nothing that cannot."""

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
    """Also told apart by it: the n-th answer to one question has the seed n."""

    def key(self) -> str:
        return _digest(self)

    def size(self) -> RequestSize:
        texts = [message.content for message in self.messages]
        if self.json_schema is not None:
            texts.append(self.json_schema)
        n_bytes = sum(map(_n_bytes, texts))
        return RequestSize(sum(map(estimate_tokens, texts)), n_bytes, self.max_tokens)


@dataclass(frozen=True, slots=True)
class PromptLogprobRequest:
    """Asks which of some values a model expects at some places of a prompt, given what precedes.

    The prompt is `prefix` + `ids`; what stands at an asked position is not looked at there.
    """

    model: str
    prefix: tuple[int, ...]
    """Token ids that many requests share, such as few-shot examples; never empty."""
    ids: tuple[int, ...]
    """The rest of the prompt."""
    positions: tuple[int, ...]
    """Indices into `ids`, increasing, 0 to len(ids): what is expected in that place."""
    values: tuple[tuple[int, ...], ...]
    """Token ids of the value 0, of the value 1, and so on: one token each, or two, of which the
    first is another value's only token (`1`, `0` for 10)."""
    end: int
    """The token that follows a value, such as a line break's."""

    def key(self) -> str:
        return _digest(self)

    def size(self) -> RequestSize:
        """Of one reading of the prompt. A server may be asked more than once for it: there, each
        AlternativesRequest counts by itself."""
        n_tokens = len(self.prefix) + len(self.ids)
        return RequestSize(n_tokens, n_tokens, 0)


@dataclass(frozen=True, slots=True)
class AlternativesRequest:
    """Asks a server once for the most probable tokens at some places of a prompt of token ids."""

    model: str
    prompt: tuple[int, ...]
    places: tuple[int, ...]
    """Indices into the prompt, increasing; its length stands for what may come after it."""

    def key(self) -> str:
        return _digest(self)

    def size(self) -> RequestSize:
        """With the one token that servers write beside what they are asked for."""
        return RequestSize(len(self.prompt), len(self.prompt), 1)


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
    n_cache_write_tokens: int | None = None
    """Of the prompt, written to the server's cache; None: it does not say."""

    def __add__(self, other: Usage) -> Usage:
        """What one does not say, the sum does not say."""
        n_written = None
        if self.n_cache_write_tokens is not None and other.n_cache_write_tokens is not None:
            n_written = self.n_cache_write_tokens + other.n_cache_write_tokens
        return Usage(
            self.n_prompt_tokens + other.n_prompt_tokens,
            self.n_cached_tokens + other.n_cached_tokens,
            self.n_completion_tokens + other.n_completion_tokens,
            n_written,
        )


@dataclass(frozen=True, slots=True)
class Completion:
    """A text."""

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


@dataclass(frozen=True, slots=True)
class ExpectedValues:
    """What a model expects at each asked position: Σ v·p(v) over the values alone, renormalised.

    Bills et al. 2023, `simulator.py`.
    """

    expected: tuple[float | None, ...]
    """One a position; None where the server named none of the values."""
    usage: Usage | None
    is_cached: bool = False


@dataclass(frozen=True, slots=True)
class NamedAlternatives:
    """The answer to an AlternativesRequest."""

    at: tuple[Alternatives, ...]
    """One a place; empty where the server names none."""
    usage: Usage | None
    is_cached: bool = False


AnyRequest: TypeAlias = CompletionRequest | PromptLogprobRequest | AlternativesRequest


def fold_system(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The same without system messages, for models that take none: what they say goes before the
    first message of the user."""
    said = [message.content for message in messages if message.role == "system"]
    others = [message for message in messages if message.role != "system"]
    if not said:
        return messages
    first = next((i for i, message in enumerate(others) if message.role == "user"), None)
    if first is None:
        return (Message("user", "\n\n".join(said)), *others)
    others[first] = Message("user", "\n\n".join([*said, others[first].content]))
    return tuple(others)


def _digest(request: AnyRequest) -> str:
    text = json.dumps(_plain(request), sort_keys=True, ensure_ascii=False)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16)
    return digest.hexdigest()


def _plain(request: AnyRequest) -> dict[str, Any]:
    """As `dataclasses.asdict` has it, which copies each number of a prompt by itself."""
    plain = {field.name: getattr(request, field.name) for field in fields(request)}
    if isinstance(request, CompletionRequest):
        plain["messages"] = [{"role": m.role, "content": m.content} for m in request.messages]
    return plain


def _n_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
