"""An async map over any number of items, with a bounded number under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def map_bounded(
    function: Callable[[Item], Awaitable[Result]], items: Iterable[Item], n_at_once: int
) -> AsyncIterator[Result]:
    """Results as they are ready; an item is taken only when there is room for it.

    The first error ends the map: what is under way is cancelled and the error is raised.
    """
    iterator = iter(items)
    running: set[asyncio.Future[Result]] = set()
    try:
        while True:
            while len(running) < n_at_once:
                try:
                    item = next(iterator)
                except StopIteration:
                    break
                running.add(asyncio.ensure_future(function(item)))
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            failed = [future for future in done if future.cancelled() or future.exception()]
            for future in done.difference(failed):  # what is done is not lost to another's error
                yield future.result()
            for future in failed:
                future.result()
    finally:
        for future in running:
            future.cancel()
        await asyncio.gather(*running, return_exceptions=True)  # none is left behind
