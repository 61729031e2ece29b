"""An answer is asked for once, whatever happens in between; an error is never kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from neuron_explainer.errors import LLMError, Refused, ServerFailed, StoreError
from neuron_explainer.llm.cache import COMPLETIONS, EXPECTED_VALUES, AnswerFormat, CachedClient
from neuron_explainer.llm.messages import (
    Completion,
    CompletionRequest,
    ExpectedValues,
    Message,
    PromptLogprobRequest,
    TokenLogprobs,
    Usage,
)
from tests.fakes import FakeClient

REQUEST = CompletionRequest("m", (Message("user", "hi \ud800“"),), 5)
ANSWER = Completion(
    "it’s “the”\n", "m-1", "stop", Usage(7, 3, 2),
    (TokenLogprobs("it", -0.125, (("it", -0.125), ("a\n", -3.5))),),
)  # fmt: skip
VALUES_REQUEST = PromptLogprobRequest("m", (1, 2), (3, 4), (1,), ((5,), (6,)), 7)


class Shelf:
    """A cache in memory."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def read(self, key: str) -> str | None:
        return self.texts.get(key)

    def write(self, key: str, response: str) -> None:
        self.texts.setdefault(key, response)


def cached(client, shelf: Shelf, namespace: str = "here", kind: AnswerFormat = COMPLETIONS):
    return CachedClient(client, shelf, kind, namespace=namespace)


@pytest.mark.parametrize(
    "answer", [ANSWER, replace(ANSWER, usage=None, logprobs=None), replace(ANSWER, logprobs=())]
)
def test_an_answer_is_asked_for_once_and_comes_back_whole(answer: Completion) -> None:
    client, shelf = FakeClient([answer]), Shelf()
    assert asyncio.run(cached(client, shelf).ask(REQUEST)) == answer
    assert asyncio.run(cached(client, shelf).ask(REQUEST)) == replace(answer, is_cached=True)


def test_expected_values_come_back_as_they_were_first_given() -> None:
    exact = ExpectedValues((1.123456789, None, 0.0, 10.0), Usage(9, 4, 0))
    client, shelf = FakeClient([exact]), Shelf()
    first = asyncio.run(cached(client, shelf, kind=EXPECTED_VALUES).ask(VALUES_REQUEST))
    again = asyncio.run(cached(client, shelf, kind=EXPECTED_VALUES).ask(VALUES_REQUEST))
    assert first == replace(exact, expected=(1.12346, None, 0.0, 10.0))
    assert again == replace(first, is_cached=True)


def test_another_question_or_another_server_is_asked() -> None:
    client, shelf = FakeClient([ANSWER] * 4), Shelf()
    for request in (REQUEST, replace(REQUEST, temperature=0.0), replace(REQUEST, model="n")):
        asyncio.run(cached(client, shelf).ask(request))
    asyncio.run(cached(client, shelf, "elsewhere").ask(REQUEST))
    assert len(client.requests) == len(shelf.texts) == 4


def test_an_error_is_not_kept() -> None:
    client, shelf = FakeClient([Refused("no"), ANSWER]), Shelf()
    with pytest.raises(LLMError):
        asyncio.run(cached(client, shelf).ask(REQUEST))
    assert asyncio.run(cached(client, shelf).ask(REQUEST)) == ANSWER


class SlowClient:
    """Answers when told; remembers what it was asked."""

    def __init__(self, outcome: Callable[[int], Completion | Exception]) -> None:
        """outcome: by the number of the question, from 1."""
        self.n_asked = 0
        self.go_on = asyncio.Event()
        self._outcome = outcome

    async def ask(self, _request: CompletionRequest) -> Completion:
        self.n_asked += 1
        outcome = self._outcome(self.n_asked)
        await self.go_on.wait()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def begin(client: CachedClient, n: int) -> list[asyncio.Task[Completion]]:
    tasks = [asyncio.create_task(client.ask(REQUEST)) for _ in range(n)]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


def test_many_who_want_the_same_answer_ask_once() -> None:
    async def scenario() -> None:
        slow = SlowClient(lambda _n: ANSWER)
        tasks = await begin(cached(slow, Shelf()), 5)
        slow.go_on.set()
        first, *others = await asyncio.gather(*tasks)
        assert first == ANSWER
        assert others == [replace(ANSWER, is_cached=True)] * 4
        assert slow.n_asked == 1

    asyncio.run(scenario())


def test_they_share_its_error_and_the_next_one_asks_anew() -> None:
    async def scenario() -> None:
        slow = SlowClient(lambda n: ServerFailed("broken") if n == 1 else ANSWER)
        client = cached(slow, Shelf())
        tasks = await begin(client, 3)
        slow.go_on.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in found] == [ServerFailed] * 3
        assert slow.n_asked == 1
        assert await client.ask(REQUEST) == ANSWER

    asyncio.run(scenario())


@pytest.mark.parametrize("cancelled", [0, 1])
def test_who_gives_up_takes_nobodys_answer_away(cancelled: int) -> None:
    async def scenario() -> None:
        slow = SlowClient(lambda _n: ANSWER)
        tasks = await begin(cached(slow, Shelf()), 3)
        tasks[cancelled].cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        slow.go_on.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(found.pop(cancelled), asyncio.CancelledError)
        assert [each.text for each in found] == [ANSWER.text] * 2
        assert slow.n_asked == (2 if cancelled == 0 else 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("damaged", ["{", "[]", '{"text": "hi"}', '{"usage": [1]}'])
def test_a_damaged_answer_is_said_to_be_one(damaged: str) -> None:
    shelf = Shelf()
    asyncio.run(cached(FakeClient([ANSWER]), shelf).ask(REQUEST))
    shelf.texts = dict.fromkeys(shelf.texts, damaged)
    with pytest.raises(StoreError, match="damaged"):
        asyncio.run(cached(FakeClient([ANSWER]), shelf).ask(REQUEST))
