"""A batch client over real HTTP with the files of a run folder, and a process that is killed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from neuron_explainer.llm.batch import BatchClient, BatchPace
from neuron_explainer.llm.batch_api import BatchApi
from neuron_explainer.llm.batch_book import BatchBook, BatchItem, BatchNews, SentBatch
from neuron_explainer.llm.budget import Budget, BudgetedClient
from neuron_explainer.llm.cache import COMPLETIONS, CachedClient, cache_key
from neuron_explainer.llm.chat_body import ChatForm
from neuron_explainer.llm.client import LLMClient
from neuron_explainer.llm.messages import Completion, CompletionRequest, Message
from neuron_explainer.llm.openai_client import NO_KEY, OpenAIServer
from neuron_explainer.llm.prices import Price
from neuron_explainer.llm.retry import RetryingClient, RetryPolicy
from neuron_explainer.stores.batches import SqliteBatches
from neuron_explainer.stores.response_cache import SqliteResponseCache
from neuron_explainer.stores.spending import SpendingStore
from tests.llm.rule_server import RuleServer

LIST_PRICE = Price(Decimal(1), Decimal("0.25"), Decimal(4))
PRICE = LIST_PRICE.times(Decimal("0.5"))
AT_ONCE = RetryPolicy(n_attempts=3, first_wait_s=0.0)


def requests(n: int) -> list[CompletionRequest]:
    return [
        CompletionRequest("rule-1", (Message("user", f"Say the number {i}."),), 20, seed=i)
        for i in range(n)
    ]


async def no_wait(_seconds: float) -> None:
    await asyncio.sleep(0)


@dataclass
class Desk:
    """A run folder's files, and what was told and waited for."""

    folder: Path
    news: list[BatchNews] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def client(self, server: RuleServer, book: BatchBook, **more: object) -> BatchClient:
        async def wait(seconds: float) -> None:
            self.waits.append(seconds)
            await no_wait(seconds)

        return BatchClient(
            BatchApi(OpenAIServer(api_key=NO_KEY, base_url=server.base_url, timeout_s=20)),
            ChatForm(),
            book,
            address=server.base_url,
            model="rule-1",
            key_of=lambda request: cache_key("here", request),
            tell=self.news.append,
            rng=random.Random(0),
            pace=BatchPace(),
            policy=AT_ONCE,
            sleep=wait,
            **more,  # type: ignore[arg-type]
        )

    @contextmanager
    def book(self) -> Iterator[SqliteBatches]:
        with SqliteBatches(self.folder / "batches.sqlite") as book:
            book.drop_unsent()
            yield book

    def ask(
        self, server: RuleServer, asked: Iterable[CompletionRequest], **more: object
    ) -> list[Completion | BaseException]:
        """The client alone."""

        async def ask_all(book: SqliteBatches) -> list[Completion | BaseException]:
            client = self.client(server, book, **more)
            try:
                return await asyncio.gather(*map(client.ask, asked), return_exceptions=True)
            finally:
                await client.close()

        with self.book() as book:
            return asyncio.run(ask_all(book))

    def ask_wrapped(
        self,
        server: RuleServer,
        asked: Iterable[CompletionRequest],
        *,
        limit_picousd: int | None = None,
        dies_at: int | None = None,
    ) -> list[Completion | BaseException]:
        """As a run does: cached, retried by the next batch, paid for."""

        async def ask_all(client: BatchClient, whole: LLMClient):
            try:
                return await asyncio.gather(*map(whole.ask, asked), return_exceptions=True)
            finally:
                await client.close()

        with (
            self.book() as book,
            SpendingStore(self.folder / "spending.sqlite") as spending,
            SqliteResponseCache(self.folder / "responses.sqlite") as responses,
        ):
            book.forget_taken(lambda key: responses.read(key) is not None)
            owed = sum(
                PRICE.input * row.n_prompt_tokens + PRICE.output * row.n_answer_tokens
                for row in book.owed()
            )
            budget = Budget(
                spending,
                limit_picousd=limit_picousd,
                spent_picousd=spending.total_picousd(),
                owed_picousd=int(owed * 10**6),
            )
            client = self.client(server, DyingBook(book, dies_at))
            budgeted = BudgetedClient(client, budget, lambda _: PRICE, is_owed=client.is_owed)
            retried = RetryingClient(budgeted, AT_ONCE, rng=random.Random(0), sleep=no_wait)
            whole = CachedClient(retried, responses, COMPLETIONS, namespace="here")
            return asyncio.run(ask_all(client, whole))

    def spent_picousd(self) -> int:
        with SpendingStore(self.folder / "spending.sqlite") as spending:
            assert spending.of_purpose().uncounted.n_requests == 0
            return spending.total_picousd()

    def n_left(self) -> int:
        """Requests that the book still holds."""
        with self.book() as book:
            return sum(row.n_requests for row in book.owed())


class Killed(SystemExit):
    """Ends the loop in the middle of whatever it does."""


class DyingBook:
    """A book whose process is killed at some thing it would write: before it for even n, after it
    for odd ones. Whatever is still run then writes nothing."""

    def __init__(self, book: SqliteBatches, n: int | None) -> None:
        self._book = book
        self._left = n
        self.is_dead = False

    def _write(self, name: str, *arguments: object, **more: object) -> object:
        if self.is_dead:
            return []
        self.is_dead = self._left == 0
        if self.is_dead:
            raise Killed
        done = getattr(self._book, name)(*arguments, **more)
        if self._left is not None:
            self._left -= 2
            self.is_dead = self._left < 0
        if self.is_dead:
            raise Killed
        return done

    def intend(self, intent: str, address: str, model: str, items: Iterable[BatchItem]) -> None:
        self._write("intend", intent, address, model, items)

    def note_file(self, intent: str, file_id: str) -> None:
        self._write("note_file", intent, file_id)

    def note_batch(
        self, intent: str, batch_id: str, status: str, *, n_done: int, n_failed: int
    ) -> None:
        self._write("note_batch", intent, batch_id, status, n_done=n_done, n_failed=n_failed)

    def drop(self, intent: str) -> None:
        self._write("drop", intent)

    def keep(self, intent: str, key: str, answer: str) -> None:
        self._write("keep", intent, key, answer)

    def end(self, intent: str) -> list[str]:
        found = self._write("end", intent)
        assert isinstance(found, list)
        return found

    def forget(self, key: str) -> None:
        self._write("forget", key)

    def read(self, intent: str) -> SentBatch:
        return self._book.read(intent)

    def holds(self, key: str) -> bool:
        return self._book.holds(key)

    def intent_of(self, key: str) -> str | None:
        return self._book.intent_of(key)

    def answer(self, key: str) -> str | None:
        return self._book.answer(key)
