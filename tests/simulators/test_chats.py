"""The three simulators that ask a chat: what they send, what they read, what they leave missing."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace

import pytest

from neuron_explainer.errors import AuthFailed, BadRequest, BudgetExceeded, Refused
from neuron_explainer.llm.messages import Completion, CompletionRequest
from neuron_explainer.prompts.simulate_json import SCHEMA
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.simulators.base import Simulator
from neuron_explainer.simulators.one_at_a_time import OneAtATimeSimulator
from neuron_explainer.simulators.streaming import StreamingSimulator
from neuron_explainer.simulators.structured import StructuredSimulator
from tests.fakes import FakeClient, completion
from tests.simulators.examples import FEW_SHOT, explained, simulate, written

KINDS = {
    "one_at_a_time": OneAtATimeSimulator,
    "streaming": StreamingSimulator,
    "structured": StructuredSimulator,
}
Chat = FakeClient[CompletionRequest, Completion]


def make(kind: str, replies, **options) -> tuple[Simulator, Chat]:
    client = Chat(replies)
    return KINDS[kind](
        client, model="m", model_label="openai:m", few_shot=FEW_SHOT, **options
    ), client


def spelled(*tokens: str | tuple[str, dict[str, float]]) -> Completion:
    """An answer of these tokens; those with alternatives have them beside."""
    logprobs = [written(t) if isinstance(t, str) else written(*t) for t in tokens]
    return completion("".join(token.token for token in logprobs), logprobs)


def expected_of(kind: str, answer: Completion | Exception, tokens: list[str]) -> list[float | None]:
    simulator, _ = make(kind, lambda _: answer)
    return list(simulate(simulator, tokens).expected_activations)


# All three.


@pytest.mark.parametrize("kind", KINDS)
def test_a_simulation_is_normalized_and_named_after_the_method_and_the_model(kind: str) -> None:
    simulator, client = make(kind, lambda _: spelled("1\t", "3", "\n"))
    simulation = simulate(simulator, ["a"])
    assert simulator.name == f"{kind} openai:m"
    assert (simulation.tokens, simulation.scale) == (("a",), ActivationScale.NORMALIZED)
    assert all(request.model == "m" for request in client.requests)


@pytest.mark.parametrize("kind", KINDS)
def test_refused_is_missing_and_the_reason_is_logged(kind: str, caplog) -> None:
    caplog.set_level(logging.DEBUG, logger="neuron_explainer.simulators.answers")
    assert expected_of(kind, Refused("a filter"), ["a", "b"]) == [None, None]
    assert "2 of 2 tokens are missing" in caplog.text
    assert "refused" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", [AuthFailed("no"), BadRequest("no"), BudgetExceeded(1.0, 1.0)])
def test_other_errors_are_raised(kind: str, error: Exception) -> None:
    with pytest.raises(type(error)):
        expected_of(kind, error, ["a", "b"])


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_cannot_be_read_is_missing(kind: str, caplog) -> None:
    caplog.set_level(logging.DEBUG, logger="neuron_explainer.simulators.answers")
    assert expected_of(kind, spelled("I", " cannot", " say"), ["a", "b"]) == [None, None]
    assert "2 of 2 tokens are missing" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_a_temperature_of_none_is_not_sent(kind: str) -> None:
    simulator, client = make(kind, lambda _: spelled("1\t", "3"), temperature=None)
    simulate(simulator, ["a"])
    assert client.requests[0].temperature is None


@pytest.mark.parametrize("kind", ["one_at_a_time", "streaming"])
def test_a_server_without_logprobs_is_told_apart_from_a_bad_answer(kind: str) -> None:
    with pytest.raises(BadRequest, match="no logprobs"):
        expected_of(kind, completion("1\t3"), ["a"])


# One at a time.


def test_one_at_a_time_asks_once_a_token_with_the_text_up_to_it() -> None:
    simulator, client = make("one_at_a_time", lambda _: spelled(("0", {"0": 0.5, "4": 0.5})))
    tokens = ["The", " cat", "\n", " sat"]
    assert simulate(simulator, tokens).expected_activations == pytest.approx([2.0] * 4)
    asked = [request.messages[-1].content for request in client.requests]
    for i, question in enumerate(asked):
        assert f"Text:\n{''.join(tokens[: i + 1])}\nLast token of the text:\n" in question
    request = client.requests[0]
    assert (request.max_tokens, request.n_top_logprobs, request.temperature) == (1, 20, 0.0)


def test_one_token_without_a_number_is_missing_alone() -> None:
    def answer(request: CompletionRequest) -> Completion:
        ends_in_b = request.messages[-1].content.endswith("b")
        return spelled("unknown") if ends_in_b else spelled("4")

    simulator, _ = make("one_at_a_time", answer)
    assert list(simulate(simulator, ["a", "b", "c"]).expected_activations) == [4.0, None, 4.0]


def test_when_one_question_fails_the_others_are_given_up() -> None:
    class Chat:
        n_given_up = 0

        async def ask(self, request: CompletionRequest, /) -> Completion:
            if "a b" in request.messages[-1].content:
                await asyncio.sleep(0)
                raise AuthFailed("no")
            try:
                await asyncio.Event().wait()  # for ever
            except asyncio.CancelledError:
                self.n_given_up += 1
                raise
            raise AssertionError

    async def once(chat: Chat) -> None:
        simulator = OneAtATimeSimulator(chat, model="m", model_label="m", few_shot=FEW_SHOT)
        with pytest.raises(AuthFailed):
            await simulator.simulate(explained(), ["x", " a b"])
        await asyncio.sleep(0)  # the others hear of it

    chat = Chat()
    asyncio.run(once(chat))
    assert chat.n_given_up == 1


def test_with_two_tokens_an_answer_may_be_a_ten_in_two() -> None:
    answer = spelled(("1", {"1": 1.0}), ("0", {"0": 0.5, "\n": 0.5}))
    simulator, client = make("one_at_a_time", [answer], max_tokens=2)
    assert simulate(simulator, ["a"]).expected_activations == pytest.approx([5.5])
    assert client.requests[0].max_tokens == 2


# Streaming.


STREAMS = {
    "number, tab, value, line break": [
        "1", "\t", ("0", {"0": 0.5, "2": 0.5}), "\n", "2", "\t", ("10", {"10": 0.5, "9": 0.5}),
    ],
    "the tab with the value": [
        "1", ("\t0", {"\t0": 0.5, "\t2": 0.5}), "\n2", ("\t10", {"\t10": 0.5, "\t9": 0.5}),
    ],
    "the tab with the number": [
        "1\t", ("0", {"0": 0.5, "2": 0.5}), "\n", "2\t", ("10", {"10": 0.5, "9": 0.5}),
    ],
    "the value with the next line": [
        "1", "\t", ("0\n2", {"0\n2": 0.5, "2\n2": 0.5}), "\t", ("10", {"10": 0.5, "9": 0.5}),
    ],
    "a line in a token": [
        ("1\t0\n", {"1\t0\n": 0.5, "1\t2\n": 0.5}), ("2\t10", {"2\t10": 0.5, "2\t9": 0.5}),
    ],
    "empty tokens": [
        "", "1", "\t", "", ("0", {"0": 0.5, "2": 0.5}), "\n", "2\t", "",
        ("10", {"10": 0.5, "9": 0.5}), "",
    ],
    "ten in two": [
        "1", "\t", ("0", {"0": 0.5, "2": 0.5}), "\n", "2", "\t",
        ("1", {"1": 0.5, "9": 0.5}), ("0", {"0": 1.0}),
    ],
    "words before": [
        "Sure", ":\n\n", "1", "\t", ("0", {"0": 0.5, "2": 0.5}), "\n", "2\t",
        ("10", {"10": 0.5, "9": 0.5}), "\n",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
def test_each_number_is_read_where_it_is_written_however_it_is_split(name: str) -> None:
    answer = spelled(*STREAMS[name])
    assert expected_of("streaming", answer, ["a", "b"]) == pytest.approx([1.0, 9.5])


def test_lines_that_are_missing_or_twice_leave_their_tokens_missing() -> None:
    answer = spelled("1\t", "3", "\n", "3\t", "5", "\n", "3\t", "6", "\n", "4\t", "7", "\n")
    assert expected_of("streaming", answer, ["a", "b", "c", "d"]) == [3.0, None, None, 7.0]


def test_what_an_answer_that_was_cut_off_did_not_reach_is_missing() -> None:
    answer = replace(spelled("1\t", "3", "\n", "2\t", "1"), finish_reason="length")
    assert expected_of("streaming", answer, ["a", "b", "c"]) == [3.0, None, None]


def test_streaming_is_one_request_with_room_for_every_line() -> None:
    simulator, client = make("streaming", lambda _: spelled("1\t", "3"), n_top_logprobs=5)
    simulate(simulator, ["x"] * 100)
    (request,) = client.requests
    longest = sum(len(f"{n}\t10\n") for n in range(1, 101))
    assert request.max_tokens >= longest
    assert (request.n_top_logprobs, request.temperature) == (5, 0.0)


# Structured.


def as_json(*activations: object) -> str:
    entries = [
        {"n": n, "token": "x", "activation": activation}
        for n, activation in enumerate(activations, start=1)
    ]
    return json.dumps({"activations": entries})


def test_structured_is_one_request_held_to_the_schema() -> None:
    simulator, client = make("structured", [completion(as_json(0, 10, 3))])
    assert simulate(simulator, ["x"] * 3).expected_activations == (0, 10, 3)
    (request,) = client.requests
    assert (request.json_schema, request.temperature) == (SCHEMA, 0.0)
    assert request.n_top_logprobs is None


def test_a_server_without_schemas_is_asked_in_words_alone() -> None:
    simulator, client = make("structured", [completion(as_json(1))], use_schema=False)
    simulate(simulator, ["x"])
    assert client.requests[0].json_schema is None
    assert "Answer in JSON" in client.requests[0].messages[0].content


def test_a_reasoning_model_is_given_room_to_think() -> None:
    plain, plain_client = make("structured", [completion(as_json(1))])
    simulator, client = make(
        "structured", [completion(as_json(1))],
        temperature=None, reasoning_effort="low", n_thought_tokens=2000,
    )  # fmt: skip
    simulate(plain, ["x"])
    simulate(simulator, ["x"])
    (request,) = client.requests
    assert request.reasoning_effort == "low"
    assert request.max_tokens == plain_client.requests[0].max_tokens + 2000


def test_numbers_that_are_no_activations_are_missing_and_never_zero() -> None:
    answer = completion(as_json(10.14, -1, None, "3", 4))
    assert expected_of("structured", answer, ["x"] * 5) == [None, None, None, 3, 4]
