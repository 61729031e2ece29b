"""All wrappers around a real HTTP client; the server fails on purpose and keeps its own books."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from pathlib import Path

import pytest

from neuron_explainer.errors import BudgetExceeded, Refused
from neuron_explainer.llm.budget import Budget, BudgetedClient
from neuron_explainer.llm.cache import COMPLETIONS, CachedClient
from neuron_explainer.llm.messages import Completion, CompletionRequest, Message, Usage
from neuron_explainer.llm.openai_client import NO_KEY, OpenAIClient
from neuron_explainer.llm.prices import Price
from neuron_explainer.llm.retry import RetryingClient, RetryPolicy
from neuron_explainer.llm.throttle import Limiter, ThrottledClient
from neuron_explainer.stores.response_cache import SqliteResponseCache
from neuron_explainer.stores.spending import Spending, SpendingStore
from tests.llm.rule_faults import FaultPlan
from tests.llm.rule_server import rule_server

PRICE = Price(Decimal(1), Decimal("0.25"), Decimal(4))
TIMEOUT_S = 0.4
PLAN = FaultPlan(share=0.5, seed=1, slow_s=2 * TIMEOUT_S)
POLICY = RetryPolicy(n_attempts=5, first_wait_s=0.01, longest_wait_s=0.02)


def requests(model: str, n: int) -> list[CompletionRequest]:
    """n different ones, each wanted twice."""
    return [
        CompletionRequest(model, (Message("user", f"Say the number {i % n}."),), 20)
        for i in range(2 * n)
    ]


def ask_all(
    base_url: str, folder: Path, asked: list[CompletionRequest], limit_picousd: int | None = None
) -> tuple[list[Completion | BaseException], Spending]:
    async def all_at_once(spending: SpendingStore, cache: SqliteResponseCache):
        server = OpenAIClient(api_key=NO_KEY, base_url=base_url, timeout_s=TIMEOUT_S)
        budget = Budget(
            spending, limit_picousd=limit_picousd, spent_picousd=spending.total_picousd()
        )
        throttled = ThrottledClient(
            BudgetedClient(server, budget, lambda _model: PRICE), Limiter(10**6)
        )
        retrying = RetryingClient(throttled, POLICY, rng=random.Random(0))
        client = CachedClient(retrying, cache, COMPLETIONS, namespace=base_url)
        try:
            return await asyncio.gather(*map(client.ask, asked), return_exceptions=True)
        finally:
            await server.close()

    with SpendingStore(folder / "s.sqlite") as spending:
        with SqliteResponseCache(folder / "r.sqlite") as cache:
            found = asyncio.run(all_at_once(spending, cache))
        return found, spending.of_purpose()


def test_the_books_agree_with_the_servers_whatever_fails(tmp_path: Path) -> None:
    with rule_server(plan=PLAN) as server:
        found, spent = ask_all(server.base_url, tmp_path, requests("rule-1", 60))
        log = server.log
    assert len(log.outcomes) > 8  # of all kinds
    assert {type(each) for each in found} <= {Completion, Refused}
    counted = Usage(
        spent.counted.n_prompt_tokens,
        spent.counted.n_cached_tokens,
        spent.counted.n_completion_tokens,
    )
    assert (counted, spent.counted.n_requests) == (log.charged, log.n_told)
    assert spent.counted.cost_picousd == PRICE.picousd(log.charged)
    assert spent.uncounted.cost_picousd is not None
    assert PRICE.picousd(log.charged_untold) <= spent.uncounted.cost_picousd
    assert max(log.n_answered.values()) == 1  # a whole answer is never asked for again


def test_a_limit_holds_over_runs_and_faults_and_a_higher_one_goes_on(tmp_path: Path) -> None:
    with rule_server(plan=PLAN) as server:
        asked = requests("rule-1", 60)
        limit = 5_000 * 10**6
        for _ in range(2):
            found, spent = ask_all(server.base_url, tmp_path, asked, limit)
            known = spent.counted.cost_picousd, spent.uncounted.cost_picousd
            assert sum(cost or 0 for cost in known) <= limit
        assert any(isinstance(each, BudgetExceeded) for each in found)
        truly = PRICE.picousd(server.log.charged) + PRICE.picousd(server.log.charged_untold)
        assert 0 < truly <= limit
        found, _ = ask_all(server.base_url, tmp_path, asked)
        assert not any(isinstance(each, BudgetExceeded) for each in found)
        assert max(server.log.n_answered.values()) == 1


def test_an_answer_from_the_cache_costs_nothing(tmp_path: Path) -> None:
    with rule_server() as server:
        asked = requests("rule-1", 3)
        first, spent = ask_all(server.base_url, tmp_path, asked)
        again, spent_again = ask_all(server.base_url, tmp_path, asked, limit_picousd=0)
    assert spent_again == spent
    assert len(server.log.entries) == 3
    assert [each.text for each in again] == [each.text for each in first]
    assert all(each.is_cached for each in again)


def test_what_is_cut_short_by_an_error_elsewhere_is_charged_at_most(tmp_path: Path) -> None:
    async def stopped(server_url: str, spending: SpendingStore) -> None:
        client = OpenAIClient(api_key=NO_KEY, base_url=server_url)
        budgeted = BudgetedClient(client, Budget(spending), lambda _model: PRICE)
        task = asyncio.create_task(budgeted.ask(requests("rule-1", 1)[0]))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await client.close()

    plan = FaultPlan(share=1.0, kinds=("slow",), slow_s=0.4)
    with rule_server(plan=plan) as server, SpendingStore(tmp_path / "s.sqlite") as spending:
        asyncio.run(stopped(server.base_url, spending))
        assert spending.of_purpose().counted.n_requests == 0
        assert spending.of_purpose().uncounted.n_requests == 1
