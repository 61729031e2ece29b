"""An answer is asked for once, whatever happens in between; an error is never kept."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from neuron_explainer.errors import LLMError, Refused, StoreError
from neuron_explainer.llm.cache import CachedClient
from neuron_explainer.llm.messages import (
    Completion,
    CompletionRequest,
    Message,
    TokenLogprobs,
    Usage,
)
from neuron_explainer.stores.response_cache import SqliteResponseCache

REQUEST = CompletionRequest("m", (Message("user", "hi \ud800“"),), 5)
ANSWER = Completion(
    "it’s “the”\n", "m-1", "stop", Usage(7, 3, 2),
    (TokenLogprobs("it", -0.125, (("it", -0.125), ("a\n", -3.5))),),
)  # fmt: skip


class CountingClient:
    def __init__(self, outcome: Completion | Exception) -> None:
        self.n_asked = 0
        self._outcome = outcome

    async def complete(self, _request: CompletionRequest) -> Completion:
        self.n_asked += 1
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


def ask(path: Path, client: CountingClient, request: CompletionRequest = REQUEST) -> Completion:
    with SqliteResponseCache(path) as cache:
        return asyncio.run(CachedClient(client, cache).complete(request))


@pytest.mark.parametrize("answer", [ANSWER, replace(ANSWER, usage=None, logprobs=None)])
def test_an_answer_is_asked_for_once_and_comes_back_whole(tmp_path: Path, answer) -> None:
    client = CountingClient(answer)
    path = tmp_path / "cache" / "responses.sqlite"
    assert ask(path, client) == answer
    assert ask(path, client) == replace(answer, is_cached=True)
    assert client.n_asked == 1


def test_another_question_is_asked(tmp_path: Path) -> None:
    client = CountingClient(ANSWER)
    for request in (REQUEST, replace(REQUEST, temperature=0.0), replace(REQUEST, model="n")):
        ask(tmp_path / "responses.sqlite", client, request)
    assert client.n_asked == 3


def test_an_error_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "responses.sqlite"
    with pytest.raises(LLMError):
        ask(path, CountingClient(Refused("no")))
    assert ask(path, CountingClient(ANSWER)) == ANSWER


def test_the_first_answer_to_a_question_stays(tmp_path: Path) -> None:
    with SqliteResponseCache(tmp_path / "a.sqlite") as one:
        with SqliteResponseCache(tmp_path / "a.sqlite") as two:
            one.write("key", "first")
            two.write("key", "second")
            assert two.read("key") == "first"
        assert one.read("other") is None


def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "responses.sqlite"
    path.write_bytes(b"no database, but long enough to be taken for the head of one" * 20)
    with pytest.raises(StoreError, match=r"responses\.sqlite: file is not a database"):
        SqliteResponseCache(path)
