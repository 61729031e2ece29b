"""Batches over real HTTP: every request is sent once and answered once, whatever goes wrong."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from pathlib import Path

import pytest

from neuron_explainer.errors import (
    AuthFailed,
    BadRequest,
    BudgetExceeded,
    RateLimited,
    ServerFailed,
    StoreError,
)
from neuron_explainer.llm.batch import BatchPace
from neuron_explainer.llm.batch_book import BatchBook
from neuron_explainer.llm.messages import Completion, CompletionRequest, Message
from neuron_explainer.llm.openai_client import NO_KEY, OpenAIClient
from neuron_explainer.stores.batches import SqliteBatches
from tests.llm.batch_desk import (
    AT_ONCE,
    LIST_PRICE,
    PRICE,
    Desk,
    DyingBook,
    Killed,
    no_wait,
    requests,
)
from tests.llm.rule_batches import BatchFaults
from tests.llm.rule_options import ServerOptions
from tests.llm.rule_server import RuleServer, rule_server

WELL = BatchFaults(n_faulty=0)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def ask_directly(server: RuleServer, asked: Iterable[CompletionRequest]) -> list[Completion]:
    async def ask_all() -> list[Completion]:
        client = OpenAIClient(api_key=NO_KEY, base_url=server.base_url)
        try:
            return await asyncio.gather(*map(client.ask, asked))
        finally:
            await client.close()

    return asyncio.run(ask_all())


def texts(answers: Iterable[Completion | BaseException]) -> list[str]:
    return [answer.text if isinstance(answer, Completion) else repr(answer) for answer in answers]


def n_batches(server: RuleServer) -> int:
    return len(server.batches.batches)


def test_a_batch_answers_as_the_server_does_directly_from_the_same_bodies(desk: Desk) -> None:
    asked = [*requests(5), CompletionRequest("rule-1", (Message("user", "“€” é"),), 9,
                                             temperature=0.0, n_top_logprobs=3)]  # fmt: skip
    with rule_server(batches=WELL) as server:
        found = desk.ask(server, asked)
        directly = ask_directly(server, asked)
        assert texts(found) == texts(directly)
        assert [f.logprobs for f in found if isinstance(f, Completion)] == [
            d.logprobs for d in directly
        ]
        assert n_batches(server) == 1
        assert set(server.log.n_answered.values()) == {2}  # equal bodies, here and there
    assert desk.n_left() == 0
    assert desk.news[-1].is_over
    assert (desk.news[-1].n_done, desk.news[-1].n_unanswered) == (6, 0)


def test_the_same_question_asked_by_two_is_sent_once(desk: Desk) -> None:
    with rule_server(batches=WELL) as server:
        found = desk.ask(server, requests(2) * 2)
        assert texts(found[:2]) == texts(found[2:])
        assert max(server.batches.n_sent.values()) == 1


def test_a_full_batch_leaves_the_rest_to_the_next(desk: Desk) -> None:
    with rule_server(batches=WELL) as server:
        found = desk.ask(server, requests(7), most_requests=3)
        # Batches go up side by side, so that they may come in any order.
        assert sorted(len(batch.lines) for batch in server.batches.batches) == [1, 3, 3]
    assert all(isinstance(each, Completion) for each in found)


def test_pauses_between_looks_grow_up_to_the_longest(desk: Desk) -> None:
    with rule_server(batches=BatchFaults(n_polls=15)) as server:
        desk.ask(server, requests(1))
    pace = BatchPace()
    linger_s, *pauses = desk.waits
    assert linger_s == pace.linger_s
    assert pauses[0] == pace.first_pause_s
    assert pauses == sorted(pauses)
    assert pauses[-1] == pace.longest_pause_s


def test_requests_that_failed_go_into_the_next_batch_if_that_may_help(desk: Desk) -> None:
    faults = BatchFaults(statuses=(429, 500, 400), n_left_out=1)
    with rule_server(batches=faults) as server:
        found = desk.ask_wrapped(server, requests(6))
        assert isinstance(found[2], BadRequest)
        assert "spoiled" in str(found[2])
        assert texts(found[:2] + found[3:]) == texts(
            ask_directly(server, requests(2) + requests(6)[3:])
        )
        assert [len(batch.lines) for batch in server.batches.batches] == [6, 3]
    assert next(news for news in desk.news if news.is_over).n_unanswered == 1
    assert desk.n_left() == 0


def test_a_request_without_an_answer_is_an_error_that_may_pass(desk: Desk) -> None:
    with rule_server(batches=BatchFaults(n_left_out=1)) as server:
        found = desk.ask(server, requests(3))
    assert [type(each) for each in found] == [Completion, Completion, ServerFailed]
    assert isinstance(found[2], ServerFailed)
    assert found[2].retryable
    assert not found[2].may_cost


def test_what_an_expired_batch_answered_is_kept_and_the_rest_is_sent_anew(desk: Desk) -> None:
    with rule_server(batches=BatchFaults(n_before_expiry=2)) as server:
        found = desk.ask_wrapped(server, requests(5))
        assert all(isinstance(each, Completion) for each in found)
        assert [len(batch.lines) for batch in server.batches.batches] == [5, 3]
        assert max(server.log.n_answered.values()) == 1
        assert desk.spent_picousd() == PRICE.picousd(server.log.charged)


def test_a_batch_that_is_cancelled_elsewhere_is_sent_anew(desk: Desk) -> None:
    async def ask_and_cancel(server: RuleServer, book: SqliteBatches) -> BaseException:
        async def wait(_seconds: float) -> None:
            for batch in server.batches.batches:
                batch.is_cancelled, batch.output = True, b""
            await no_wait(0)

        client = desk.client(server, book)
        client._sleep = wait
        try:
            (found,) = await asyncio.gather(client.ask(requests(1)[0]), return_exceptions=True)
        finally:
            await client.close()
        assert isinstance(found, BaseException)
        return found

    with rule_server(batches=BatchFaults(n_polls=2)) as server, desk.book() as book:
        found = asyncio.run(ask_and_cancel(server, book))
    assert isinstance(found, ServerFailed)
    assert "cancelled" in str(found)


def test_a_batch_that_is_not_taken_says_why_in_one_line(desk: Desk) -> None:
    with rule_server(batches=BatchFaults(invalid="Unknown field 'foo'.\nMore.")) as server:
        found = desk.ask_wrapped(server, requests(3))
        assert n_batches(server) == 1
    assert [type(each) for each in found] == [BadRequest] * 3
    assert str(found[0]) == "batch_0 was not taken: line 1: Unknown field 'foo'."
    assert (desk.n_left(), desk.spent_picousd()) == (0, 0)


def test_batches_become_as_small_as_the_account_may_have(desk: Desk) -> None:
    asked = [
        CompletionRequest("rule-1", (Message("user", f"Say {i}: {'word ' * 40}"),), 9)
        for i in range(12)
    ]
    with rule_server(batches=BatchFaults(n_faulty=0, most_tokens=250)) as server:
        found = desk.ask_wrapped(server, asked)
        assert all(isinstance(each, Completion) for each in found)
        taken = [batch for batch in server.batches.batches if batch.end == "completed"]
        assert len(taken) >= 3
        assert n_batches(server) <= len(taken) + 2  # the limit is found, at the second try at most
        assert max(server.log.n_answered.values()) == 1


def test_too_many_tokens_with_a_single_request_is_an_error_after_some_batches(desk: Desk) -> None:
    with rule_server(batches=BatchFaults(n_faulty=0, most_tokens=1)) as server:
        (found,) = desk.ask_wrapped(server, requests(1))
        assert n_batches(server) == AT_ONCE.n_attempts
    assert isinstance(found, RateLimited)


@pytest.mark.parametrize("faults", [BatchFaults(n_broken_creates=1), BatchFaults(n_uncreated=1)])
def test_a_batch_of_which_it_is_not_known_whether_it_was_created_is_created_once(
    desk: Desk, faults: BatchFaults
) -> None:
    with rule_server(batches=faults) as server:
        found = desk.ask(server, requests(3))
        assert all(isinstance(each, Completion) for each in found)
        assert n_batches(server) == 1


def test_an_own_batch_is_found_among_more_than_a_page_of_others(desk: Desk) -> None:
    faults = BatchFaults(n_faulty=0, n_polls=0)
    with rule_server(batches=faults) as server:
        other = Desk(desk.folder / "other")
        other.ask(server, requests(12), most_requests=1)
        with pytest.raises(Killed):
            desk.ask_wrapped(server, requests(1), dies_at=4)  # created, and not noted
        assert n_batches(server) == 13
        other.ask(server, requests(122)[12:], most_requests=1)
        desk.ask_wrapped(server, requests(1))
        assert n_batches(server) == 123


def test_a_server_without_a_batch_interface_is_named_as_such(desk: Desk) -> None:
    with rule_server() as server:
        found = desk.ask(server, requests(2))
    assert [type(each) for each in found] == [BadRequest] * 2
    assert "leave --batch out" in str(found[0])
    assert desk.n_left() == 0


def test_a_wrong_key_is_told_to_all_who_wait(desk: Desk) -> None:
    with rule_server(ServerOptions(api_key="sk-right-0123"), batches=WELL) as server:
        found = desk.ask(server, requests(3))
    assert [type(each) for each in found] == [AuthFailed] * 3
    assert desk.n_left() == 0


def test_a_full_disk_is_told_to_all_who_wait(desk: Desk) -> None:
    class FullBook(DyingBook):
        def _write(self, name: str, *arguments: object, **more: object) -> object:
            if name == "note_batch":
                raise StoreError("no room")
            return super()._write(name, *arguments, **more)

    async def ask_all(server: RuleServer, book: BatchBook) -> list[Completion | BaseException]:
        client = desk.client(server, book)
        try:
            return await asyncio.gather(*map(client.ask, requests(2)), return_exceptions=True)
        finally:
            await client.close()

    with rule_server(batches=WELL) as server, desk.book() as book:
        found = asyncio.run(ask_all(server, FullBook(book, None)))
    assert [type(each) for each in found] == [StoreError] * 2


# Money


def test_charges_are_half_of_what_the_server_lists_each_once(desk: Desk) -> None:
    faults = BatchFaults(statuses=(500, 429), n_left_out=2)
    with rule_server(batches=faults) as server:
        for _ in range(2):
            desk.ask_wrapped(server, requests(8))
        assert 2 * desk.spent_picousd() == LIST_PRICE.picousd(server.log.charged)


def test_a_batch_holds_what_the_budget_allows_and_no_more(desk: Desk) -> None:
    with rule_server(batches=BatchFaults(n_faulty=0)) as server:
        limit = 500 * 10**6
        found = desk.ask_wrapped(server, requests(40), limit_picousd=limit)
        assert any(isinstance(each, BudgetExceeded) for each in found)
        assert any(isinstance(each, Completion) for each in found)
        assert desk.spent_picousd() == PRICE.picousd(server.log.charged) <= limit
        found = desk.ask_wrapped(server, requests(40))
        assert all(isinstance(each, Completion) for each in found)
        assert max(server.batches.n_sent.values()) == 1


def test_what_is_owed_for_an_open_batch_is_part_of_the_limit(desk: Desk) -> None:
    limit = 1_000 * 10**6
    with rule_server(batches=WELL) as server:
        server.batches.is_held = True
        with pytest.raises(Killed):
            desk.ask_wrapped(server, requests(40), limit_picousd=limit, dies_at=8)
        n_open = len(server.batches.n_sent)
        assert 0 < n_open < 40
        server.batches.is_held = False
        others = [CompletionRequest("rule-1", (Message("user", f"No {i}"),), 9) for i in range(9)]
        found = desk.ask_wrapped(server, others, limit_picousd=limit)
        assert any(isinstance(each, BudgetExceeded) for each in found)
        assert PRICE.picousd(server.log.charged) <= limit


# Ends and new beginnings


def test_who_gives_up_before_the_batch_goes_is_not_in_it(desk: Desk) -> None:
    async def give_up(server: RuleServer, book: SqliteBatches) -> None:
        client = desk.client(server, book)
        stays, goes = (asyncio.ensure_future(client.ask(request)) for request in requests(2))
        await asyncio.sleep(0)
        goes.cancel()
        await stays
        await client.close()

    with rule_server(batches=WELL) as server, desk.book() as book:
        asyncio.run(give_up(server, book))
        assert len(server.batches.n_sent) == 1


def test_a_stop_charges_nothing_and_the_next_start_fetches(desk: Desk) -> None:
    with rule_server(batches=WELL) as server:
        server.batches.is_held = True
        with pytest.raises(Killed):
            desk.ask_wrapped(server, requests(4), dies_at=10)
        assert (desk.spent_picousd(), desk.n_left()) == (0, 4)
        server.batches.is_held = False
        found = desk.ask_wrapped(server, requests(6))
        assert all(isinstance(each, Completion) for each in found)
        assert [len(batch.lines) for batch in server.batches.batches] == [4, 2]
        assert desk.spent_picousd() == PRICE.picousd(server.log.charged)
    assert desk.n_left() == 0


@pytest.mark.slow
def test_a_kill_at_any_instant_sends_nothing_twice_and_charges_all_once(tmp_path: Path) -> None:
    asked = requests(2)
    with rule_server() as server:
        expected = texts(ask_directly(server, asked))
    for n in itertools.count():
        desk = Desk(tmp_path / str(n))
        was_killed = False
        with rule_server(batches=BatchFaults(n_before_expiry=1)) as server:
            try:
                desk.ask_wrapped(server, asked, dies_at=n)
            except Killed:
                was_killed = True
            assert texts(desk.ask_wrapped(server, asked)) == expected
            assert [len(batch.lines) for batch in server.batches.batches] == [2, 1]
            assert list(server.log.n_answered.values()) == [1, 1]
            assert desk.spent_picousd() == PRICE.picousd(server.log.charged)
        assert desk.n_left() == 0
        if not was_killed:
            break
    assert n > 25


def test_a_batch_that_the_provider_does_not_know_is_never_sent_again_in_silence(
    desk: Desk,
) -> None:
    with rule_server(batches=WELL) as server, pytest.raises(Killed):
        desk.ask_wrapped(server, requests(2), dies_at=7)
    with rule_server(batches=WELL) as other:
        found = desk.ask_wrapped(other, requests(2))
        assert n_batches(other) == 0
    assert [type(each) for each in found] == [BadRequest] * 2
    assert "move batches.sqlite away" in str(found[0])
    assert desk.n_left() == 2
