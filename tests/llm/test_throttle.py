"""The limiter in virtual time: never too much in any minute, nothing idle, everyone in turn."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable

import pytest

from neuron_explainer.errors import LLMError, RateLimited, ServerFailed, TimedOut
from neuron_explainer.llm.messages import Completion, CompletionRequest, Message
from neuron_explainer.llm.throttle import N_FIRST, PAUSE_S, Limiter, ThrottledClient
from tests.llm.virtual_time import now_s, run

ANSWER = Completion("hi", "m", "stop", None, None)


def request(n_tokens: int = 10) -> CompletionRequest:
    return CompletionRequest("m", (Message("user", ""),), n_tokens)


class Server:
    """Remembers when it was asked and for how many tokens; fails when told."""

    def __init__(
        self,
        fails: Callable[[Server], LLMError | None] = lambda _server: None,
        latency_s: Callable[[], float] = lambda: 0.0,
        delay_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """latency_s: from the arrival to the answer. delay_s: on the way to the server."""
        self._fails = fails
        self._latency_s = latency_s
        self._delay_s = delay_s
        self.seen: list[tuple[float, int]] = []
        self.n_running = 0
        self.most_running = 0

    async def ask(self, request: CompletionRequest) -> Completion:
        await asyncio.sleep(self._delay_s())
        self.seen.append((now_s(), request.max_tokens))
        self.n_running += 1
        self.most_running = max(self.most_running, self.n_running)
        error = self._fails(self)
        await asyncio.sleep(self._latency_s())
        self.n_running -= 1
        if error is not None:
            raise error
        return ANSWER


def limiter(requests_a_minute: int = 10**6, tokens_a_minute: int | None = None, most: int = 128):
    return Limiter(requests_a_minute, tokens_a_minute, most_in_flight=most, clock=now_s)


async def send_all(
    server: Server, limiter: Limiter, requests: Iterable[CompletionRequest]
) -> list[Completion | BaseException]:
    client = ThrottledClient(server, limiter)
    return await asyncio.gather(*map(client.ask, requests), return_exceptions=True)


def most_in_a_minute(seen: list[tuple[float, int]]) -> tuple[int, int]:
    """(requests, tokens) of the fullest 60 seconds."""
    most = (0, 0)
    first = n_tokens = 0
    for last, (at, tokens) in enumerate(seen):
        n_tokens += tokens
        while seen[first][0] <= at - 60:
            n_tokens -= seen[first][1]
            first += 1
        most = (max(most[0], last - first + 1), max(most[1], n_tokens))
    return most


@pytest.mark.parametrize("a_minute", [1, 7, 20, 99, 250, 1500])
def test_no_minute_that_the_server_sees_is_too_full_and_none_is_idle(a_minute: int) -> None:
    rng = random.Random(a_minute)
    server = Server(delay_s=lambda: rng.uniform(0, 0.5), latency_s=lambda: rng.expovariate(2))
    n_requests = 4 * a_minute + 1
    run(send_all(server, limiter(a_minute), [request()] * n_requests))
    seen = sorted(server.seen)
    assert len(seen) == n_requests
    assert most_in_a_minute(seen)[0] <= a_minute
    assert (seen[-1][0] - seen[0][0]) * 0.95 <= 4 * 60


def test_no_minute_has_more_tokens_than_allowed() -> None:
    server = Server()
    sizes = [30, 70, 10, 90, 100, 5, 5, 5, 60, 40] * 4
    run(send_all(server, limiter(tokens_a_minute=100), map(request, sizes)))
    assert [n for _, n in server.seen] == sizes  # in the order they came
    assert most_in_a_minute(server.seen)[1] <= 100


def test_a_request_larger_than_a_minutes_tokens_goes_alone() -> None:
    server = Server()
    run(send_all(server, limiter(tokens_a_minute=100), map(request, [10, 500, 10])))
    times = [at for at, _ in server.seen]
    assert times == pytest.approx([0, 61.2, 122.4], abs=0.1)


def test_those_who_give_up_waiting_leave_no_hole() -> None:
    async def scenario(n_cancelled: int) -> list[float]:
        server = Server()
        client = ThrottledClient(server, limiter(20, tokens_a_minute=100))
        first = asyncio.create_task(client.ask(request()))
        cancelled = [asyncio.create_task(client.ask(request(100))) for _ in range(n_cancelled)]
        others = [asyncio.create_task(client.ask(request())) for _ in range(30)]
        for task in cancelled:
            asyncio.get_running_loop().call_later(1.0, task.cancel)
        await asyncio.gather(first, *others)
        assert all(task.cancelled() for task in cancelled)
        return [at for at, _ in server.seen]

    without = run(scenario(0))
    assert run(scenario(5)) == pytest.approx(without, abs=0.1)


def fail_at(errors: dict[int, LLMError]) -> Callable[[Server], LLMError | None]:
    """The n-th request to reach the server, from 1, gets its error."""
    return lambda server: errors.get(len(server.seen))


def test_a_rate_limit_makes_every_caller_wait() -> None:
    server = Server(fail_at({2: RateLimited("slow", 30.0), 4: RateLimited("slow")}))
    found = run(send_all(server, limiter(60), [request()] * 6))
    assert sum(isinstance(each, RateLimited) for each in found) == 2
    times = [at for at, _ in server.seen]
    assert [at for at in times if 2 < at < 31] == []
    assert 30 + PAUSE_S <= times[-1] <= 30 + PAUSE_S + 6


def test_another_failure_pauses_nobody() -> None:
    server = Server(fail_at({2: ServerFailed("broken")}))
    run(send_all(server, limiter(), [request()] * 6))
    assert server.seen[-1][0] < 1


def test_no_more_are_under_way_than_allowed() -> None:
    server = Server(latency_s=lambda: 1.0)
    run(send_all(server, limiter(most=3), [request()] * 20))
    assert server.most_running == 3


def test_a_server_that_keeps_up_gets_more_at_once_up_to_the_most() -> None:
    server = Server(latency_s=lambda: 1.0)
    one_limiter = limiter(most=40)
    run(send_all(server, one_limiter, [request()] * 3000))
    assert one_limiter.n_at_once == server.most_running == 40


def test_what_is_not_needed_is_not_allowed_either() -> None:
    async def one_after_the_other() -> int:
        one_limiter = limiter()
        for _ in range(200):
            await send_all(server, one_limiter, [request()])
        return one_limiter.n_at_once

    server = Server(latency_s=lambda: 1.0)
    assert run(one_after_the_other()) == N_FIRST


@pytest.mark.parametrize(
    "error", [RateLimited("slow", 0.0), TimedOut("late"), ServerFailed("full", is_overload=True)]
)
def test_an_overload_halves_once_a_round_trip(error: LLMError) -> None:
    one_limiter = limiter(most=64)
    server = Server(lambda _server: error if now_s() < 0.5 else None, latency_s=lambda: 1.0)
    run(send_all(server, one_limiter, [request()] * N_FIRST))  # all of them fail together
    assert one_limiter.n_at_once == N_FIRST // 2


@pytest.mark.parametrize("error", [ServerFailed("broken"), LLMError("no")])
def test_other_failures_change_nothing(error: LLMError) -> None:
    one_limiter = limiter()
    run(send_all(Server(lambda _server: error), one_limiter, [request()] * 40))
    assert one_limiter.n_at_once == N_FIRST


def test_an_overload_that_lasts_leaves_one_at_once_and_no_less() -> None:
    one_limiter = limiter()
    server = Server(lambda _server: TimedOut("late"), latency_s=lambda: 1.0)
    run(send_all(server, one_limiter, [request()] * 200))
    assert one_limiter.n_at_once == 1


def test_it_settles_near_what_the_server_can_do() -> None:
    def overloaded(server: Server) -> LLMError | None:
        return ServerFailed("full", is_overload=True) if server.n_running > 30 else None

    server = Server(overloaded, latency_s=lambda: 1.0)
    found = run(send_all(server, limiter(), [request()] * 5000))
    n_failed = sum(isinstance(each, LLMError) for each in found)
    assert n_failed < 0.02 * 5000
    assert server.seen[-1][0] < 5000 / 30 * 1.5  # at least two thirds of the best rate


def test_the_limiter_is_shared_by_clients_of_any_kind() -> None:
    async def two_clients() -> None:
        one_limiter = limiter(20)
        await asyncio.gather(
            *(send_all(server, one_limiter, [request()] * 30) for server in (one, other))
        )

    one, other = Server(), Server()
    run(two_clients())
    assert most_in_a_minute(sorted(one.seen + other.seen))[0] <= 20
