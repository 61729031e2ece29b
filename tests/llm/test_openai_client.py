"""The client over real HTTP: what is sent, what is read, and every way in which it can fail."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from dataclasses import replace

import pytest

from neuron_explainer.errors import (
    AuthFailed,
    BadRequest,
    LLMError,
    RateLimited,
    Refused,
    ServerFailed,
    TimedOut,
    UsageError,
)
from neuron_explainer.llm.chat_body import ChatForm, read_completion, thinks_first
from neuron_explainer.llm.messages import Completion, CompletionRequest, Message, Usage
from neuron_explainer.llm.openai_client import (
    NO_KEY,
    OpenAIClient,
    address_of,
    read_api_key,
)
from tests.llm.loopback import Loopback, Reply, answer, failure, loopback

KEY = "sk-this-is-a-secret-0123456789"
REQUEST = CompletionRequest(
    model="some-model",
    messages=(Message("system", "You are brief."), Message("user", "Say “hi”.")),
    max_tokens=5,
)


def ask(
    server: Loopback, request: CompletionRequest = REQUEST, api_key: str = KEY, **options
) -> Completion:
    async def once() -> Completion:
        client = OpenAIClient(api_key=api_key, base_url=server.base_url, timeout_s=20, **options)
        try:
            return await client.ask(request)
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


CHOSEN = CompletionRequest(
    "m", REQUEST.messages, 9, temperature=0.0, top_p=0.5, n_top_logprobs=3, seed=4,
    json_schema='{"type": "object"}',
)  # fmt: skip


def test_only_what_was_chosen_is_sent() -> None:
    with loopback(answer("{}")) as server:
        ask(server, CHOSEN)
    (body,) = server.bodies
    assert body["max_tokens"] == 9
    assert (body["temperature"], body["top_p"], body["seed"]) == (0.0, 0.5, 4)
    assert (body["logprobs"], body["top_logprobs"]) == (True, 3)
    assert body["response_format"]["json_schema"]["strict"] is True
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert {"max_completion_tokens", "reasoning_effort"}.isdisjoint(body)


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"model": "o3-mini"}, {}),
        ({"model": "openai/gpt-5-nano"}, {}),
        ({"reasoning_effort": "low"}, {}),
        ({}, {"form": ChatForm(is_reasoning=True)}),
    ],
)
def test_a_reasoning_model_is_sent_no_sampling_and_the_limit_by_its_own_name(
    changes: dict[str, str], options: dict[str, bool]
) -> None:
    request = replace(CHOSEN, n_top_logprobs=None, **changes)
    with loopback(answer("{}")) as server:
        ask(server, request, **options)
    (body,) = server.bodies
    assert body["max_completion_tokens"] == 9
    assert body.get("reasoning_effort") == request.reasoning_effort
    assert {"max_tokens", "temperature", "top_p", "logprobs"}.isdisjoint(body)


def test_a_model_that_takes_no_system_message_is_told_by_the_user() -> None:
    with loopback(answer("hi")) as server:
        ask(server, form=ChatForm(takes_system=False))
    assert server.bodies[0]["messages"] == [
        {"role": "user", "content": "You are brief.\n\nSay “hi”."}
    ]


def test_the_server_learns_the_key_and_nothing_of_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    with loopback(answer("hi")) as server:
        ask(server)
    (headers,) = server.headers
    sent = {name.lower(): value for name, value in headers.items()}
    assert sent["authorization"] == f"Bearer {KEY}"
    assert sent["openai-organization"] == "org-1"
    assert sent["content-type"] == "application/json"
    assert [name for name in sent if "stainless" in name] == []


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_to_another_server_does_not_take_the_key_along(status: int) -> None:
    with loopback(answer("hi")) as other:
        there = {"Location": f"{other.base_url}/chat/completions"}
        with loopback(Reply("", status, there)) as server:
            assert ask(server).text == "hi"
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(other.headers)


def test_a_text_that_is_no_unicode_is_sent_all_the_same() -> None:
    request = replace(REQUEST, messages=(Message("user", "half \ud83d"),))
    with loopback(answer("hi")) as server:
        assert ask(server, request).text == "hi"


@pytest.mark.parametrize("word", ["k", "server", NO_KEY])
def test_a_word_given_for_want_of_a_key_is_no_secret(word: str) -> None:
    said = f"the server knows the word {word}, like everybody"
    with loopback(failure(400, said)) as server, pytest.raises(BadRequest) as raised:
        ask(server, api_key=word)
    assert str(raised.value) == f"the server said 400: {said}"


def test_a_reasoning_model_is_not_asked_for_logprobs() -> None:
    with loopback() as server, pytest.raises(BadRequest, match="--simulation structured"):
        ask(server, replace(CHOSEN, model="gpt-5"))
    assert server.bodies == []


def test_who_says_otherwise_is_believed() -> None:
    with loopback(answer("{}")) as server:
        ask(server, replace(CHOSEN, model="o1"), form=ChatForm(is_reasoning=False))
    assert server.bodies[0]["logprobs"] is True


def test_reasoning_models_are_known_by_name() -> None:
    names = (
        "o1 o1-preview o3-mini openai/o4-mini gpt-5 gpt-5-nano-2025-08-07 gpt-5.4-mini gpt-6-luna"
    )
    others = (
        "gpt-4o gpt-4.1-mini gpt-5-chat-latest gpt-oss-20b olmo-2 opt-1.3b meta/llama3 o gpt-50"
    )
    assert [name for name in names.split() if not thinks_first(name)] == []
    assert [name for name in others.split() if thinks_first(name)] == []


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


def test_what_was_written_to_the_cache_is_read_where_the_server_says_it() -> None:
    found = []
    for written in ({"cache_write_tokens": 6}, {"cache_write_tokens": None}, {}):
        usage = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": written}
        with loopback(answer("hi", usage=usage)) as server:
            found.append(ask(server).usage)
    assert found == [Usage(9, 0, 1, 6), Usage(9, 0, 1), Usage(9, 0, 1)]


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
    "gateway": (failure(408, "too late"), TimedOut, "too late"),
    "overloaded": (failure(529, "too busy"), ServerFailed, "529"),
    "wrong key": (failure(401, f"bad key {KEY[:6]}***{KEY[-4:]}"), AuthFailed, "401"),
    "no model": (failure(404, "no such model"), BadRequest, "no such model"),
    "key quoted": (failure(400, f"what is {KEY}?"), BadRequest, "what is …"),
    "garbage": (Reply("<html>oops</html>"), ServerFailed, "answer"),
    "no such size": (Reply('{"choices": [3]}'), ServerFailed, "cannot be read"),
    "no number": (Reply('{"choices": NaN}'), ServerFailed, "cannot be read"),
    "a list": (Reply("[]"), ServerFailed, "cannot be read"),
    "parts": (answer([{"type": "text"}]), ServerFailed, "cannot be read"),
    "half": (Reply('{"id": "1", "cho', is_cut=True), ServerFailed, ""),
    "no choice": (Reply({"id": "1", "model": "m", "choices": []}), ServerFailed, "no choice"),
    "empty": (answer(""), ServerFailed, "empty"),
    "only thoughts": (answer(None, finish_reason="length"), BadRequest, "max_tokens"),
    "a page": (Reply("<html>" + "oops" * 9999, 502), ServerFailed, "502: <html>oops"),
    "a list for an error": (Reply('{"error": [1]}', 400), BadRequest, "400: [1]"),
    "nothing": (Reply("", 400), BadRequest, "nothing more"),
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
    assert len(message) < 700
    assert KEY not in repr((message, raised.value.__cause__, raised.value.args))
    assert KEY[-4:] not in message
    assert len(server.bodies) == 1  # the package behind must not ask again by itself


UNKNOWN_COST = {"garbage", "half", "no such size", "no number", "a list", "no choice"}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_says_what_the_server_counted_or_that_nobody_can_know(name: str) -> None:
    with loopback(FAILURES[name][0]) as server, pytest.raises(LLMError) as raised:
        ask(server)
    is_counted = name in {"empty", "only thoughts", "refusal", "filter", "parts"}
    assert raised.value.usage == (Usage(7, 0, 2) if is_counted else None)
    assert raised.value.may_cost is (name in UNKNOWN_COST)


def test_an_answer_that_is_none_may_cost_without_a_count() -> None:
    for reply in (answer("", usage=None), answer(None, refusal="no", usage=None)):
        with loopback(reply) as server, pytest.raises(LLMError) as raised:
            ask(server)
        assert raised.value.may_cost


def test_overloads_are_told_from_faults() -> None:
    found = {}
    for status in (429, 500, 502, 503, 504, 529, 400):
        with loopback(failure(status, "no")) as server, pytest.raises(LLMError) as raised:
            ask(server)
        found[status] = raised.value.is_overload
    assert [status for status, is_overload in found.items() if is_overload] == [
        429, 502, 503, 504, 529
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("param", "flag"), [("temperature", "--temperature"), ("logprobs", "--simulation structured")]
)
def test_what_the_server_does_not_support_is_said_with_the_flag(param: str, flag: str) -> None:
    error = {"message": f"Unsupported value: '{param}' does not support 0.", "param": param}
    with loopback(Reply({"error": error}, 400)) as server, pytest.raises(BadRequest) as raised:
        ask(server)
    assert "Unsupported value" in str(raised.value)
    assert flag in str(raised.value)


def test_an_answer_that_never_comes_is_late_and_may_cost() -> None:
    async def once(port: int) -> None:
        client = OpenAIClient(api_key=KEY, base_url=f"http://127.0.0.1:{port}/v1", timeout_s=0.2)
        try:
            await client.ask(REQUEST)
        finally:
            await client.close()

    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimedOut) as raised:
        asyncio.run(once(silent.getsockname()[1]))
    assert raised.value.may_cost
    assert "--timeout-s" in str(raised.value)


@pytest.mark.parametrize("usage", [None, [], {}, {"prompt_tokens": None}, {"prompt_tokens": -1}])
def test_a_count_that_is_none_is_no_count(usage: object) -> None:
    body = json.dumps({**answer("hi").body, "usage": usage})
    assert read_completion(body.encode()).usage is None


def test_a_probability_of_zero_is_a_number() -> None:
    entry = '{"token": "a", "logprob": -Infinity, "top_logprobs": []}'
    body = json.dumps(answer("a", logprobs={"content": ["X"]}).body).replace('"X"', entry)
    found = read_completion(body.encode())
    assert found.logprobs is not None
    assert found.logprobs[0].logprob == -9999.0


def test_thoughts_are_no_part_of_an_answer() -> None:
    body = answer("hi").body
    body["choices"][0]["message"]["reasoning_content"] = "let me see"
    assert read_completion(json.dumps(body).encode()).text == "hi"


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
    with pytest.raises(ServerFailed, match=r"no connection to http://127\.0\.0\.1") as raised:
        ask(server)
    assert not raised.value.may_cost


def test_an_address_is_told_without_the_name_and_password_in_it() -> None:
    assert address_of("http://me:secret@host:8000/v1/") == "http://host:8000/v1"
    assert address_of(None) == "https://api.openai.com/v1"
    with loopback() as server:
        pass
    server.base_url = server.base_url.replace("http://", "http://me:secret@")
    with pytest.raises(ServerFailed) as raised:
        ask(server)
    assert "secret" not in str(raised.value)


def test_the_key_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with loopback(answer("hi"), failure(401, "no")) as server:
        ask(server)
        with pytest.raises(AuthFailed):
            ask(server)
    assert caplog.text
    assert KEY not in caplog.text


def test_a_key_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    assert read_api_key("MY_KEY", None) == KEY
    monkeypatch.setenv("MY_KEY", "sk-“quoted”")
    with pytest.raises(UsageError, match="MY_KEY is no key") as raised:
        read_api_key("MY_KEY", None)
    assert "quoted" not in str(raised.value)


@pytest.mark.parametrize("base_url", [None, "https://eu.api.openai.com/v1"])
def test_openai_needs_a_key(monkeypatch: pytest.MonkeyPatch, base_url: str | None) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(UsageError, match="MY_KEY is not set"):
        read_api_key("MY_KEY", base_url)
    assert read_api_key("MY_KEY", "http://localhost:8000/v1") == NO_KEY
    assert read_api_key("MY_KEY", "https://notopenai.com/v1") == NO_KEY
