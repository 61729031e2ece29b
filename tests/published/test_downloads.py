"""A download over real HTTP that fails now and then gets everything, and nothing twice."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import pytest

from neuron_explainer.errors import StoreError
from neuron_explainer.published.archive import Archive
from neuron_explainer.published.downloads import (
    MOST_FAILURES_IN_A_ROW,
    NOT_TRIED,
    DownloadCounts,
    Fetcher,
    Patience,
    download,
)
from neuron_explainer.published.locations import DocumentId, Kind, documents_of
from neuron_explainer.published.sources import Failure, Fetched, open_source
from neuron_explainer.records.neuron import NeuronId
from tests.published.mirror import (
    XL,
    Mirror,
    Reply,
    document,
    failing,
    mirror_documents,
    mirror_server,
    which,
    write_mirror,
)

ABSENT = {which(Kind.EXPLANATIONS, NeuronId(1, 3)), which(Kind.TOKENS_BY_WEIGHT, NeuronId(0, 0))}
DOCUMENTS = mirror_documents(absent=ABSENT)
EVERYTHING = tuple(documents_of(XL, range(2), tuple(Kind), 60))


class Clock:
    """Sleeps that take no time."""

    def __init__(self) -> None:
        self.slept_s: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)


async def _run(
    address: str, archive: Archive, documents: Iterable[DocumentId], clock: Clock
) -> DownloadCounts:
    async with open_source(address, n_at_once=8) as source:
        fetcher = Fetcher(source, rng=random.Random(0), sleep=clock.sleep)
        return await download(fetcher, archive, documents, n_at_once=8)


def run(mirror: Mirror, path: Path, documents: Iterable[DocumentId] = EVERYTHING) -> DownloadCounts:
    with Archive(path) as archive:
        return asyncio.run(_run(mirror.address, archive, documents, Clock()))


def test_all_is_there_though_requests_fail(tmp_path: Path) -> None:
    path = tmp_path / "published.sqlite"
    with mirror_server(DOCUMENTS, failing(share=0.05)) as mirror:
        counts = run(mirror, path)
    n_asked = mirror.asked.total()
    assert n_asked > len(EVERYTHING) * 1.02  # some did fail
    assert (counts.n_got, counts.n_absent) == (len(EVERYTHING) - 2, 2)
    assert counts.failed == {}
    with Archive(path) as archive:
        for one in EVERYTHING:
            found = archive.read(one)
            assert found is not None
            assert found.document == (None if one in ABSENT else document(one))
    assert set(mirror.sent.values()) == {1}


def test_what_the_archive_knows_is_not_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "published.sqlite"
    some = [one for one in EVERYTHING if one.neuron_id.neuron_index % 3 == 0]
    with mirror_server(DOCUMENTS) as mirror:
        run(mirror, path, some)
        counts = run(mirror, path)
        assert run(mirror, path).n_known == len(EVERYTHING)
    assert (counts.n_known, counts.n_done) == (len(some), len(EVERYTHING))
    assert len(mirror.asked) == mirror.asked.total() == len(EVERYTHING)


def test_what_another_source_has_not_is_asked_of_this_one(tmp_path: Path) -> None:
    path = tmp_path / "published.sqlite"
    with mirror_server({}) as empty:
        assert run(empty, path).n_absent == len(EVERYTHING)
    with mirror_server(DOCUMENTS) as mirror:
        counts = run(mirror, path)
    assert (counts.n_got, counts.n_absent, counts.n_known) == (len(EVERYTHING) - 2, 2, 0)


def test_what_fails_for_good_is_counted_by_reason_and_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "published.sqlite"
    bad = {
        which(Kind.ACTIVATIONS, NeuronId(0, 5)).path: Reply(403),
        which(Kind.ACTIVATIONS, NeuronId(0, 6)).path: Reply(503),
        which(Kind.ACTIVATIONS, NeuronId(1, 6)).path: Reply(body=b"<html>"),
        which(Kind.ACTIVATIONS, NeuronId(1, 7)).path: Reply(
            body=document(which(Kind.ACTIVATIONS, NeuronId(1, 8)))
        ),
    }
    with mirror_server(DOCUMENTS, lambda path, _: bad.get(path)) as mirror:
        counts = run(mirror, path)
        assert counts.failed == {"HTTP 403": 1, "HTTP 503": 1, "not in the format": 2}
        assert [mirror.asked[one] for one in bad] == [1, 6, 6, 6]
    with mirror_server(DOCUMENTS) as mirror:
        again = run(mirror, path)
    assert (again.n_got, again.failed) == (4, {})
    assert set(mirror.asked) >= set(bad)


def test_a_source_that_only_fails_is_given_up(tmp_path: Path) -> None:
    with mirror_server(DOCUMENTS, failing_always) as mirror:
        counts = run(mirror, tmp_path / "published.sqlite")
    assert counts.n_failed_in_a_row is not None
    assert MOST_FAILURES_IN_A_ROW <= counts.failed.total() < MOST_FAILURES_IN_A_ROW + 8
    assert counts.sentence().endswith("failed in a row")


def test_a_source_that_was_given_up_is_not_asked_again() -> None:
    source, clock = ScriptedSource(*[Failure("HTTP 403", may_pass=False)] * 99), Clock()
    fetcher = Fetcher(source, rng=random.Random(0), sleep=clock.sleep)
    fetched = [asyncio.run(fetcher.fetch(one)) for one in EVERYTHING[:70]]
    assert source.n_asked == MOST_FAILURES_IN_A_ROW
    assert {one.failure.reason for one in fetched[50:] if one.failure} == {NOT_TRIED}


def test_one_success_between_failures_is_no_reason_to_give_up() -> None:
    failures = [Failure("HTTP 403", may_pass=False)] * (MOST_FAILURES_IN_A_ROW - 1)
    source, clock = ScriptedSource(*failures), Clock()
    fetcher = Fetcher(source, rng=random.Random(0), sleep=clock.sleep)
    for one in EVERYTHING[:MOST_FAILURES_IN_A_ROW]:
        asyncio.run(fetcher.fetch(one))
    assert fetcher.n_failed_in_a_row == 0


def test_what_was_done_is_told_at_the_end_also_when_nothing_was_asked(tmp_path: Path) -> None:
    async def download_again() -> list[int]:
        told: list[int] = []
        async with open_source(str(tmp_path)) as source:
            fetcher = Fetcher(source, rng=random.Random(0))
            for _ in range(2):
                told.clear()
                await download(
                    fetcher, archive, EVERYTHING[:9], on_done=lambda c: told.append(c.n_done)
                )
        return told

    write_mirror(tmp_path, DOCUMENTS)
    with Archive(tmp_path / "a.sqlite") as archive:
        assert asyncio.run(download_again()) == [9]


def failing_always(_path: str, _n_before: int) -> Reply:
    return Reply(403)


def test_an_archive_that_cannot_be_written_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "published.sqlite"
    with mirror_server(DOCUMENTS) as mirror, Archive(path) as archive:
        with sqlite3.connect(path) as connection:
            connection.execute(
                "CREATE TRIGGER full BEFORE INSERT ON documents "
                "BEGIN SELECT RAISE(ABORT, 'full'); END"
            )
        connection.close()
        with pytest.raises(StoreError, match=r"published\.sqlite: full"):
            asyncio.run(_run(mirror.address, archive, EVERYTHING, Clock()))
    assert mirror.asked.total() < 20


class ScriptedSource:
    """Fails in the given ways, one a fetch, and then has the document."""

    address = "https://scripted"
    is_remote = True

    def __init__(self, *failures: Failure) -> None:
        self._failures = list(failures)
        self.n_asked = 0

    async def fetch(self, path: str) -> Fetched:
        self.n_asked += 1
        one = DocumentId.of_path(path)
        assert one is not None
        return Fetched(None, self._failures.pop(0)) if self._failures else Fetched(document(one))


def fetch(source: ScriptedSource, patience: Patience, clock: Clock) -> Fetched:
    fetcher = Fetcher(source, rng=random.Random(0), patience=patience, sleep=clock.sleep)
    return asyncio.run(fetcher.fetch(EVERYTHING[0]))


def test_waits_double_up_to_the_longest() -> None:
    clock, busy = Clock(), Failure("HTTP 503", may_pass=True)
    source = ScriptedSource(*[busy] * 5)
    assert fetch(source, Patience(6, 0.5, 3.0), clock).document == document(EVERYTHING[0])
    assert len(clock.slept_s) == 5
    for slept_s, full_s in zip(clock.slept_s, (0.5, 1, 2, 3, 3), strict=True):
        assert full_s / 2 < slept_s <= full_s


def test_the_server_is_left_alone_as_long_as_it_asks_within_bounds() -> None:
    clock = Clock()
    asks = [Failure("HTTP 429", may_pass=True, retry_after_s=wait_s) for wait_s in (7.0, 9999.0)]
    fetch(ScriptedSource(*asks), Patience(3, 0.5, 30.0), clock)
    assert clock.slept_s == [7, 30]


def test_the_last_failure_is_what_is_told() -> None:
    failures = [Failure(f"HTTP 50{n}", may_pass=True) for n in range(3)]
    source, clock = ScriptedSource(*failures), Clock()
    assert fetch(source, Patience(n_attempts=3), clock) == Fetched(None, failures[-1])
    assert source.n_asked == 3


def test_a_failure_that_stays_is_not_asked_about_again() -> None:
    source, clock = ScriptedSource(Failure("HTTP 403", may_pass=False)), Clock()
    assert fetch(source, Patience(), clock).failure is not None
    assert (source.n_asked, clock.slept_s) == (1, [])


def test_a_damaged_file_of_a_mirror_is_not_read_again(tmp_path: Path) -> None:
    async def fetch_damaged() -> Fetched:
        async with open_source(str(tmp_path)) as source:
            return await Fetcher(source, rng=random.Random(0), sleep=clock.sleep).fetch(one)

    clock, one = Clock(), EVERYTHING[0]
    write_mirror(tmp_path, {one.path: b"<html>"})
    failure = asyncio.run(fetch_damaged()).failure
    assert failure is not None
    assert failure.reason.startswith(f"not in the format: {tmp_path / one.path}: no JSON")
    assert clock.slept_s == []


def test_the_counts_are_one_sentence() -> None:
    counts = DownloadCounts(n_known=40, n_got=1200, n_absent=3)
    assert counts.sentence() == "1,200 got, 3 absent, 40 known before, 0 failed"
    counts.failed.update({"HTTP 503": 2, "no answer in time": 1})
    assert counts.sentence().endswith("3 failed (HTTP 503: 2, no answer in time: 1)")
