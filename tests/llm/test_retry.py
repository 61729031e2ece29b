"""The retry loop: what is asked again, how often, and after how long."""

from __future__ import annotations

import asyncio
import random

import pytest

from neuron_explainer.errors import (
    AuthFailed,
    BudgetExceeded,
    LLMError,
    RateLimited,
    ServerFailed,
    TimedOut,
)
from neuron_explainer.llm.messages import Completion, CompletionRequest, Message
from neuron_explainer.llm.retry import RetryingClient, RetryPolicy
from tests.fakes import FakeClient, completion

REQUEST = CompletionRequest("m", (Message("user", "hi"),), 5)
ANSWER = completion("hi")


def ask(*outcomes: Completion | Exception, policy: RetryPolicy | None = None):
    """(answer or error, waits, how often it was asked)"""
    waits: list[float] = []

    async def remember(seconds: float) -> None:
        waits.append(seconds)

    client = FakeClient[CompletionRequest, Completion](outcomes)
    retrying = RetryingClient(client, policy, rng=random.Random(0), sleep=remember)
    try:
        found = asyncio.run(retrying.ask(REQUEST))
    except LLMError as error:
        return error, waits, len(client.requests)
    return found, waits, len(client.requests)


def test_an_answer_is_not_asked_for_twice() -> None:
    assert ask(ANSWER, ANSWER) == (ANSWER, [], 1)


def test_errors_that_may_pass_are_asked_again() -> None:
    found, waits, _ = ask(ServerFailed("a"), TimedOut("b"), RateLimited("c"), ANSWER)
    assert found is ANSWER
    assert len(waits) == 3
    for wait, full in zip(waits, (1, 2, 4), strict=True):
        assert full / 2 < wait <= full


def test_an_error_that_will_not_pass_is_raised_at_once() -> None:
    error = AuthFailed("wrong key")
    assert ask(error, ANSWER) == (error, [], 1)


def test_the_last_error_is_raised_as_it_is() -> None:
    errors = [ServerFailed(str(i)) for i in range(9)]
    found, waits, n_asked = ask(*errors, policy=RetryPolicy(n_attempts=4))
    assert found is errors[3]
    assert len(waits) == 3
    assert n_asked == 4


def test_the_server_may_ask_for_a_longer_wait() -> None:
    _, waits, _ = ask(RateLimited("a", retry_after_s=33.0), RateLimited("b", 0.0), ANSWER)
    assert waits[0] == 33.0
    assert waits[1] > 0.9


def test_waits_have_an_end() -> None:
    policy = RetryPolicy(first_wait_s=1, longest_wait_s=10)
    assert [policy.wait_s(n, 0.0) for n in range(1, 7)] == [1, 2, 4, 8, 10, 10]


@pytest.mark.parametrize("error", [ZeroDivisionError(), BudgetExceeded(1.0, 1.0)])
def test_a_mistake_of_our_own_and_an_empty_purse_are_not_asked_again(error: Exception) -> None:
    with pytest.raises(type(error)):
        ask(error, ANSWER)
