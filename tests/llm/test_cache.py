"""An answer is asked for once, whatever happens in between; an error is never kept."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from neuron_explainer.errors import LLMError, Refused, ServerFailed, StoreError
from neuron_explainer.llm.cache import (
    COMPLETIONS,
    EXPECTED_VALUES,
    NUMBERS,
    AnswerFormat,
    CachedClient,
)
from neuron_explainer.llm.messages import (
    Completion,
    CompletionRequest,
    ExpectedValues,
    Message,
    PromptLogprobRequest,
    TokenLogprobs,
    Usage,
)
from neuron_explainer.simulators.expected_value import expected_value
from neuron_explainer.simulators.streaming import read_answer
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


LEADS = ("", "", "\t", " ", " the\t", "12\t", "4. ")
NUMBER_TEXTS = ("0", "1", "3", "7", "10", "11", "42", "100", "03", "x", "-", "", "1.5", "٣")
ENDS = ("", "", "\n", " ", "\r\n", "\n4", "\n13\t", "\n\n", "\u2003")


def random_answer(rng: random.Random) -> Completion:
    """Lines of numbers as vocabularies of all kinds write them, with 20 alternatives a token."""

    def text() -> str:
        return rng.choice(LEADS) + rng.choice(NUMBER_TEXTS) + rng.choice(ENDS)

    def token(written: str) -> TokenLogprobs:
        others = {text(): -rng.expovariate(1) for _ in range(20)}
        if rng.random() < 0.8:
            others[written] = -rng.random()
        top = tuple(sorted(others.items(), key=lambda other: -other[1]))
        return TokenLogprobs(written, -rng.random(), top)

    written = []
    for number in range(1, 9):
        value = str(rng.randint(0, 10))
        separator = rng.choice(("\t", " "))
        merged = rng.choice(
            ((f"{number}", separator, value, "\n"), (f"{number}{separator}", f"{value}\n"),
             (f"{number}", f"{separator}{value}", "\n"), (f"{number}", separator, *value, "\n"))
        )  # fmt: skip
        written += merged
    return Completion("".join(written), "m", "stop", Usage(1, 2, 3), tuple(map(token, written)))


@pytest.mark.parametrize("seed", range(40))
def test_of_an_answer_in_numbers_all_is_kept_that_a_simulator_uses(seed: int) -> None:
    answer = random_answer(random.Random(seed))
    kept = NUMBERS.as_kept(answer)
    assert answer.logprobs is not None
    assert kept.logprobs is not None
    assert [t.token for t in kept.logprobs] == [t.token for t in answer.logprobs]
    for index, token in enumerate(answer.logprobs):
        for lead in {token.token[:n] for n in range(len(token.token))}:
            if lead[-1:].isdecimal():
                continue  # no number begins within another
            exact = expected_value(answer.logprobs, index, lead)
            close = None if exact is None else pytest.approx(exact, abs=1e-3)
            assert expected_value(kept.logprobs, index, lead) == close
    assert read_answer(kept, 8) == pytest.approx(read_answer(answer, 8), abs=1e-3)
    assert len(NUMBERS.write(kept)) < 0.7 * len(COMPLETIONS.write(answer))


@pytest.mark.parametrize("kind", [NUMBERS, COMPLETIONS], ids=["numbers", "whole"])
def test_numbers_come_back_as_they_were_first_given(kind: AnswerFormat) -> None:
    """Also from a cache that has the whole answer."""
    exact = random_answer(random.Random(0))
    client, shelf = FakeClient([exact]), Shelf()
    asyncio.run(cached(client, shelf, kind=kind).ask(REQUEST))
    again = asyncio.run(cached(client, shelf, kind=NUMBERS).ask(REQUEST))
    assert again == replace(NUMBERS.as_kept(exact), is_cached=True)
    assert len(client.requests) == 1


def test_an_answer_without_logprobs_is_kept_as_it_is() -> None:
    answer = replace(ANSWER, logprobs=None)
    assert NUMBERS.as_kept(answer) == answer


def test_of_text_that_is_no_number_no_alternative_is_kept() -> None:
    top = tuple((text, math.log(0.1)) for text in (" the", "\n", "11", "x1x", "", "1.", "10th"))
    answer = replace(ANSWER, logprobs=(TokenLogprobs(" the", -1.0, top),))
    assert NUMBERS.as_kept(answer).logprobs == (TokenLogprobs(" the", -1.0, ()),)


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
