"""The limiter on a clock of the test's own: never too much in any minute, and nothing idle."""

from __future__ import annotations

import asyncio

import pytest
from asyncio_throttle import throttler as throttler_module

from neuron_explainer.errors import RateLimited, ServerFailed
from neuron_explainer.llm.messages import Completion, CompletionRequest, Message
from neuron_explainer.llm.throttle import PAUSE_S, Limiter, ThrottledClient, estimate_tokens

ANSWER = Completion("hi", "m", "stop", None, None)


def request(n_tokens: int = 10) -> CompletionRequest:
    return CompletionRequest("m", (Message("user", ""),), n_tokens)


class FakeTime:
    """Time passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """The limiter's clock, and that of the throttle inside it."""
    clock = FakeTime()
    monkeypatch.setattr(throttler_module, "time", clock)
    monkeypatch.setattr(throttler_module, "asyncio", clock)
    return clock


class Server:
    """Remembers when it was asked and for how many tokens; fails when told."""

    def __init__(self, clock: FakeTime, errors: dict[int, Exception] | None = None) -> None:
        self._clock = clock
        self._errors = errors or {}
        self.seen: list[tuple[float, int]] = []

    async def complete(self, request: CompletionRequest) -> Completion:
        self.seen.append((self._clock.now, request.max_tokens))
        if len(self.seen) in self._errors:
            raise self._errors[len(self.seen)]
        return ANSWER


def send(clock: FakeTime, server: Server, requests, **limits) -> list[Completion | BaseException]:
    async def all_at_once() -> list[Completion | BaseException]:
        limiter = Limiter(clock=clock.monotonic, sleep=clock.sleep, **limits)
        client = ThrottledClient(server, limiter)
        asked = (client.complete(request) for request in requests)
        return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(all_at_once())


def most_in_a_minute(seen: list[tuple[float, int]]) -> tuple[int, int]:
    """(requests, tokens) of the fullest 60 seconds."""
    windows = [[n for at, n in seen if start <= at < start + 60] for start, _ in seen]
    return max(map(len, windows)), max(map(sum, windows))


def test_no_minute_has_more_requests_than_allowed_and_none_is_idle(clock: FakeTime) -> None:
    server = Server(clock)
    send(clock, server, [request()] * 95, requests_a_minute=20)
    assert most_in_a_minute(server.seen)[0] == 20
    assert clock.now - 1000 < 4 * 60 + 1


def test_no_minute_has_more_tokens_than_allowed(clock: FakeTime) -> None:
    server = Server(clock)
    sizes = [30, 70, 10, 90, 100, 5, 5, 5, 60, 40] * 4
    requests = [request(size) for size in sizes]
    send(clock, server, requests, requests_a_minute=1000, tokens_a_minute=100)
    assert [n for _, n in server.seen] == sizes  # in the order they came
    assert most_in_a_minute(server.seen)[1] <= 100


def test_a_request_larger_than_a_minutes_tokens_goes_alone(clock: FakeTime) -> None:
    server = Server(clock)
    requests = [request(10), request(500), request(10)]
    send(clock, server, requests, requests_a_minute=1000, tokens_a_minute=100)
    times = [at - 1000 for at, _ in server.seen]
    assert times == [0, 60, 120]


def test_a_rate_limit_makes_every_caller_wait(clock: FakeTime) -> None:
    server = Server(clock, {2: RateLimited("slow", 30.0), 4: RateLimited("slow")})
    found = send(clock, server, [request()] * 6, requests_a_minute=1000)
    assert sum(isinstance(each, RateLimited) for each in found) == 2
    times = [at - 1000 for at, _ in server.seen]
    assert times[-1] >= 30
    assert [at for at in times if 0 < at < 30] == []
    assert times[-1] <= 30 + PAUSE_S


def test_another_failure_pauses_nobody(clock: FakeTime) -> None:
    server = Server(clock, {2: ServerFailed("broken")})
    send(clock, server, [request()] * 6, requests_a_minute=1000)
    assert {at for at, _ in server.seen} == {1000.0}


def test_tokens_are_those_of_the_prompt_and_of_the_longest_answer() -> None:
    messages = (Message("system", "x" * 400), Message("user", "y" * 40))
    assert estimate_tokens(CompletionRequest("m", messages, 64)) == 110 + 64
