"""The client over real HTTP: what is sent, what is read, and every way in which it can fail."""

from __future__ import annotations

import asyncio

import pytest

from neuron_explainer.errors import (
    AuthFailed,
    BadRequest,
    LLMError,
    RateLimited,
    Refused,
    ServerFailed,
)
from neuron_explainer.llm.messages import Completion, CompletionRequest, Message, Usage
from neuron_explainer.llm.openai_client import OpenAIClient
from tests.llm.loopback import Loopback, Reply, answer, failure, loopback

KEY = "sk-this-is-a-secret-0123456789"
REQUEST = CompletionRequest(
    model="some-model",
    messages=(Message("system", "You are brief."), Message("user", "Say “hi”.")),
    max_tokens=5,
)


def ask(server: Loopback, request: CompletionRequest = REQUEST, **options) -> Completion:
    async def once() -> Completion:
        client = OpenAIClient(api_key=KEY, base_url=server.base_url, timeout_s=20, **options)
        try:
            return await client.complete(request)
        finally:
            await client.close()

    return asyncio.run(once())


def test_a_question_and_its_answer() -> None:
    with loopback(answer("hi")) as server:
        found = ask(server)
    assert found == Completion("hi", "loopback-1", "stop", Usage(7, 0, 2), None)
    assert server.bodies == [
        {
            "model": "some-model",
            "messages": [
                {"role": "system", "content": "You are brief."},
                {"role": "user", "content": "Say “hi”."},
            ],
            "max_tokens": 5,
        }
    ]


def test_only_what_was_chosen_is_sent() -> None:
    request = CompletionRequest(
        "m", REQUEST.messages, 9, temperature=0.0, top_p=0.5, n_top_logprobs=3, seed=4,
        json_schema='{"type": "object"}', reasoning_effort="low",
    )  # fmt: skip
    with loopback(answer("{}")) as server:
        ask(server, request, is_reasoning=True)
    (body,) = server.bodies
    assert body["max_completion_tokens"] == 9
    assert "max_tokens" not in body
    assert (body["temperature"], body["top_p"], body["seed"]) == (0.0, 0.5, 4)
    assert (body["logprobs"], body["top_logprobs"]) == (True, 3)
    assert body["reasoning_effort"] == "low"
    assert body["response_format"]["json_schema"]["strict"] is True
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}


def test_logprobs_and_cached_tokens_are_read() -> None:
    top = [{"token": "4", "logprob": -0.1, "bytes": None}, {"token": "5", "logprob": -2.5}]
    entry = {"token": "4", "logprob": -0.1, "bytes": None, "top_logprobs": top}
    usage = {"prompt_tokens": 70, "completion_tokens": 1, "total_tokens": 71,
             "prompt_tokens_details": {"cached_tokens": 64}}  # fmt: skip
    reply = answer("4", logprobs={"content": [entry], "refusal": None}, usage=usage)
    with loopback(reply) as server:
        found = ask(server)
    assert found.usage == Usage(70, 64, 1)
    assert found.logprobs is not None
    assert found.logprobs[0].top == (("4", -0.1), ("5", -2.5))


def test_a_server_that_does_not_count_has_no_usage() -> None:
    with loopback(answer("hi", usage=None)) as server:
        assert ask(server).usage is None


def test_an_answer_that_was_cut_off_says_so() -> None:
    with loopback(answer("it fires on", finish_reason="length")) as server:
        assert ask(server).finish_reason == "length"


FAILURES = {
    "rate limit": (failure(429, "slow down", retry_after="7"), RateLimited, "slow down"),
    "rate limit in ms": (failure(429, "slow", retry_after_ms="250"), RateLimited, "slow"),
    "no credit": (failure(429, "pay first", "insufficient_quota"), AuthFailed, "pay first"),
    "server error": (failure(500, "out of order"), ServerFailed, "out of order"),
    "overloaded": (failure(529, "too busy"), ServerFailed, "529"),
    "wrong key": (failure(401, f"bad key {KEY[:6]}***{KEY[-4:]}"), AuthFailed, "401"),
    "no model": (failure(404, "no such model"), BadRequest, "no such model"),
    "key quoted": (failure(400, f"what is {KEY}?"), BadRequest, "what is …"),
    "garbage": (Reply("<html>oops</html>"), ServerFailed, "answer"),
    "half": (Reply('{"id": "1", "cho', is_cut=True), ServerFailed, ""),
    "no choice": (Reply({"id": "1", "model": "m", "choices": []}), ServerFailed, "no choice"),
    "empty": (answer(""), ServerFailed, "empty"),
    "only thoughts": (answer(None, finish_reason="length"), BadRequest, "max_tokens"),
    "refusal": (answer(None, refusal="I will not."), Refused, "I will not."),
    "filter": (answer("par", finish_reason="content_filter"), Refused, "content filter"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_an_error_of_its_kind_in_one_line_without_the_key(name: str) -> None:
    reply, kind, words = FAILURES[name]
    with loopback(reply) as server, pytest.raises(LLMError) as raised:
        ask(server)
    assert type(raised.value) is kind
    message = str(raised.value)
    assert words in message
    assert "\n" not in message
    assert KEY not in repr((message, raised.value.__cause__, raised.value.args))
    assert KEY[-4:] not in message
    assert len(server.bodies) == 1  # the package behind must not ask again by itself


def test_retry_after_is_in_seconds() -> None:
    waits = []
    for name in ("rate limit", "rate limit in ms"):
        with loopback(FAILURES[name][0]) as server, pytest.raises(RateLimited) as raised:
            ask(server)
        waits.append(raised.value.retry_after_s)
    assert waits == [7.0, 0.25]


def test_no_server_at_the_address_is_a_broken_connection() -> None:
    with loopback() as server:
        pass
    with pytest.raises(ServerFailed, match=r"no connection to http://127\.0\.0\.1"):
        ask(server)
