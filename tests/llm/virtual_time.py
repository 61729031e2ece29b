"""An event loop whose clock jumps: an hour of waiting takes no time, and always the same course."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from asyncio_throttle import throttler as throttler_module

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("nothing will ever happen again")
        self.now_s += timeout
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


class _LoopTime:
    """Stands in for the module `time` in the throttler."""

    @staticmethod
    def monotonic() -> float:
        return now_s()


def now_s() -> float:
    return asyncio.get_running_loop().time()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """As asyncio.run, in virtual time; the throttler's package asks this clock too."""
    real_time = throttler_module.time
    throttler_module.time = _LoopTime
    try:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            return runner.run(coroutine)
    finally:
        throttler_module.time = real_time
