"""What asking costs: every attempt is charged, and none is made that could exceed the limit.

Sums are whole picodollars (1e-12 US dollars), so that nothing is lost to rounding.

What cannot be known: whether a server charges for a question whose answer never came (a timeout,
a cut connection, a run that is stopped while it waits), and what it charges for an answer without
a count. Such a request is charged the most that it can have cost, counted apart
(`is_counted=False`). An answer of status 400 and above is taken to cost nothing.

Answers of a batch are kept by the provider until they are fetched. Who gives up waiting for one is
charged nothing: it stays owed, out of the same limit, until somebody asks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Generic, Protocol

from neuron_explainer.errors import BudgetExceeded, LLMError, UsageError
from neuron_explainer.llm.client import A, Client, Q
from neuron_explainer.llm.messages import Request, Usage
from neuron_explainer.llm.prices import Price

PICOUSD = 10**12
"""In one US dollar."""
FORMAT_TOKENS = 256
"""More than a server's chat format adds to a prompt: some tokens a message, some at its end."""

charged_to: ContextVar[str] = ContextVar("charged_to", default="")
"""What the requests of this task are for, such as `9:6236/explain`."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What a request cost, or several together."""

    purpose: str
    model: str
    n_prompt_tokens: int
    n_cached_tokens: int
    n_completion_tokens: int
    cost_picousd: int | None
    """None: the price of the model is not known."""
    is_counted: bool
    """By the server; else all of it is the most that it can have been."""
    n_requests: int = 1


class SpendingLog(Protocol):
    """Charges, added up; `stores/spending.py` keeps them in sqlite."""

    def add(self, charge: Charge, /) -> None:
        """On disk when it returns."""


class Budget:
    """What is spent and what may be, for all clients together."""

    def __init__(
        self,
        log: SpendingLog,
        *,
        limit_picousd: int | None = None,
        spent_picousd: int = 0,
        owed_picousd: int = 0,
    ) -> None:
        """limit_picousd None: no limit. spent_picousd: before, out of the same limit; owed_picousd:
        at most, for answers that were asked for before and not fetched."""
        self._log = log
        self._spent = spent_picousd
        self._owed = owed_picousd
        self._reserved = 0
        self._limit = limit_picousd
        self._is_used_up = False
        """A request did not fit any more: none is begun, as that one's end would cut it off."""
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()

    @property
    def has_limit(self) -> bool:
        return self._limit is not None

    @property
    def spent_picousd(self) -> int:
        return self._spent

    async def reserve(self, picousd: int) -> None:
        """Returns when so much is set aside; BudgetExceeded when it never can be.

        Waits, in the order of the callers, while others' reservations leave no room: most of them
        will cost less than that. And before it raises it waits for all that is under way, whose
        answers are paid for.
        """
        if self._limit is not None:
            async with self._turn:
                await self._wait_for_room(picousd, self._limit)
        self._reserved += picousd

    async def _wait_for_room(self, picousd: int, limit: int) -> None:
        while True:
            self._is_used_up |= self._spent + picousd > limit
            n_taken = self._spent + self._owed + self._reserved
            if not self._is_used_up and n_taken + picousd <= limit:
                return
            if not self._reserved:
                raise BudgetExceeded(self._spent / PICOUSD, limit / PICOUSD)
            await self._changed.wait()

    def take_over(self, picousd: int) -> None:
        """Sets aside what was owed, which is part of the limit already."""
        self._owed -= picousd
        self._reserved += picousd

    def settle(
        self, reserved_picousd: int, charge: Charge | None, *, is_owed: bool = False
    ) -> None:
        """Charges what it did cost in place of what was set aside; None: nothing.

        is_owed: the answer will be fetched another time, and charged then.
        """
        try:
            if charge is not None:
                self._spent += charge.cost_picousd or 0
                self._log.add(charge)
        finally:
            self._reserved -= reserved_picousd
            self._owed += reserved_picousd * is_owed
            self._changed.set()
            self._changed = asyncio.Event()


class BudgetedClient(Generic[Q, A]):
    """Wrapped around what asks the server once, so that each attempt is charged by itself."""

    def __init__(
        self,
        client: Client[Q, A],
        budget: Budget,
        find_price: Callable[[str], Price | None],
        *,
        is_owed: Callable[[Q], bool] | None = None,
    ) -> None:
        """find_price: by the name of the model, such as `PriceTable.find`. is_owed: whether the
        answer was asked for before, and can still be fetched; None: the client keeps none.
        """
        self._client = client
        self._budget = budget
        self._find_price = find_price
        self._is_owed = is_owed

    async def ask(self, request: Q, /) -> A:
        """UsageError for a model without a price where there is a limit to keep."""
        price = self._find_price(request.model)
        if price is None and self._budget.has_limit:
            raise UsageError(
                f"no price is known for {request.model}, so --budget-usd cannot be kept; give it "
                "in a file with --prices"
            )
        most = most_usage(request)
        reserved = 0 if price is None else price.picousd(most)

        def charge(usage: Usage, is_counted: bool) -> Charge:
            cost = None if price is None else price.picousd(usage)
            return Charge(
                charged_to.get(), request.model, usage.n_prompt_tokens, usage.n_cached_tokens,
                usage.n_completion_tokens, cost, is_counted,
            )  # fmt: skip

        if self._is_owed is not None and self._is_owed(request):
            self._budget.take_over(reserved)
        else:
            await self._budget.reserve(reserved)
        at_most = charge(most, is_counted=False)
        spent = at_most if self._is_owed is None else None
        try:
            answer = await self._client.ask(request)
            spent = at_most if answer.usage is None else charge(answer.usage, is_counted=True)
            return answer
        except LLMError as error:
            spent = at_most if error.may_cost else None
            if error.usage is not None:
                spent = charge(error.usage, is_counted=True)
            raise
        finally:
            is_owed = spent is None and self._is_owed is not None and self._is_owed(request)
            self._budget.settle(reserved, spent, is_owed=is_owed)


def most_usage(request: Request) -> Usage:
    """The most that a server can count for a request."""
    size = request.size()
    return Usage(size.n_prompt_bytes + FORMAT_TOKENS, 0, size.n_answer_tokens)
