"""A model's answers become explanations; what is no answer becomes a reason, or goes up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from neuron_explainer.errors import (
    AuthFailed,
    BudgetExceeded,
    CannotExplain,
    RateLimited,
    Refused,
    UsageError,
)
from neuron_explainer.explainers.base import Explainer
from neuron_explainer.explainers.evidence import EvidenceSources
from neuron_explainer.explainers.llm import MAX_TOKENS, LLMExplainer
from neuron_explainer.llm.messages import Completion, CompletionRequest
from neuron_explainer.prompts.explain_kinds import PROMPTS
from neuron_explainer.records.explanation import Explanation, TokenLookupTable
from neuron_explainer.records.neuron import DEAD_UNIT
from neuron_explainer.subject.output_tokens import OutputTokens
from tests.fakes import FakeClient, completion
from tests.scoring.builders import NEURON_ID, neuron_record, noisy_record, window

Client = FakeClient[CompletionRequest, Completion]
SOURCES = EvidenceSources(
    read_table=lambda _: TokenLookupTable({" two": 2.0}, {" two": 50}, 0.0),
    read_output=lambda _: OutputTokens((" dozen",), (" the",)),
)


def client_of(*replies: str | Completion | Exception) -> Client:
    return FakeClient([completion(r) if isinstance(r, str) else r for r in replies])


def explain(client: Client, **choices: Any) -> tuple[Explanation, ...]:
    explainer: Explainer = LLMExplainer(client, "m", sources=SOURCES, **choices)
    return asyncio.run(explainer.explain(noisy_record()))


def texts(explanations: Iterable[Explanation]) -> list[str]:
    return [explanation.text for explanation in explanations]


@pytest.mark.parametrize("name", PROMPTS)
def test_an_answer_becomes_an_explanation_that_says_what_made_it(name: str) -> None:
    client = client_of(" Words for numbers.\n")
    (explanation,) = explain(client, prompt=name, shown_model="openai:m")
    answer = "Words for numbers"
    assert explanation == Explanation(
        NEURON_ID, PROMPTS[name].stored.format(answer=answer), name, "openai:m", f"{name}/1"
    )
    (request,) = client.requests
    assert (request.model, request.max_tokens, request.temperature) == ("m", MAX_TOKENS, 0.0)
    assert request.messages[0].content == PROMPTS[name].task


def test_samples_differ_in_their_seed_alone() -> None:
    client = client_of("one", "two", "one.", "three")
    assert texts(explain(client, n_explanations=4)) == ["one", "two", "three"]
    first, *others = client.requests
    assert [request.seed for request in client.requests] == [0, 1, 2, 3]
    assert all(replace(request, seed=first.seed) == first for request in others)
    assert len({request.key() for request in client.requests}) == 4
    assert first.temperature == 1.0


def test_a_list_is_asked_for_once_and_has_the_evidence() -> None:
    client = client_of("1. one\n2. two\n3. one\n4. three")
    assert texts(explain(client, n_explanations=4, several="list")) == ["one", "two", "three"]
    (request,) = client.requests
    assert (request.temperature, request.max_tokens) == (0.0, 4 * MAX_TOKENS)
    assert "top0.0\t" in request.messages[-1].content


def test_a_model_that_goes_on_with_a_text_is_sent_one_text() -> None:
    client = client_of(" one\n\nNeuron 6\n", " one\n2. two\n\nNeuron 6")
    assert texts(explain(client, is_chat=False)) == ["one"]
    assert texts(explain(client, is_chat=False, n_explanations=2, several="list")) == ["one", "two"]
    assert [len(request.messages) for request in client.requests] == [1, 1]


def test_a_reasoning_model_is_sent_no_temperature() -> None:
    client = client_of("<think>hm</think>one")
    chosen = {"takes_temperature": False, "reasoning_effort": "low", "max_tokens": 4000}
    assert texts(explain(client, **chosen)) == ["one"]
    (request,) = client.requests
    assert (request.temperature, request.reasoning_effort, request.max_tokens) == (
        None, "low", 4000
    )  # fmt: skip


def test_answers_that_cannot_be_read_are_left_out_as_long_as_one_can() -> None:
    client = client_of("", Refused("no"), "I cannot say", "one")
    assert texts(explain(client, n_explanations=4)) == ["one"]


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ([Refused("the filter\nsays no")], "refused: the filter says no"),
        ([""], "unreadable answer: no words in the answer"),
        (["I'm sorry, I can't."], "unreadable answer: no explanation in the answer"),
        ([replace(completion("names of"), finish_reason="length")],
         "unreadable answer: cut off before it ended"),
        (["", Refused("no")], "unreadable answer: no words in the answer"),
    ],
)  # fmt: skip
def test_when_no_answer_can_be_read_the_reason_is_given(
    replies: list[str | Completion | Exception], reason: str
) -> None:
    with pytest.raises(CannotExplain) as caught:
        explain(client_of(*replies), n_explanations=len(replies))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "error", [RateLimited("slow down"), AuthFailed("no key"), BudgetExceeded(1.0, 1.0)]
)
def test_other_errors_go_up(error: Exception) -> None:
    with pytest.raises(type(error)):
        explain(client_of("one", error, "two"), n_explanations=3)


def test_nothing_is_asked_about_a_dead_unit() -> None:
    client = client_of()
    dead = neuron_record([window([0.0, -1.0])], [window([-1.0])])
    with pytest.raises(CannotExplain, match=DEAD_UNIT):
        asyncio.run(LLMExplainer(client, "m").explain(dead))
    assert client.requests == []


def test_a_prompt_is_cut_to_the_context_and_nothing_is_asked_when_that_fails() -> None:
    client = client_of("one", "one")
    explain(client, n_context_tokens=2000)
    explain(client, n_context_tokens=100_000)
    short, whole = (sum(len(m.content) for m in r.messages) for r in client.requests)
    assert short < whole
    with pytest.raises(CannotExplain, match="prompt too long: "):
        explain(client, n_context_tokens=200)
    assert len(client.requests) == 2


def test_tokens_are_counted_as_the_model_does() -> None:
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return len(text)

    client = client_of("one")
    explain(client, count_tokens=count, n_context_tokens=10_000)
    (request,) = client.requests
    assert sum(len(m.content) for m in request.messages) <= 10_000 - MAX_TOKENS
    assert {message.content for message in request.messages} <= set(counted)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"prompt": "haiku"}, "no explainer prompt 'haiku'; one of contrastive, highlight"),
        ({"n_explanations": 0}, "at least 1 explanation"),
        ({"few_shot_set": "none"}, "no few-shot set 'none'"),
        ({"prompt": "token_space", "sources": None}, "needs the token lookup tables"),
        ({"prompt": "logits", "sources": None}, "needs the subject model"),
        ({"n_context_tokens": 100}, "leaves no room for a question"),
    ],
)
def test_choices_that_cannot_be_meant_are_refused_at_once(
    choices: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        LLMExplainer(client_of(), "m", **choices)
