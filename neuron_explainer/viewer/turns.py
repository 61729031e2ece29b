"""Pages that take some milliseconds are made a few at a time, and so each comes the sooner.

The threads of one interpreter share a core but for what sqlite does beside it. Were all pages that
are asked for begun at once, each would be done when nearly all are.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import closing
from functools import partial, wraps
from typing import ParamSpec

from anyio import CapacityLimiter, to_thread
from starlette.responses import Response

N_AT_ONCE = 2
Asked = ParamSpec("Asked")


class Turns:
    """First come, first served."""

    def __init__(self, n_at_once: int = N_AT_ONCE) -> None:
        self._limiter = CapacityLimiter(n_at_once)

    def of(
        self,
        answer: Callable[Asked, Response],
        *,
        first: Callable[..., None] | None = None,
        is_long: Callable[..., bool] = lambda **_asked: False,
    ) -> Callable[Asked, Awaitable[Response]]:
        """A route that answers in its turn; what is asked for is given by name.

        first: waits for what the answer needs, before its turn. is_long: whether it waits while it
        is being made, and so takes no turn.
        """

        @wraps(answer)
        async def answer_in_turn(*args: Asked.args, **named: Asked.kwargs) -> Response:
            if first is not None:
                await to_thread.run_sync(partial(first, *args, **named))
            limiter = None if is_long(*args, **named) else self._limiter
            return await to_thread.run_sync(partial(answer, *args, **named), limiter=limiter)

        return answer_in_turn

    async def parts(self, parts: Generator[str, None, None]) -> AsyncGenerator[str, None]:
        """Those of a long answer, each made in its turn."""
        with closing(parts):
            while (
                part := await to_thread.run_sync(next, parts, None, limiter=self._limiter)
            ) is not None:
                yield part
