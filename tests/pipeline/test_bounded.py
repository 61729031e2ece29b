"""The bounded map: no more at once than allowed, nothing taken early, nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from neuron_explainer.pipeline.bounded import map_bounded


class Worker:
    """Doubles a number when it is let go; counts what is under way."""

    def __init__(self) -> None:
        self.n_running = 0
        self.most_running = 0
        self.taken: list[int] = []
        self.cancelled: list[int] = []
        self.let_go = asyncio.Event()
        self.let_go.set()

    def items(self, n_items: int) -> Iterator[int]:
        for i in range(n_items):
            self.taken.append(i)
            yield i

    async def __call__(self, item: int) -> int:
        self.n_running += 1
        self.most_running = max(self.most_running, self.n_running)
        try:
            for _ in range(item % 4 + 1):
                await asyncio.sleep(0)
            if item % 10 == 7:
                raise RuntimeError(f"item {item}")
            if item % 10 == 8:
                self.let_go.clear()
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled.append(item)
            raise
        finally:
            self.n_running -= 1
        return 2 * item


def in_loop(test: Callable[[Worker], Coroutine[Any, Any, None]]) -> None:
    async def with_worker() -> None:
        await test(Worker())

    asyncio.run(with_worker())


@pytest.mark.parametrize("n_at_once", [1, 2, 5, 100])
def test_every_item_gives_its_result_whatever_the_number_at_once(n_at_once: int) -> None:
    async def test(worker: Worker) -> None:
        found = [x async for x in map_bounded(worker, iter(range(7)), n_at_once)]
        assert sorted(found) == [0, 2, 4, 6, 8, 10, 12]
        assert worker.most_running == min(n_at_once, 7)

    in_loop(test)


def test_one_at_a_time_keeps_the_order() -> None:
    async def test(worker: Worker) -> None:
        assert [x async for x in map_bounded(worker, range(7), 1)] == [0, 2, 4, 6, 8, 10, 12]

    in_loop(test)


def test_no_item_gives_no_result() -> None:
    async def test(worker: Worker) -> None:
        assert [x async for x in map_bounded(worker, [], 3)] == []

    in_loop(test)


def test_an_item_is_taken_when_there_is_room_for_it_and_not_before() -> None:
    async def test(worker: Worker) -> None:
        results = map_bounded(worker, worker.items(10**9), 3)
        assert worker.taken == []
        for n_results in range(1, 4):
            await anext(results)
            assert len(worker.taken) <= 3 + n_results
        await results.aclose()

    in_loop(test)


def test_the_first_error_is_raised_and_cancels_what_is_under_way() -> None:
    async def test(worker: Worker) -> None:
        worker.let_go.clear()
        with pytest.raises(RuntimeError, match="item 7"):
            async for _ in map_bounded(worker, worker.items(10**9), 9):
                pass
        assert worker.taken == list(range(9))
        await asyncio.sleep(0)
        assert sorted(worker.cancelled) == [0, 1, 2, 3, 4, 5, 6, 8]
        assert worker.n_running == 0

    in_loop(test)


def test_leaving_early_cancels_what_is_under_way() -> None:
    async def test(worker: Worker) -> None:
        results = map_bounded(worker, iter([0, 8, 18, 28]), 4)
        assert await anext(results) == 0
        await results.aclose()
        await asyncio.sleep(0)
        assert sorted(worker.cancelled) == [8, 18, 28]
        assert worker.n_running == 0

    in_loop(test)
