"""Prompt logprobs over real HTTP: what is sent, where values are read, and what gives none."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from neuron_explainer.errors import (
    AuthFailed,
    BadRequest,
    LLMError,
    RateLimited,
    Refused,
    ServerFailed,
)
from neuron_explainer.llm.budget import Budget, BudgetedClient, Charge
from neuron_explainer.llm.completions_client import AlternativesClient, CompletionsLogprobClient
from neuron_explainer.llm.messages import (
    AlternativesRequest,
    ExpectedValues,
    NamedAlternatives,
    PromptLogprobRequest,
    Usage,
)
from neuron_explainer.llm.named_values import NamedValues
from neuron_explainer.llm.retry import RetryingClient, RetryPolicy
from tests.llm.loopback import Loopback, Reply, failure, loopback

ONE_EACH = tuple((50 + v,) for v in range(11))
SPLIT = (*ONE_EACH[:10], (51, 50))
"""10 is `1`, `0`."""
TEXT = {50 + v: str(v) for v in range(11)} | {
    0: "<s>",
    9: "\n",
    1: "The",
    2: " cat",
    3: "\t",
    4: "unknown",
}
Shares = Mapping[int, float]
"""Token id -> probability."""


def request(
    values: tuple[tuple[int, ...], ...] = ONE_EACH, positions: tuple[int, ...] = (1, 4)
) -> PromptLogprobRequest:
    """The prompt is 1 2 | 3 4 9 3 4; asked are the two 4 by default."""
    return PromptLogprobRequest(
        "base", prefix=(1, 2), ids=(3, 4, 9, 3, 4), positions=positions, values=values, end=9
    )


PROMPT = (1, 2, 3, 4, 9, 3, 4)


def reply(choice: Mapping[str, Any], n_prompt: int | None = len(PROMPT), n_new: int = 1) -> Reply:
    usage = None if n_prompt is None else {
        "prompt_tokens": n_prompt, "completion_tokens": n_new, "total_tokens": n_prompt + n_new,
        "prompt_tokens_details": {"cached_tokens": 2},
    }  # fmt: skip
    whole = {"index": 0, "text": "", "finish_reason": "length", "logprobs": None, **choice}
    return Reply({"id": "1", "object": "text_completion", "created": 0, "model": "base",
                  "usage": usage, "choices": [whole]})  # fmt: skip


def echoed(at: Mapping[int, Shares], n: int = len(PROMPT), **changes: Any) -> Reply:
    """The prompt with alternatives; at: place in the prompt -> what is expected there."""
    shares = [at.get(place, {2: 0.9}) for place in range(n)]
    tops = [{TEXT[i]: math.log(p) for i, p in some.items()} for some in shares]
    logprobs = {"tokens": ["?"] * n, "token_logprobs": [None, *[-1.0] * (n - 1)],
                "top_logprobs": [None, *tops[1:]], "text_offset": [0] * n}  # fmt: skip
    return reply({"logprobs": logprobs}, **changes)


def vllm(at: Mapping[int, Shares], prompt: Sequence[int] = PROMPT, **changes: Any) -> Reply:
    named = []
    for place, token_id in enumerate(prompt):
        shares = {token_id: 1e-6, **at.get(place, {})}
        named.append(
            {
                str(i): {"logprob": math.log(p), "rank": 1, "decoded_token": TEXT[i]}
                for i, p in shares.items()
            }
        )
    return reply({"prompt_logprobs": [None, *named[1:]]}, **changes)


def following(shares: Mapping[str, float], **changes: Any) -> Reply:
    """What may come after a prompt that was cut."""
    top = {text: math.log(p) for text, p in shares.items()}
    logprobs = {"tokens": ["?"], "token_logprobs": [-1.0], "top_logprobs": [top]}
    return reply({"logprobs": logprobs}, **changes)


def ask(
    server: Loopback, question: PromptLogprobRequest | None = None, **options: Any
) -> ExpectedValues:
    async def once() -> ExpectedValues:
        client = CompletionsLogprobClient(
            api_key="sk-secret-key", base_url=server.base_url, timeout_s=20, **options
        )
        try:
            return await client.ask(question or request())
        finally:
            await client.close()

    return asyncio.run(once())


BOTH = {"echo": echoed, "prompt_logprobs": vllm}
EXPECTED = {3: {50: 0.1, 51: 0.7, 52: 0.2}, 6: {50: 0.5, 60: 0.25, 4: 0.2}}
"""Of place 3: 1.1; of place 6: 10/3 (Bills et al. 2023's code gives the same)."""


@pytest.mark.parametrize("form", BOTH)
def test_the_expected_value_of_each_asked_place(form: str) -> None:
    with loopback(BOTH[form](EXPECTED)) as server:
        found = ask(server, form=form)
    assert found.expected == pytest.approx((1.1, 10 / 3))
    assert found.usage == Usage(7, 2, 1)
    (body,) = server.bodies
    assert body["prompt"] == list(PROMPT)
    assert (body["model"], body["temperature"]) == ("base", 0.0)


def test_what_each_form_sends() -> None:
    with loopback(echoed(EXPECTED), vllm(EXPECTED)) as server:
        ask(server, form="echo", n_top_logprobs=5)
        ask(server, form="prompt_logprobs")
    echo, own = server.bodies
    assert (echo["echo"], echo["max_tokens"], echo["logprobs"]) == (True, 0, 5)
    assert "add_special_tokens" not in echo  # servers other than vLLM may not know it
    assert (own["prompt_logprobs"], own["max_tokens"]) == (20, 1)
    assert own["add_special_tokens"] is False
    assert "echo" not in own


def test_a_server_that_must_write_something_is_asked_for_one_token() -> None:
    with loopback(echoed(EXPECTED, n=8)) as server:
        found = ask(server, form="echo", max_tokens=1)
    assert found.expected == pytest.approx((1.1, 10 / 3))
    assert server.bodies[0]["max_tokens"] == 1


@pytest.mark.parametrize("form", BOTH)
def test_no_value_among_the_alternatives_is_none(form: str) -> None:
    with loopback(BOTH[form]({3: {4: 0.9, 2: 0.1}, 6: {53: 0.001}})) as server:
        assert ask(server, form=form).expected == (None, pytest.approx(3.0))


def test_a_text_must_be_the_values_exactly() -> None:
    """` 3` is another token than `3`; the published vector leaves it out."""
    top = {"0": math.log(0.5), "10": math.log(0.25), "unknown": math.log(0.2), " 3": math.log(0.05)}
    values = NamedValues.of(ONE_EACH, end=9)
    assert values.expected_value(top, {}) == pytest.approx(10 / 3)
    assert values.expected_value({"unknown": -0.1}, {}) is None


@pytest.mark.parametrize("form", BOTH)
def test_ten_as_two_tokens_takes_its_part_of_the_one(form: str) -> None:
    """p(10) = .8 · .75, p(1) = .8 · .25, p(0) = .2; at the other place 1 is too improbable."""
    zero, end = ("0", "\n") if form == "echo" else ("token_id:50", "token_id:9")
    at = {3: {50: 0.2, 51: 0.8}, 6: {50: 0.991, 51: 0.009}}
    with loopback(BOTH[form](at), following({zero: 0.6, end: 0.2, "x": 0.2})) as server:
        found = ask(server, request(SPLIT), form=form)
    assert found.expected == pytest.approx((10 * 0.6 + 1 * 0.2, 0.009))
    assert found.usage == Usage(14, 4, 2)
    _, cut = server.bodies
    assert cut["prompt"] == [1, 2, 3, 51]
    assert cut["max_tokens"] == 1
    assert "echo" not in cut


def test_what_would_follow_and_is_not_named_has_no_share() -> None:
    at = {3: {51: 0.5}, 6: {52: 0.5}}
    with loopback(echoed(at), following({"\n": 1.0})) as server:
        assert ask(server, request(SPLIT), form="echo").expected == pytest.approx((1.0, 2.0))


class Charges:
    def __init__(self) -> None:
        self.found: list[Charge] = []

    def add(self, charge: Charge) -> None:
        self.found.append(charge)


def test_each_single_request_is_tried_again_and_paid_for_by_itself() -> None:
    """And the first answer is not asked for twice when the second one fails."""
    charges = Charges()
    no_wait = RetryPolicy(n_attempts=2, first_wait_s=0.0)

    def guard(one: AlternativesClient) -> AlternativesClient:
        budgeted = BudgetedClient(one, Budget(charges), lambda _model: None)
        return RetryingClient(budgeted, no_wait, rng=random.Random(0))

    replies = (
        echoed({3: {51: 0.5}}), failure(429, "slow down", retry_after="0"), following({"0": 1.0},
                                                                                     n_prompt=4),
    )  # fmt: skip
    with loopback(*replies) as server:
        found = ask(server, request(SPLIT), form="echo", guard=guard)
    assert found.expected == (pytest.approx(10.0), None)
    assert [len(body["prompt"]) for body in server.bodies] == [7, 4, 4]
    assert [charge.n_prompt_tokens for charge in charges.found] == [7, 4]


@pytest.mark.parametrize("form", BOTH)
def test_no_request_costs_more_than_its_size_says(form: str) -> None:
    asked: list[AlternativesRequest] = []

    def guard(one: AlternativesClient) -> AlternativesClient:
        class Noting:
            async def ask(self, request: AlternativesRequest) -> NamedAlternatives:
                asked.append(request)
                return await one.ask(request)

        return Noting()

    at = {3: {51: 0.5}, 6: {51: 0.5}}
    after = following({"0": 1.0}, n_prompt=4), following({"0": 1.0})
    with loopback(BOTH[form](at), *after) as server:
        total = ask(server, request(SPLIT), form=form, max_tokens=1, guard=guard).usage
    sizes = [request.size() for request in asked]
    assert [size.n_prompt_tokens for size in sizes] == [7, 4, 7]
    assert total is not None
    assert sum(size.n_prompt_bytes for size in sizes) == total.n_prompt_tokens
    assert sum(size.n_answer_tokens for size in sizes) >= total.n_completion_tokens
    assert all(body["max_tokens"] <= 1 for body in server.bodies)


@pytest.mark.parametrize("form", BOTH)
def test_the_place_behind_the_prompt_can_be_asked_for(form: str) -> None:
    after = {"5": math.log(0.5), "7": math.log(0.5)}
    answer = BOTH[form](EXPECTED)
    assert isinstance(answer.body, dict)
    choice = answer.body["choices"][0]
    if form == "echo":
        choice["logprobs"]["top_logprobs"].append(after)
    else:
        choice["logprobs"] = {"tokens": ["5"], "token_logprobs": [-0.7], "top_logprobs": [after]}
    with loopback(answer) as server:
        found = ask(server, request(positions=(1, 5)), form=form)
    assert found.expected == pytest.approx((1.1, 6.0))
    assert server.bodies[0]["max_tokens"] == 1
    assert server.bodies[0]["logprobs"] == 20


NO_ECHO = reply({"logprobs": {"tokens": ["x"], "token_logprobs": [-1.0], "top_logprobs": [{}]}})
RETOKENISES = "makes other tokens"
NOT_AS_SENT = {
    "a token put before": ("echo", echoed(EXPECTED, n=8, n_prompt=8), RETOKENISES),
    "one token fewer, one written": ("echo", echoed(EXPECTED, n=7, n_prompt=6), RETOKENISES),
    "a token put before, no usage": ("echo", echoed(EXPECTED, n=8, n_prompt=None), RETOKENISES),
    "no echo": ("echo", NO_ECHO, "does not echo"),
    "no logprobs": ("echo", reply({}), "does not echo"),
    "vLLM, a token put before": ("prompt_logprobs", vllm(EXPECTED, (0, *PROMPT)), RETOKENISES),
    "vLLM, as many other tokens": ("prompt_logprobs", vllm(EXPECTED, (1, 2, 3, 3, 9, 3, 4)),
                                   RETOKENISES),
    "no vLLM": ("prompt_logprobs", reply({}), "does not know prompt_logprobs"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_AS_SENT)
def test_a_prompt_that_was_not_read_as_it_was_sent_is_refused(name: str) -> None:
    form, answer, words = NOT_AS_SENT[name]
    with loopback(answer) as server, pytest.raises(BadRequest, match=words):
        ask(server, form=form)


FAILURES = {
    "rate limit": (failure(429, "slow down"), RateLimited),
    "wrong key": (failure(401, "no"), AuthFailed),
    "too long": (failure(400, "maximum context length is 4 tokens"), BadRequest),
    "server error": (failure(500, "out of order"), ServerFailed),
    "garbage": (Reply("<html>oops</html>"), ServerFailed),
    "no choice": (Reply({"id": "1", "model": "m", "choices": []}), ServerFailed),
    "odd logprobs": (reply({"logprobs": {"top_logprobs": [3] * 7}}), ServerFailed),
    "not a number": (
        Reply('{"choices": [{"logprobs": {"top_logprobs": [{"1": NaN}]}}]}'),
        ServerFailed,
    ),
    "odd vLLM": (reply({"prompt_logprobs": [None, {"a": 1}]}), ServerFailed),
    "filter": (reply({"finish_reason": "content_filter"}), Refused),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_an_error_of_its_kind_in_one_line(name: str) -> None:
    answer, kind = FAILURES[name]
    form = "prompt_logprobs" if "vLLM" in name else "echo"
    with loopback(answer) as server, pytest.raises(LLMError) as raised:
        ask(server, form=form)
    assert type(raised.value) is kind
    assert "\n" not in str(raised.value)
    assert "sk-secret-key" not in str(raised.value)
    assert len(server.bodies) == 1


@pytest.mark.parametrize("values", [((5,), (6, 7)), ((5,), ()), ((5,), (5, 6, 7))])
def test_values_of_another_form_are_a_mistake_of_the_caller(values) -> None:
    with pytest.raises(ValueError, match="values must be"):
        NamedValues.of(values, end=9)
