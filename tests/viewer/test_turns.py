"""Answers are made a few at a time, in the order they were asked for; what waits takes no turn."""

from __future__ import annotations

import threading
from collections.abc import Generator
from functools import partial

import anyio
from anyio import create_task_group, fail_after, to_thread
from starlette.responses import Response

from neuron_explainer.viewer.turns import Turns

PATIENCE_S = 60


def test_no_more_than_a_few_are_made_at_once_and_none_is_passed_over() -> None:
    most, under_way, order, lock = 0, 0, list[int](), threading.Lock()

    def answer(number: int) -> Response:
        nonlocal most, under_way
        with lock:
            order.append(number)
            under_way += 1
            most = max(most, under_way)
        with lock:
            under_way -= 1
        return Response(str(number))

    async def ask(n_at_once: int) -> None:
        nonlocal most
        most = 0
        order.clear()
        route = Turns(n_at_once).of(answer)
        async with create_task_group() as group:
            for number in range(20):
                group.start_soon(partial(route, number=number))

    for n_at_once in (1, 2):
        anyio.run(ask, n_at_once)
        assert sorted(order) == list(range(20))
        assert most <= n_at_once
        if n_at_once == 1:
            assert order == list(range(20))


def test_what_waits_takes_no_turn() -> None:
    begun, go_on, was_first = threading.Event(), threading.Event(), threading.Event()

    def answer(is_waiting: bool) -> Response:
        if is_waiting:
            begun.set()
            assert go_on.wait(PATIENCE_S)
        return Response(str(is_waiting))

    async def ask() -> None:
        turns = Turns(1)
        first = turns.of(answer, first=lambda **_asked: was_first.set())
        long = turns.of(answer, is_long=lambda is_waiting: not is_waiting)
        with fail_after(PATIENCE_S):
            async with create_task_group() as group:
                group.start_soon(partial(long, is_waiting=True))
                await to_thread.run_sync(begun.wait, PATIENCE_S)
                group.start_soon(partial(first, is_waiting=False))
                assert (await long(is_waiting=False)).body == b"False"
                assert await to_thread.run_sync(was_first.wait, PATIENCE_S)
                go_on.set()

    anyio.run(ask)


def test_a_long_answer_comes_whole_and_ends_when_it_is_left() -> None:
    ended: list[int] = []

    def parts(n: int) -> Generator[str, None, None]:
        try:
            yield from map(str, range(n))
        finally:
            ended.append(n)

    async def read() -> None:
        turns = Turns(1)
        assert [part async for part in turns.parts(parts(4))] == ["0", "1", "2", "3"]
        left = turns.parts(parts(5))
        assert await anext(left) == "0"
        await left.aclose()
        assert ended == [4, 5]

    anyio.run(read)
