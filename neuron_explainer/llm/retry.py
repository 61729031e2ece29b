"""The only retry loop of the project."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from neuron_explainer.errors import LLMError, RateLimited
from neuron_explainer.llm.client import A, Client, Q

Sleep = Callable[[float], Awaitable[None]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Waits double from `first_wait_s` up to `longest_wait_s`, each shortened at random."""

    n_attempts: int = 6
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0

    def wait_s(self, n_failed: int, share: float) -> float:
        """After the n-th failure, from 1; share: in [0, 1), at random, takes up to half off."""
        full = min(self.longest_wait_s, self.first_wait_s * 2.0 ** (n_failed - 1))
        return full * (1 - share / 2)


class RetryingClient(Generic[Q, A]):
    """Asks again after errors that may pass; the last error is raised as it is.

    It is wrapped around what counts money: each attempt is paid for by itself.
    """

    def __init__(
        self,
        client: Client[Q, A],
        policy: RetryPolicy | None = None,
        *,
        rng: random.Random,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """rng: spreads the waits of many workers."""
        self._client = client
        self._policy = policy or RetryPolicy()
        self._rng = rng
        self._sleep = sleep

    async def ask(self, request: Q, /) -> A:
        return await retry(
            lambda: self._client.ask(request), self._policy, rng=self._rng, sleep=self._sleep
        )


async def retry(
    attempt: Callable[[], Awaitable[T]], policy: RetryPolicy, *, rng: random.Random, sleep: Sleep
) -> T:
    """What an attempt gives that does not fail with an error that may pass."""
    for n_failed in range(1, policy.n_attempts + 1):
        try:
            return await attempt()
        except LLMError as error:
            if not error.retryable or n_failed == policy.n_attempts:
                raise
            wait_s = policy.wait_s(n_failed, rng.random())
            if isinstance(error, RateLimited) and error.retry_after_s is not None:
                wait_s = max(wait_s, error.retry_after_s)
        await sleep(wait_s)
    raise AssertionError("a policy has at least one attempt")
