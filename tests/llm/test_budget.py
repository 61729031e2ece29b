"""Money: every attempt is charged what the server counted, and the limit is never exceeded."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from decimal import Decimal

import pytest

from neuron_explainer.errors import (
    BudgetExceeded,
    LLMError,
    RateLimited,
    Refused,
    ServerFailed,
    TimedOut,
    UsageError,
)
from neuron_explainer.llm.budget import Budget, BudgetedClient, Charge, charged_to, most_usage
from neuron_explainer.llm.messages import Completion, CompletionRequest, Message, Usage
from neuron_explainer.llm.prices import Price
from neuron_explainer.llm.retry import RetryingClient, RetryPolicy
from tests.llm.virtual_time import run

PRICE = Price(Decimal(1), Decimal("0.5"), Decimal(2))
USAGE = Usage(n_prompt_tokens=10, n_cached_tokens=4, n_completion_tokens=3)
COST = (6 * 1_000_000 + 4 * 500_000) + 3 * 2_000_000
"""Of USAGE, in picodollars."""


def request(n_chars: int = 100, max_tokens: int = 5) -> CompletionRequest:
    return CompletionRequest("m", (Message("user", "é" * n_chars),), max_tokens)


MOST = PRICE.picousd(most_usage(request()))
"""What one request may cost."""


class Log:
    def __init__(self) -> None:
        self.charges: list[Charge] = []

    def add(self, charge: Charge) -> None:
        self.charges.append(charge)

    def cost(self, is_counted: bool) -> int:
        costs = (c.cost_picousd for c in self.charges if c.is_counted is is_counted)
        return sum(cost for cost in costs if cost is not None)


class Server:
    """Answers after a while, and knows what it charged."""

    def __init__(
        self,
        answer: Callable[[], Usage | Exception | None] = lambda: USAGE,
        latency_s: Callable[[], float] = lambda: 1.0,
    ) -> None:
        self._answer = answer
        self._latency_s = latency_s
        self.n_asked = 0
        self.n_running = 0
        self.most_running = 0
        self.charged_picousd = 0

    async def ask(self, _request: CompletionRequest) -> Completion:
        self.n_asked += 1
        self.n_running += 1
        self.most_running = max(self.most_running, self.n_running)
        answer = self._answer()
        usage = getattr(answer, "usage", None) if isinstance(answer, Exception) else answer
        self.charged_picousd += 0 if usage is None else PRICE.picousd(usage)
        try:
            await asyncio.sleep(self._latency_s())
        finally:
            self.n_running -= 1
        if isinstance(answer, Exception):
            raise answer
        return Completion("hi", "m-1", "stop", usage, None)


def ask_many(server: Server, n: int, log: Log, **budget: int) -> list[Completion | BaseException]:
    async def all_at_once() -> list[Completion | BaseException]:
        client = BudgetedClient(server, Budget(log, **budget), lambda _model: PRICE)
        asked = (client.ask(request()) for _ in range(n))
        return await asyncio.gather(*asked, return_exceptions=True)

    return run(all_at_once())


def test_an_answer_is_charged_what_the_server_counted_and_to_whom_it_was_for() -> None:
    async def scenario() -> None:
        charged_to.set("9:6236/explain")
        await BudgetedClient(Server(), Budget(log), lambda _model: PRICE).ask(request())

    log = Log()
    run(scenario())
    assert log.charges == [Charge("9:6236/explain", "m", 10, 4, 3, COST, True)]


def test_the_limit_is_never_exceeded_whatever_the_answers_cost() -> None:
    rng = random.Random(3)
    for limit in (0, MOST - 1, MOST, 3 * MOST, 40 * MOST):
        server = Server(
            lambda: Usage(rng.randint(1, 450), rng.randint(0, 1), rng.randint(0, 5)),
            lambda: rng.expovariate(1),
        )
        log = Log()
        found = ask_many(server, 200, log, limit_picousd=limit)
        spent = log.cost(is_counted=True)
        assert spent == server.charged_picousd <= limit
        n_refused = sum(isinstance(each, BudgetExceeded) for each in found)
        assert n_refused + server.n_asked == 200
        if n_refused:
            assert spent + MOST > limit  # what was refused did not fit


def test_one_waits_for_what_others_may_give_back() -> None:
    server, log = Server(), Log()
    limit = MOST + 20 * COST
    found = ask_many(server, 20, log, limit_picousd=limit)
    assert [type(each) for each in found] == [Completion] * 20
    assert server.most_running < 20


def test_what_was_spent_before_counts() -> None:
    server, log = Server(), Log()
    (found,) = ask_many(server, 1, log, limit_picousd=10 * MOST, spent_picousd=9 * MOST + 1)
    assert isinstance(found, BudgetExceeded)
    assert "--budget-usd" in str(found)
    assert server.n_asked == 0


def test_without_a_limit_nobody_waits() -> None:
    server = Server()
    ask_many(server, 50, Log())
    assert server.most_running == 50


FAILURES = {
    "refused, counted": (Refused("no", usage=USAGE), [(True, COST)]),
    "empty, counted": (ServerFailed("empty", usage=USAGE), [(True, COST)]),
    "timed out": (TimedOut("late", may_cost=True), [(False, MOST)]),
    "cut": (ServerFailed("cut", may_cost=True), [(False, MOST)]),
    "never sent": (ServerFailed("no connection"), []),
    "rate limited": (RateLimited("slow"), []),
    "a bug": (ZeroDivisionError(), [(False, MOST)]),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_charged_as_far_as_it_is_known(name: str) -> None:
    error, charges = FAILURES[name]
    log = Log()
    budget = {"limit_picousd": 2 * MOST}
    assert ask_many(Server(lambda: error), 1, log, **budget) == [error]
    assert [(c.is_counted, c.cost_picousd) for c in log.charges] == charges


def test_an_answer_without_a_count_is_charged_the_most_it_can_have_cost() -> None:
    log = Log()
    ask_many(Server(lambda: None), 1, log)
    assert [(c.is_counted, c.cost_picousd) for c in log.charges] == [(False, MOST)]
    assert log.charges[0].n_prompt_tokens >= 200  # as many as the text has bytes


def test_a_request_that_is_cancelled_while_the_server_works_is_charged_the_most() -> None:
    async def scenario() -> None:
        budget = Budget(log, limit_picousd=2 * MOST)
        client = BudgetedClient(Server(), budget, lambda _model: PRICE)
        task = asyncio.create_task(client.ask(request()))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert budget.spent_picousd == MOST
        await client.ask(request())  # the room it had is free again, what it cost is not

    log = Log()
    run(scenario())
    assert [c.is_counted for c in log.charges] == [False, True]


class Keeper(Server):
    """Its answers can be fetched another time."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    async def ask(self, request: CompletionRequest) -> Completion:
        self.asked.add(request.key())
        answer = await super().ask(request)
        self.asked.discard(request.key())
        return answer

    def is_owed(self, request: CompletionRequest) -> bool:
        return request.key() in self.asked


def test_who_gives_up_an_answer_that_is_kept_owes_it_until_it_is_fetched() -> None:
    async def scenario() -> None:
        server = Keeper()
        budget = Budget(log, limit_picousd=2 * MOST)
        client = BudgetedClient(server, budget, lambda _model: PRICE, is_owed=server.is_owed)
        task = asyncio.create_task(client.ask(request()))
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.wait([task])
        assert (log.charges, budget.spent_picousd) == ([], 0)
        await budget.reserve(MOST)  # what is owed takes the rest of the room
        budget.settle(MOST, None)
        with pytest.raises(BudgetExceeded):
            await budget.reserve(MOST + 1)
        await client.ask(request())  # its own room
        assert budget.spent_picousd == COST
        await budget.reserve(2 * MOST - COST)

    log = Log()
    run(scenario())
    assert [c.is_counted for c in log.charges] == [True]


def test_what_is_owed_from_before_is_part_of_the_limit() -> None:
    async def scenario() -> None:
        budget = Budget(Log(), limit_picousd=2 * MOST, owed_picousd=MOST + 1)
        with pytest.raises(BudgetExceeded):
            await budget.reserve(MOST)
        budget.take_over(MOST + 1)
        budget.settle(MOST + 1, None)
        await budget.reserve(2 * MOST)

    run(scenario())


def test_room_is_given_in_the_order_in_which_it_was_asked_for() -> None:
    async def scenario() -> list[int]:
        budget = Budget(Log(), limit_picousd=10)
        await budget.reserve(10)
        served: list[int] = []

        async def take(number: int, picousd: int) -> None:
            await budget.reserve(picousd)
            served.append(number)

        tasks = [asyncio.create_task(take(i, size)) for i, size in enumerate((9, 1, 2))]
        await asyncio.sleep(0)
        budget.settle(5, None)  # room for the small ones, which came later
        await asyncio.sleep(0.1)
        assert served == []
        budget.settle(5, None)
        await asyncio.sleep(0.1)
        assert served == [0, 1]
        budget.settle(9, None)
        await asyncio.wait(tasks)
        return served

    assert run(scenario()) == [0, 1, 2]


def test_one_who_is_cancelled_while_waiting_for_room_costs_nothing() -> None:
    async def scenario() -> None:
        client = BudgetedClient(server, Budget(log, limit_picousd=MOST), lambda _model: PRICE)
        first = asyncio.create_task(client.ask(request()))
        waiting = asyncio.create_task(client.ask(request()))
        await asyncio.sleep(0.5)
        waiting.cancel()
        await asyncio.wait([first, waiting])

    server, log = Server(), Log()
    run(scenario())
    assert len(log.charges) == server.n_asked == 1


def test_the_sum_is_what_the_server_charged_also_with_faults_and_retries() -> None:
    rng = random.Random(5)
    faults = [
        Refused("no", usage=USAGE),
        ServerFailed("empty", usage=Usage(7, 0, 0)),
        ServerFailed("broken"),
        RateLimited("slow", 0.1),
    ]

    def answer() -> Usage | Exception:
        return rng.choice(faults) if rng.random() < 0.4 else Usage(rng.randint(1, 300), 0, 2)

    async def scenario() -> None:
        budgeted = BudgetedClient(server, Budget(log), lambda _model: PRICE)
        policy = RetryPolicy(n_attempts=4)
        client = RetryingClient(budgeted, policy, rng=random.Random(0))
        await asyncio.gather(*(client.ask(request()) for _ in range(300)), return_exceptions=True)

    server, log = Server(answer, rng.random), Log()
    run(scenario())
    assert server.n_asked > 350
    assert log.cost(is_counted=True) == server.charged_picousd
    assert log.cost(is_counted=False) == 0


@pytest.mark.parametrize("limit", [None, 10**12])
def test_a_model_without_a_price_is_logged_without_a_cost_and_refused_under_a_limit(limit) -> None:
    async def scenario() -> None:
        budget = Budget(log, limit_picousd=limit)
        await BudgetedClient(Server(), budget, lambda _model: None).ask(request())

    log = Log()
    if limit is not None:
        with pytest.raises(UsageError, match="--prices"):
            run(scenario())
        assert log.charges == []
        return
    run(scenario())
    assert [c.cost_picousd for c in log.charges] == [None]


def test_a_log_that_cannot_be_written_leaves_no_one_waiting() -> None:
    class Full(Log):
        def add(self, _charge: Charge) -> None:
            raise LLMError("the disk is full")

    found = ask_many(Server(), 3, Full(), limit_picousd=MOST + COST)
    assert [type(each) for each in found] == [LLMError, LLMError, BudgetExceeded]


def test_when_one_request_does_not_fit_no_smaller_one_is_begun_after_it() -> None:
    """It would be cut off by the error, and paid for again by the run that goes on."""

    async def large_and_small() -> list[Completion | BaseException]:
        client = BudgetedClient(server, Budget(Log(), limit_picousd=2 * MOST), lambda _: PRICE)
        asked = (client.ask(request(n_chars)) for n_chars in (100, 1_000, 1, 1))
        return await asyncio.gather(*asked, return_exceptions=True)

    server = Server(lambda: most_usage(request()))
    first, *others = run(large_and_small())
    assert isinstance(first, Completion)
    assert [type(each) for each in others] == [BudgetExceeded] * 3
    assert server.n_asked == 1
