"""One limiter for all callers: requests a minute, tokens a minute, and pauses that all share."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

from asyncio_throttle.throttler import Throttler

from neuron_explainer.errors import RateLimited
from neuron_explainer.llm.client import LLMClient
from neuron_explainer.llm.messages import Completion, CompletionRequest

MINUTE_S = 60.0
PAUSE_S = 5.0
"""After a 429 that does not say how long to wait."""
CHARS_A_TOKEN = 4

Sleep = Callable[[float], Awaitable[None]]
Clock = Callable[[], float]


class Limiter:
    """In no 60 seconds do more requests, or more tokens, begin than the limits allow.

    A request takes its estimated tokens before it is sent, as the server would: its prompt, and
    the answer as long as it may get.
    """

    def __init__(
        self,
        requests_a_minute: int,
        tokens_a_minute: int | None = None,
        *,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """tokens_a_minute None: no limit."""
        self._requests = Throttler(requests_a_minute, period=MINUTE_S)
        self._most_tokens = tokens_a_minute
        self._taken: deque[tuple[float, int]] = deque()
        """(when, tokens) within the last minute, the oldest first."""
        self._n_taken = 0
        self._paused_until = 0.0
        self._clock = clock
        self._sleep = sleep
        self._turn = asyncio.Lock()

    async def acquire(self, request: CompletionRequest) -> None:
        """Returns when the request may be sent; callers go in the order they came."""
        async with self._turn:
            await self._requests.acquire()
            await self._take_tokens(estimate_tokens(request))
            while (wait_s := self._paused_until - self._clock()) > 0:
                await self._sleep(wait_s)

    def pause(self, seconds: float) -> None:
        """Nobody sends anything for so long; a longer pause that is on already stays."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    async def _take_tokens(self, n_tokens: int) -> None:
        if self._most_tokens is None:
            return
        n_tokens = min(n_tokens, self._most_tokens)  # a larger one waits for a whole minute
        while self._forget() + n_tokens > self._most_tokens:
            await self._sleep(self._taken[0][0] + MINUTE_S - self._clock())
        self._taken.append((self._clock(), n_tokens))
        self._n_taken += n_tokens

    def _forget(self) -> int:
        """Drops what is a minute old; tokens that are left."""
        while self._taken and self._clock() - self._taken[0][0] >= MINUTE_S:
            self._n_taken -= self._taken.popleft()[1]
        return self._n_taken


class ThrottledClient:
    """Every attempt takes its place in the limiter; a 429 makes all of its callers wait."""

    def __init__(self, client: LLMClient, limiter: Limiter) -> None:
        self._client = client
        self._limiter = limiter

    async def complete(self, request: CompletionRequest) -> Completion:
        await self._limiter.acquire(request)
        try:
            return await self._client.complete(request)
        except RateLimited as error:
            self._limiter.pause(PAUSE_S if error.retry_after_s is None else error.retry_after_s)
            raise


def estimate_tokens(request: CompletionRequest) -> int:
    """Four characters a token, and the longest answer."""
    n_chars = sum(len(message.content) for message in request.messages)
    return n_chars // CHARS_A_TOKEN + request.max_tokens
