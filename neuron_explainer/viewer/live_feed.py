"""How a run is doing, told to all who listen: files are looked at only while somebody does.

Server-sent events as of the HTML standard, 9.2 (`text/event-stream`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from starlette.concurrency import run_in_threadpool

from neuron_explainer.errors import NeuronExplainerError
from neuron_explainer.viewer.hooks import LiveStatus

EVERY_S = 1.0
REST_FOR_WORK = 10.0
"""A look that takes long, as at the results of a whole model, is followed by so much rest."""
ALIVE_EVERY_S = 15.0
"""A line without meaning: a connection that is gone is noticed when it is written to."""
RETRY_MS = 2000
"""When a browser asks again after the connection has ended."""

Seen = LiveStatus | str
"""A run's status, or why it cannot be told."""


class LiveFeed:
    """Of one run. The status is read in a thread, by one task for all listeners."""

    def __init__(
        self,
        read_status: Callable[[], LiveStatus],
        *,
        every_s: float = EVERY_S,
        alive_every_s: float = ALIVE_EVERY_S,
    ) -> None:
        self._read_status = read_status
        self._every_s = every_s
        self._alive_every_s = alive_every_s
        self._seen: Seen | None = None
        """None: nobody has looked since somebody began to listen."""
        self._changed = asyncio.Event()
        self._n_listening = 0
        self._watching: asyncio.Task[None] | None = None
        self._is_ended = False

    @property
    def is_watching(self) -> bool:
        """Whether the files are being looked at."""
        return self._watching is not None

    async def look(self) -> Seen:
        """Now."""
        try:
            return await run_in_threadpool(self._read_status)
        except NeuronExplainerError as error:
            return str(error)

    async def listen(self) -> AsyncIterator[Seen | None]:
        """What is seen, at first and whenever it is another; None: still there, nothing new.

        Ends with the feed. The last listener to leave ends the looking.
        """
        self._n_listening += 1
        if self._watching is None:
            self._seen = None
            self._watching = asyncio.create_task(self._watch())
        told: Seen | None = None
        try:
            while not self._is_ended:
                changed = self._changed
                if self._seen is not None and self._seen != told:
                    told = self._seen
                    yield told
                    continue
                try:
                    await asyncio.wait_for(changed.wait(), self._alive_every_s)
                except TimeoutError:
                    yield None
        finally:
            self._n_listening -= 1
            if self._n_listening == 0:
                self._watching.cancel()
                self._watching = None

    def end(self) -> None:
        """Every listener leaves; nobody is served any more."""
        self._is_ended = True
        self._tell()

    async def _watch(self) -> None:
        while True:
            started_s = time.perf_counter()
            seen = await self.look()
            if seen != self._seen:
                self._seen = seen
                self._tell()
            took_s = time.perf_counter() - started_s
            await asyncio.sleep(max(self._every_s, REST_FOR_WORK * took_s))

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def format_event(name: str, data: str) -> str:
    """One event; data may have several lines."""
    lines = "".join(f"data: {line}\n" for line in data.splitlines() or [""])
    return f"event: {name}\nretry: {RETRY_MS}\n{lines}\n"


STILL_THERE = ": still there\n\n"
"""A comment."""
