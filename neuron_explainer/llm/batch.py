"""The provider's batch interface as a client: who asks waits for an answer of the next batch.

OpenAI's Batch API takes many requests in one file and answers within a day, at half the price.

1. Requests gather until nothing new has come for a moment, or a file is full.
2. A batch is noted in a book before anything is sent, and after each step: file, batch, answers.
3. It is looked at with growing pauses until it is over; then its files are read, and every request
   is told its answer, or that there is none.

A request that the book knows of an earlier process is not sent again: it waits for its batch.
"""

from __future__ import annotations

import asyncio
import copy
import random
import re
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import IO, TypeVar

from neuron_explainer.errors import BadRequest, LLMError, RateLimited, ServerFailed
from neuron_explainer.llm.batch_api import FAILED, OVER, BatchApi, RemoteBatch
from neuron_explainer.llm.batch_book import BatchBook, BatchItem, BatchNews
from neuron_explainer.llm.batch_files import (
    MOST_BYTES,
    MOST_REQUESTS,
    read_answer,
    read_answers,
    write_question,
)
from neuron_explainer.llm.budget import most_usage
from neuron_explainer.llm.chat_body import ChatForm
from neuron_explainer.llm.messages import Completion, CompletionRequest
from neuron_explainer.llm.retry import RetryPolicy, Sleep, retry

T = TypeVar("T")
PATIENT = RetryPolicy(n_attempts=10, longest_wait_s=300.0)
"""A day's batch outlasts some minutes without a server."""
TOO_MANY_TOKENS = "token_limit_exceeded"
"""More prompt tokens wait at the provider than the account may have there at once."""
AFTER_TOO_MANY_S = 60.0
SHARE_OF_LIMIT = 0.9
"""Of that limit: our counts of tokens are estimates."""
_LIMIT = re.compile(r"Limit: ([\d,]+)")


@dataclass(frozen=True, slots=True)
class BatchPace:
    """When to send, and how often to look."""

    linger_s: float = 2.0
    """Without a new request, before the batch goes."""
    first_pause_s: float = 1.0
    longest_pause_s: float = 60.0
    growth: float = 1.5

    def pauses(self) -> Iterator[float]:
        pause_s = self.first_pause_s
        while True:
            yield pause_s
            pause_s = min(self.longest_pause_s, pause_s * self.growth)


class BatchClient:
    """Of one model of one server."""

    def __init__(
        self,
        api: BatchApi,
        form: ChatForm,
        book: BatchBook,
        *,
        address: str,
        model: str,
        key_of: Callable[[CompletionRequest], str],
        tell: Callable[[BatchNews], None],
        rng: random.Random,
        pace: BatchPace | None = None,
        policy: RetryPolicy = PATIENT,
        sleep: Sleep = asyncio.sleep,
        most_requests: int = MOST_REQUESTS,
    ) -> None:
        """address, model: what the book calls the provider. key_of: names a request, the same in
        every process. policy: of the calls to the batch interface itself; a request without an
        answer is raised to who asked. most_requests: in one batch.
        """
        self._api = api
        self._form = form
        self._book = book
        self._provider = (address, model)
        self._key_of = key_of
        self._tell = tell
        self._rng = rng
        self._pace = pace or BatchPace()
        self._policy = policy
        self._sleep = sleep
        self._most_requests = most_requests
        self._most_tokens: int | None = None
        """Of the prompts of a batch; None: no limit is known. With one, batches go one by one."""
        self._queued: dict[str, CompletionRequest] = {}
        self._n_queued = 0
        """So far, those that have gone included."""
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._batches: dict[str, _Underway] = {}
        """By intent; of the batches that are looked after here."""
        self._sender: asyncio.Task[None] | None = None

    async def ask(self, request: CompletionRequest, /) -> Completion:
        """Waits as long as the provider takes. ServerFailed where it never came to the request."""
        key = self._key_of(request)
        answer = self._book.answer(key)
        while answer is None:
            await self._wait_for(key, request)
            answer = self._book.answer(key)
        try:
            completion = read_answer(answer, self._api.status_error)
        except LLMError:
            self._book.forget(key)  # asked again, it is a question like any other
            raise
        # Once the step is over in which who asked charges and keeps it: a kill loses nothing.
        asyncio.get_running_loop().call_soon(self._book.forget, key)
        return completion

    def is_owed(self, request: CompletionRequest) -> bool:
        """Whether it was sent, or answered, and the answer not taken."""
        return self._book.holds(self._key_of(request))

    async def close(self) -> None:
        """Batches under way go on at the provider; who asks again gets their answers."""
        batches = [*self._batches.values()]
        tasks = [batch.task for batch in batches]
        if self._sender is not None:
            tasks.append(self._sender)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for batch in batches:  # a task that was cancelled before it began has closed nothing
            if batch.file is not None:
                batch.file.close()
        await self._api.close()

    async def _wait_for(self, key: str, request: CompletionRequest) -> None:
        """Returns when there is an answer in the book; an LLMError when none will come."""
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(told)
        intent = self._book.intent_of(key)
        if intent is None:
            self._queue(key, request)
        else:
            self._look_after(intent).keys.add(key)
        try:
            await told
        finally:
            others = self._waiting.get(key, [])
            if told in others:  # given up
                others.remove(told)
                if not others:
                    del self._waiting[key]
                    self._queued.pop(key, None)

    def _queue(self, key: str, request: CompletionRequest) -> None:
        self._queued[key] = request
        self._n_queued += 1
        if self._sender is None or self._sender.done():
            self._sender = asyncio.ensure_future(self._send_queued())

    def _look_after(self, intent: str, file: IO[bytes] | None = None) -> _Underway:
        """file: its questions, which are to go up first."""
        if intent not in self._batches:
            task = asyncio.ensure_future(self._carry(intent, file))
            self._batches[intent] = _Underway(task, set(), file)
        return self._batches[intent]

    def _wake(self, keys: Iterable[str], error: Exception | None = None) -> None:
        for key in keys:
            for told in self._waiting.pop(key, ()):
                if told.done():
                    continue
                if error is None:
                    told.set_result(None)
                else:  # each its own: raised together, they would share a traceback
                    told.set_exception(copy.copy(error))

    # Sending

    async def _send_queued(self) -> None:
        """Until nothing is left to be sent."""
        try:
            while self._queued:
                n_before = self._n_queued
                await self._sleep(self._pace.linger_s)
                is_full = len(self._queued) >= self._most_requests
                if self._n_queued == n_before or is_full:
                    await self._wait_for_turn()
                    self._send()
        except Exception as error:  # a full disk, say: who waits must hear of it
            keys = [*self._queued]
            self._queued.clear()
            self._wake(keys, error)

    async def _wait_for_turn(self) -> None:
        while self._most_tokens is not None and self._batches:
            await asyncio.wait([batch.task for batch in self._batches.values()])

    def _send(self) -> None:
        """One batch, of as many of the queued requests as may be in one, in their order."""
        with ExitStack() as until_noted:
            file = until_noted.enter_context(tempfile.TemporaryFile())
            items, n_tokens = self._write(file)
            if not items:
                return
            intent = uuid.uuid4().hex
            self._book.intend(intent, *self._provider, items)
            underway = self._look_after(intent, file)
            until_noted.pop_all()
        underway.keys.update(item.key for item in items)
        underway.n_tokens = n_tokens

    def _write(self, file: IO[bytes]) -> tuple[list[BatchItem], int]:
        """What is in the file, and the tokens of the prompts; it is queued no more."""
        items: list[BatchItem] = []
        n_tokens = 0
        for key, request in list(self._queued.items()):
            try:
                line = write_question(key, self._form.body(request))
            except LLMError as error:
                del self._queued[key]
                self._wake([key], error)
                continue
            n_more = request.size().n_prompt_tokens
            if items and self._is_full(len(items), file.tell() + len(line), n_tokens + n_more):
                break
            file.write(line)
            most = most_usage(request)
            items.append(BatchItem(key, most.n_prompt_tokens, most.n_completion_tokens))
            n_tokens += n_more
            del self._queued[key]
        return items, n_tokens

    def _is_full(self, n_requests: int, n_bytes: int, n_tokens: int) -> bool:
        """n_requests: before one more; n_bytes, n_tokens: with it."""
        is_over_tokens = self._most_tokens is not None and n_tokens > self._most_tokens
        return n_requests >= self._most_requests or n_bytes > MOST_BYTES or is_over_tokens

    # Under way

    async def _carry(self, intent: str, file: IO[bytes] | None) -> None:
        """From wherever it has come to until all who wait have been told."""
        error: Exception | None = None
        try:
            is_new = file is not None
            if file is not None:
                await self._upload(intent, file)
                file.close()
            batch = await self._find_or_create(intent, is_new=is_new)
            batch = await self._wait_until_over(intent, batch)
            await self._read(intent, batch)
        except asyncio.CancelledError:
            error = ServerFailed("the client was closed")
            raise
        except Exception as failure:  # a bug or a full disk too: who waits must hear of it
            error = failure
        finally:
            if file is not None:
                file.close()
            underway = self._batches.pop(intent)
            self._wake(underway.keys, error)

    async def _upload(self, intent: str, file: IO[bytes]) -> None:
        try:
            file_id = await self._retry(lambda: self._api.upload(file, f"{intent}.jsonl"))
        except LLMError as error:
            self._book.drop(intent)
            if isinstance(error, BadRequest):
                raise BadRequest(
                    f"{error} (to the file of a batch; leave --batch out if the server has no "
                    "batch interface)"
                ) from error
            raise
        self._book.note_file(intent, file_id)

    async def _find_or_create(self, intent: str, *, is_new: bool) -> RemoteBatch:
        """A call that failed, or a process that ended in it, may have created the batch."""
        sent = self._book.read(intent)
        batch_id, file_id = sent.batch_id, sent.file_id
        if batch_id is not None:
            return await self._retry(partial(self._api.get, batch_id))
        assert file_id is not None, "batches without a file are dropped at the start"
        may_exist = not is_new

        async def attempt() -> RemoteBatch:
            nonlocal may_exist
            found = await self._api.find(intent) if may_exist else None
            may_exist = True
            return found or await self._api.create(file_id, intent)

        try:
            return await self._retry(attempt)
        except LLMError as error:
            if not error.retryable:
                self._book.drop(intent)
            raise

    async def _wait_until_over(self, intent: str, batch: RemoteBatch) -> RemoteBatch:
        for pause_s in self._pace.pauses():
            self._book.note_batch(
                intent, batch.id, batch.status, n_done=batch.n_done, n_failed=batch.n_failed
            )
            if batch.status in OVER:
                break
            self._tell(self._news(intent, batch))
            await self._sleep(pause_s)
            batch = await self._retry(partial(self._api.get, batch.id))
        return batch

    async def _read(self, intent: str, batch: RemoteBatch) -> None:
        """Each answer is in the book before who waits for it is told."""
        if batch.status == FAILED:
            raise self._not_taken(intent, batch)
        for file_id in batch.file_ids:
            await self._read_file(intent, file_id)
        unanswered = self._book.end(intent)
        self._tell(self._news(intent, batch, is_over=True, n_unanswered=len(unanswered)))
        said = f"{batch.id} is {batch.status} and says nothing of this request"
        self._wake(unanswered, ServerFailed(said))

    async def _read_file(self, intent: str, file_id: str) -> None:
        with tempfile.TemporaryFile() as file:
            await self._retry(lambda: self._api.download(file_id, file))
            for line in read_answers(file):
                if line is None:
                    continue  # its request is among the unanswered, which are counted
                self._book.keep(intent, line.key, line.text)
                if line.key in self._batches[intent].keys:
                    self._wake([line.key])
                await asyncio.sleep(0)  # one by one: not all answers are in memory together

    def _not_taken(self, intent: str, batch: RemoteBatch) -> LLMError:
        """Of a batch that failed as a whole, for which nothing is paid."""
        self._tell(self._news(intent, batch, is_over=True))
        self._book.drop(intent)
        said = f"{batch.id} was not taken: {batch.error or 'the server does not say why'}"
        if batch.error_code != TOO_MANY_TOKENS:
            return BadRequest(said)
        limit = _LIMIT.search(batch.error or "")
        n_tokens = self._batches[intent].n_tokens
        known = int(SHARE_OF_LIMIT * int(limit[1].replace(",", ""))) if limit else n_tokens
        # No more than that were in it: others' batches take room, or it is more than estimated.
        self._most_tokens = max(1, known if known < n_tokens else n_tokens // 2)
        return RateLimited(said, retry_after_s=AFTER_TOO_MANY_S)

    def _news(
        self, intent: str, batch: RemoteBatch, *, is_over: bool = False, n_unanswered: int = 0
    ) -> BatchNews:
        n_requests = self._book.read(intent).n_requests
        return BatchNews(
            batch.id, batch.status, n_requests, batch.n_done, batch.n_failed, is_over, n_unanswered
        )

    async def _retry(self, attempt: Callable[[], Awaitable[T]]) -> T:
        return await retry(attempt, self._policy, rng=self._rng, sleep=self._sleep)


@dataclass(slots=True)
class _Underway:
    """A batch that is looked after."""

    task: asyncio.Task[None]
    keys: set[str]
    """Of the requests for which somebody waits, or has waited."""
    file: IO[bytes] | None
    """Its questions, open until they have gone up; None: an earlier process sent them."""
    n_tokens: int = 0
    """Of the prompts; 0: an earlier process sent it."""
