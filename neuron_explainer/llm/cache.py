"""Answers that were given before cost nothing: neither money nor a place in the limiter."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol

from neuron_explainer.errors import StoreError
from neuron_explainer.llm.client import A, Client, Q
from neuron_explainer.llm.messages import (
    Completion,
    ExpectedValues,
    Request,
    TokenLogprobs,
    Usage,
)

N_DECIMALS = 5
"""Of an expected value, 0 to 10, or a logprob: a large model has hundreds of millions of them to
keep."""
_NUMBER = re.compile(r"(?<![0-9])(?:10|[0-9])\s*(?:\n|\Z)")
"""A line that ends with a number from 0 to 10."""


class ResponseCache(Protocol):
    """Texts by key; `stores/response_cache.py` keeps them in sqlite."""

    def read(self, key: str) -> str | None:
        """None when there is none."""

    def write(self, key: str, response: str) -> None:
        """Kept from now on; the first one written for a key stays."""


@dataclass(frozen=True, slots=True)
class AnswerFormat(Generic[A]):
    """How answers of one kind are kept as text."""

    write: Callable[[A], str]
    read: Callable[[str], A]
    """Marked as cached; ValueError, LookupError or TypeError for a text that is damaged."""
    as_kept: Callable[[A], A]
    """What is read again of an answer: used already the first time, so that a run that is
    interrupted ends as one that is not."""


def cache_key(namespace: str, request: Request) -> str:
    """Hex digest that names a question to somebody; namespace: to whom."""
    text = f"{namespace}\n{request.key()}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class CachedClient(Generic[Q, A]):
    """Wrapped outermost. An answer is asked for once, also when many want it at the same time.

    Errors are never kept; those who wait for the same answer share its error.
    """

    def __init__(
        self,
        client: Client[Q, A],
        cache: ResponseCache,
        answer_format: AnswerFormat[A],
        *,
        namespace: str,
    ) -> None:
        """namespace: what else changes the answers, such as the server's address."""
        self._client = client
        self._cache = cache
        self._format = answer_format
        self._namespace = namespace
        self._in_flight: dict[str, asyncio.Future[None]] = {}

    async def ask(self, request: Q, /) -> A:
        key = cache_key(self._namespace, request)
        while True:
            kept = self._cache.read(key)
            if kept is not None:
                return self._read(kept)
            first = self._in_flight.get(key)
            if first is None:
                return await self._ask_first(key, request)
            await asyncio.shield(first)  # who gives up waiting takes nobody's answer away

    async def _ask_first(self, key: str, request: Q) -> A:
        done = self._in_flight[key] = asyncio.get_running_loop().create_future()
        try:
            answer = self._format.as_kept(await self._client.ask(request))
            self._cache.write(key, self._format.write(answer))
        except Exception as error:
            done.set_exception(error)
            done.exception()  # seen, also when nobody else waits
            raise
        finally:
            del self._in_flight[key]
            if not done.done():  # kept; or cancelled, and another one asks
                done.set_result(None)
        return answer

    def _read(self, kept: str) -> A:
        try:
            return self._format.read(kept)
        except (ValueError, LookupError, TypeError) as error:
            raise StoreError(
                f"an answer in the cache is damaged ({error}); move the cache's file away"
            ) from error


def write_completion(completion: Completion) -> str:
    """As JSON."""
    logprobs = completion.logprobs
    return _compact(
        {
            "text": completion.text,
            "model": completion.model,
            "finish_reason": completion.finish_reason,
            "usage": _usage_fields(completion.usage),
            "logprobs": None
            if logprobs is None
            else [[t.token, t.logprob, t.top] for t in logprobs],
        }
    )


def read_completion(text: str) -> Completion:
    """What `write_completion` made, marked as cached."""
    raw: dict[str, Any] = json.loads(text)
    return Completion(
        text=raw["text"],
        model=raw["model"],
        finish_reason=raw["finish_reason"],
        usage=_read_usage(raw["usage"]),
        logprobs=None if raw["logprobs"] is None else tuple(map(_read_token, raw["logprobs"])),
        is_cached=True,
    )


def write_expected_values(values: ExpectedValues) -> str:
    return _compact({"expected": values.expected, "usage": _usage_fields(values.usage)})


def read_expected_values(text: str) -> ExpectedValues:
    raw: dict[str, Any] = json.loads(text)
    return ExpectedValues(tuple(raw["expected"]), _read_usage(raw["usage"]), is_cached=True)


def round_expected_values(values: ExpectedValues) -> ExpectedValues:
    """To five decimals; where nothing was said stays missing."""
    rounded = (None if value is None else round(value, N_DECIMALS) for value in values.expected)
    return replace(values, expected=tuple(rounded))


def keep_numbers(completion: Completion) -> Completion:
    """All that is used of an answer in numbers: its text, its tokens, and of their alternatives
    those in which a line ends with a number; logprobs to five decimals.

    A server gives 20 alternatives of each token, 100 kB a window. Few are numbers: `3`, or in
    vocabularies that merge them, `\t3`, `3\n4`.
    """
    if completion.logprobs is None:
        return completion
    return replace(completion, logprobs=tuple(map(_numbers_of, completion.logprobs)))


def _numbers_of(token: TokenLogprobs) -> TokenLogprobs:
    top = tuple(
        (text, round(logprob, N_DECIMALS)) for text, logprob in token.top if _NUMBER.search(text)
    )
    return TokenLogprobs(token.token, round(token.logprob, N_DECIMALS), top)


COMPLETIONS = AnswerFormat(write_completion, read_completion, lambda completion: completion)
NUMBERS = AnswerFormat(
    write_completion, lambda text: keep_numbers(read_completion(text)), keep_numbers
)
"""Of completions of which only the numbers are used; reads what COMPLETIONS wrote."""
EXPECTED_VALUES = AnswerFormat(write_expected_values, read_expected_values, round_expected_values)


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _usage_fields(usage: Usage | None) -> list[int | None] | None:
    if usage is None:
        return None
    counts: list[int | None] = [
        usage.n_prompt_tokens, usage.n_cached_tokens, usage.n_completion_tokens
    ]  # fmt: skip
    n_written = usage.n_cache_write_tokens
    return counts if n_written is None else [*counts, n_written]


def _read_usage(raw: list[Any] | None) -> Usage | None:
    return None if raw is None else Usage(*raw)


def _read_token(raw: tuple[str, float, list[list[Any]]]) -> TokenLogprobs:
    token, logprob, top = raw
    return TokenLogprobs(token, logprob, tuple((other, p) for other, p in top))
