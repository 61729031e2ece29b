"""Fetches documents of the published dataset, many at once, each until it is whole.

An answer is kept once it parses; "there is none" is an answer. Failures that may pass are met with
waits that double; what fails in the end is counted by reason, and asked again by the next call.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.published.archive import Archive
from neuron_explainer.published.documents import read_content
from neuron_explainer.published.locations import DocumentId, Kind
from neuron_explainer.published.sources import Failure, Fetched, Source
from neuron_explainer.records.score import reason_kind

logger = logging.getLogger(__name__)
Sleep = Callable[[float], Awaitable[None]]
N_AT_ONCE = 32
MOST_FAILURES_IN_A_ROW = 50
"""After so many documents that failed for good, none between them that did not, it stops."""
NOT_TRIED = f"not tried, as {MOST_FAILURES_IN_A_ROW} documents failed in a row"


@dataclass(frozen=True, slots=True)
class Patience:
    """Waits double from `first_wait_s` to `longest_wait_s`, up to half of each taken off."""

    n_attempts: int = 6
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0

    def wait_s(self, n_failed: int, failure: Failure, share: float) -> float:
        """After the n-th failure, from 1; at least what the server asks for, within the longest.

        share: in [0, 1), at random.
        """
        wait_s = min(self.longest_wait_s, self.first_wait_s * 2.0 ** (n_failed - 1))
        asked_s = min(self.longest_wait_s, failure.retry_after_s or 0.0)
        return max(wait_s * (1 - share / 2), asked_s)


class Fetcher:
    """Asks one source until it has an answer, or until it has failed too often in a row."""

    def __init__(
        self,
        source: Source,
        *,
        rng: random.Random,
        patience: Patience | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """rng: spreads the waits."""
        self.source = source
        self._patience = patience or Patience()
        self._rng = rng
        self._sleep = sleep
        self.n_failed_in_a_row = 0

    @property
    def has_given_up(self) -> bool:
        """The source failed so often in a row that it is not asked any more."""
        return self.n_failed_in_a_row >= MOST_FAILURES_IN_A_ROW

    async def fetch(self, which: DocumentId) -> Fetched:
        """A document that parses, the knowledge that there is none, or the last failure."""
        if self.has_given_up:
            return Fetched(None, Failure(NOT_TRIED, may_pass=True))
        fetched = await self._fetch(which)
        self.n_failed_in_a_row = 0 if fetched.failure is None else self.n_failed_in_a_row + 1
        return fetched

    async def _fetch(self, which: DocumentId) -> Fetched:
        fetched = await self._ask(which)
        for n_failed in range(1, self._patience.n_attempts):
            failure = fetched.failure
            if failure is None or not failure.may_pass or self.has_given_up:
                break
            await self._sleep(self._patience.wait_s(n_failed, failure, self._rng.random()))
            fetched = await self._ask(which)
        return fetched

    async def _ask(self, which: DocumentId) -> Fetched:
        """One attempt; a body that does not parse is a failure."""
        fetched = await self.source.fetch(which.path)
        if fetched.document is not None:
            try:
                read_content(which, fetched.document, f"{self.source.address}/{which.path}")
            except RecordFormatError as error:
                reason = f"not in the format: {error}"
                return Fetched(None, Failure(reason, may_pass=self.source.is_remote))
        return fetched


@dataclass(slots=True)
class DownloadCounts:
    """What came of the documents that were asked for."""

    n_known: int = 0
    """The archive knew of them before."""
    n_got: int = 0
    n_absent: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """By reason."""
    n_failed_in_a_row: int | None = None
    """So many that the rest was not tried; None: everything was."""

    @property
    def n_done(self) -> int:
        return self.n_known + self.n_got + self.n_absent + self.failed.total()

    @property
    def is_all_absent(self) -> bool:
        """The source has nothing of what it was asked for, which may be another place's."""
        return self.n_absent > 0 and self.n_done == self.n_absent

    def sentence(self) -> str:
        """`1,200 got, 3 absent, 40 there before, 2 failed (HTTP 503: 2)`"""
        reasons = ", ".join(f"{reason}: {n:,}" for reason, n in self.failed.most_common())
        n_in_a_row = self.n_failed_in_a_row
        end = "" if n_in_a_row is None else f"; stopped, as {n_in_a_row} failed in a row"
        return (
            f"{self.n_got:,} got, {self.n_absent:,} absent, {self.n_known:,} known before, "
            f"{self.failed.total():,} failed" + (f" ({reasons})" if reasons else "") + end
        )


async def download(
    fetcher: Fetcher,
    archive: Archive,
    documents: Iterable[DocumentId],
    *,
    n_at_once: int = N_AT_ONCE,
    on_done: Callable[[DownloadCounts], None] = lambda _counts: None,
) -> DownloadCounts:
    """Puts into the archive what it does not know; nothing that it knows is asked for.

    documents: layer by layer. on_done: called after each document that was asked for, and once
    at the end.
    """
    counts = DownloadCounts()
    todo = _unknown(documents, archive, fetcher.source.address, counts)
    workers = [
        asyncio.ensure_future(_work(fetcher, archive, todo, counts, on_done))
        for _ in range(n_at_once)
    ]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:  # one cannot write to the archive: the others cannot either
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    if fetcher.has_given_up:
        counts.n_failed_in_a_row = fetcher.n_failed_in_a_row
    on_done(counts)
    return counts


async def _work(
    fetcher: Fetcher,
    archive: Archive,
    todo: Iterator[DocumentId],
    counts: DownloadCounts,
    on_done: Callable[[DownloadCounts], None],
) -> None:
    """One of several that take from the same documents."""
    for which in todo:
        fetched = await fetcher.fetch(which)
        if fetched.failure is None:
            archive.add(which, fetched.document, fetcher.source.address)
            counts.n_absent += fetched.document is None
            counts.n_got += fetched.document is not None
        else:
            logger.warning("%s failed: %s", which.path, fetched.failure.reason)
            counts.failed[reason_kind(fetched.failure.reason)] += 1
        on_done(counts)
        if fetcher.has_given_up:
            return


def _unknown(
    documents: Iterable[DocumentId], archive: Archive, source: str, counts: DownloadCounts
) -> Iterator[DocumentId]:
    """Those that the archive knows nothing of; the others are counted."""
    known: dict[tuple[str, Kind], set[int]] = {}
    layer_index = -1
    for which in documents:
        if which.neuron_id.layer_index != layer_index:
            layer_index = which.neuron_id.layer_index
            known.clear()
        of_kind = (which.dataset, which.kind)
        if of_kind not in known:
            known[of_kind] = archive.known(*of_kind, layer_index, source)
        if which.neuron_id.neuron_index in known[of_kind]:
            counts.n_known += 1
        else:
            yield which
