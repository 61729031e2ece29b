"""One limiter for all callers: requests and tokens a minute, shared pauses, and how many at once.

How many are under way adapts as in TCP (Chiu and Jain 1989, additive increase and multiplicative
decrease): one more after a round without trouble, half as many when the server is overloaded.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Generic

from asyncio_throttle.throttler import Throttler

from neuron_explainer.errors import LLMError, RateLimited
from neuron_explainer.llm.client import A, Client, Q

MINUTE_S = 60.0
MARGIN = 0.02
"""Our minute is so much longer: the server sees at most the limit, though some requests reach it
later than others. What goes out is thus 98 % of the limit."""
PAUSE_S = 5.0
"""After a 429 that does not say how long to wait."""
N_FIRST = 16
"""Requests under way at the start."""
N_SLICES = 500
"""Of a minute; at most so many requests of a minute's, or one, go out in each."""
LEAST_SLEEP_S = 1e-3
"""A shorter wait may be lost in the rounding of the clock's time, and never end."""

Clock = Callable[[], float]


class Limiter:
    """In no 60 seconds do more requests, or more tokens, begin than the limits allow.

    A request takes its estimated tokens before it is sent, as the server would: its prompt, and
    the answer as long as it may get. Requests go out evenly, some in each slice of the minute:
    few connections are used, and a server that counts by the second has nothing to complain of.
    """

    def __init__(
        self,
        requests_a_minute: int,
        tokens_a_minute: int | None = None,
        *,
        most_in_flight: int = 128,
        clock: Clock = time.monotonic,
    ) -> None:
        """tokens_a_minute None: no limit."""
        n_a_slice = max(1, requests_a_minute // N_SLICES)
        self._slice_s = MINUTE_S * (1 + MARGIN) * n_a_slice / requests_a_minute
        self._requests = Throttler(n_a_slice, self._slice_s, retry_interval=LEAST_SLEEP_S)
        self._begun: deque[float] = deque(maxlen=n_a_slice)
        """When the last requests took their places in the throttler."""
        self._most_tokens = tokens_a_minute
        self._taken: deque[tuple[float, int]] = deque()
        """(when, tokens) within the last minute, the oldest first."""
        self._n_taken = 0
        self._paused_until = 0.0
        self._concurrency = Concurrency(most_in_flight)
        self._ended = asyncio.Event()
        """Set whenever a request ends."""
        self._clock = clock
        self._turn = asyncio.Lock()

    @property
    def n_at_once(self) -> int:
        """How many may be under way, as it stands."""
        return self._concurrency.limit

    @asynccontextmanager
    async def place(self, n_tokens: int) -> AsyncIterator[None]:
        """Within it one request may be sent; callers get their place in the order they came.

        What is raised within tells the limiter how the server does.
        """
        async with self._turn:
            await self._wait_for_place(n_tokens)
            self._take_tokens(n_tokens)
            started = self._concurrency.begin()
        try:
            yield
        except LLMError as error:
            if error.is_overload:
                self._concurrency.halve(started)
            if isinstance(error, RateLimited):
                self.pause(PAUSE_S if error.retry_after_s is None else error.retry_after_s)
            raise
        else:
            self._concurrency.grow()
        finally:
            self._concurrency.end()
            self._ended.set()

    def pause(self, seconds: float) -> None:
        """Nobody sends anything for so long; a longer pause that is on already stays."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    async def _wait_for_place(self, n_tokens: int) -> None:
        """Takes nothing but a place in the throttler, and that last: a caller that is cancelled
        while it waits leaves no hole."""
        while True:
            while self._concurrency.holds_back():
                self._ended.clear()
                await self._ended.wait()
            while (wait_s := self._tokens_wait_s(n_tokens)) > 0:
                await asyncio.sleep(max(wait_s, LEAST_SLEEP_S))
            while (wait_s := self._paused_until - self._clock()) > 0:
                await asyncio.sleep(max(wait_s, LEAST_SLEEP_S))
            await self._take_request()
            is_paused = self._paused_until > self._clock()
            if not is_paused and not self._concurrency.holds_back():
                return

    async def _take_request(self) -> None:
        """Sleeps as long as the throttler would say no, which by itself looks again and again.

        60 s touch at most r / (n * (1 + MARGIN)) + 1 slices of n, of r requests a minute, so the
        server sees at most r / (1 + MARGIN) + n in them: fewer than r while n <= r / 100, or 1.
        """
        if len(self._begun) == self._begun.maxlen:
            wait_s = self._begun[0] + self._slice_s - self._clock()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
        await self._requests.acquire()
        self._begun.append(self._clock())

    def _tokens_wait_s(self, n_tokens: int) -> float:
        """0 when there is room for the tokens; a request that exceeds a minute's goes alone."""
        if self._most_tokens is None:
            return 0.0
        minute_ago = self._clock() - MINUTE_S * (1 + MARGIN)
        while self._taken and self._taken[0][0] <= minute_ago:
            self._n_taken -= self._taken.popleft()[1]
        if self._n_taken + min(n_tokens, self._most_tokens) <= self._most_tokens:
            return 0.0
        return self._taken[0][0] - minute_ago

    def _take_tokens(self, n_tokens: int) -> None:
        if self._most_tokens is not None:
            n_tokens = min(n_tokens, self._most_tokens)
            self._taken.append((self._clock(), n_tokens))
            self._n_taken += n_tokens


class Concurrency:
    """How many requests are under way, and how many may be."""

    def __init__(self, most: int) -> None:
        """most: never more than these."""
        self._most = most
        self.limit = min(N_FIRST, most)
        self._n_running = 0
        self._n_begun = 0
        self._is_wanted = False
        """Somebody waits because there is no room."""
        self._n_good = 0
        """Answers in a row while somebody waited."""
        self._first_that_halves = 0
        """Requests begun before it met the load that the last halving answered."""

    def holds_back(self) -> bool:
        """Whether the one whose turn it is must wait for room."""
        self._is_wanted = self._n_running >= self.limit
        return self._is_wanted

    def begin(self) -> int:
        """The request's number."""
        self._n_running += 1
        self._n_begun += 1
        return self._n_begun

    def end(self) -> None:
        self._n_running -= 1

    def grow(self) -> None:
        """After an answer: one more may go after as many of them as may be under way, in a row."""
        if not self._is_wanted:
            return
        self._n_good += 1
        if self._n_good >= self.limit:
            self._n_good = 0
            self.limit = min(self._most, self.limit + 1)

    def halve(self, number: int) -> None:
        """When the request of this number met an overload; once a round trip, not once each."""
        self._n_good = 0
        if number >= self._first_that_halves:
            self._first_that_halves = self._n_begun + 1
            self.limit = max(1, self.limit // 2)


class ThrottledClient(Generic[Q, A]):
    """Every attempt takes its place in the limiter; a 429 makes all of its callers wait."""

    def __init__(self, client: Client[Q, A], limiter: Limiter) -> None:
        self._client = client
        self._limiter = limiter

    async def ask(self, request: Q, /) -> A:
        async with self._limiter.place(request.size().n_tokens):
            return await self._client.ask(request)
