"""Answers that were given before cost nothing: neither money nor a place in the limiter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Protocol

from neuron_explainer.llm.client import LLMClient
from neuron_explainer.llm.messages import Completion, CompletionRequest, TokenLogprobs, Usage


class ResponseCache(Protocol):
    """Texts by key; `stores/response_cache.py` keeps them in sqlite."""

    def read(self, key: str) -> str | None:
        """None when there is none."""

    def write(self, key: str, response: str) -> None:
        """Kept from now on; the first one written for a key stays."""


class CachedClient:
    """Wrapped outermost. Errors are never kept."""

    def __init__(self, client: LLMClient, cache: ResponseCache) -> None:
        self._client = client
        self._cache = cache

    async def complete(self, request: CompletionRequest) -> Completion:
        key = request.key()
        kept = self._cache.read(key)
        if kept is not None:
            return replace(completion_from(json.loads(kept)), is_cached=True)
        completion = await self._client.complete(request)
        self._cache.write(key, json.dumps(asdict(completion)))
        return completion


def completion_from(raw: Mapping[str, Any]) -> Completion:
    """What `asdict` gave, after JSON."""
    usage, logprobs = raw["usage"], raw["logprobs"]
    return Completion(
        text=raw["text"],
        model=raw["model"],
        finish_reason=raw["finish_reason"],
        usage=None if usage is None else Usage(**usage),
        logprobs=None if logprobs is None else tuple(map(_token_from, logprobs)),
    )


def _token_from(raw: Mapping[str, Any]) -> TokenLogprobs:
    top = tuple((token, logprob) for token, logprob in raw["top"])
    return TokenLogprobs(raw["token"], raw["logprob"], top)
