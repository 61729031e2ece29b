"""Worker processes: work that asks no language model, spread over the cores of this machine.

A worker opens the run folder for itself and only reads it; the process that started it writes what
comes. Whoever wants one process alone sets OMP_NUM_THREADS=1, as for torch itself.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import torch
from loky import ProcessPoolExecutor

from neuron_explainer.errors import WorkerLost
from neuron_explainer.pipeline.bounded import map_bounded
from neuron_explainer.pipeline.machine import available_cores
from neuron_explainer.pipeline.process_memory import memory_budget_bytes, used_memory_bytes

Part = TypeVar("Part")
Result = TypeVar("Result")

UNITS_A_WORKER = 256
"""At least: for fewer, its start takes longer than it saves."""
BYTES_A_WORKER = 1e9
"""Its libraries and what it reads; a model comes on top."""
PARTS_A_WORKER = 2
"""One that is worked on, and one that waits."""
PARENT_LOOK_S = 1.0
"""Between two looks of a worker at whether the process that started it is there."""


class Workers:
    """A context in which they live; none is started before there is a part for it."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(kill_workers=True)  # they hold nothing that could be lost

    async def map(
        self, function: Callable[[Part], Result], parts: Iterable[Part]
    ) -> AsyncIterator[Result]:
        """Results as they are ready; function: of a module, with arguments that pickle.

        The first error ends it. WorkerLost when a process ends by itself.
        """
        if self._executor is None:
            n_threads = max(1, torch.get_num_threads() // self.n)
            self._executor = ProcessPoolExecutor(
                self.n,
                initializer=_begin,
                initargs=(n_threads, os.getpid()),
                env={"OMP_NUM_THREADS": str(n_threads)},
            )
        executor = self._executor

        async def ask(part: Part) -> Result:
            try:
                return await asyncio.wrap_future(executor.submit(function, part))
            except BrokenProcessPool as error:
                raise WorkerLost(
                    "a worker process ended by itself, most likely for want of memory; what is "
                    "done is kept: the same command with OMP_NUM_THREADS=1 goes on in one process"
                ) from error

        async for result in map_bounded(ask, parts, PARTS_A_WORKER * self.n):
            yield result

    def have_room(self, n_bytes: float, memory_gb: float | None) -> bool:
        """Whether there are any, and each may take so much more; memory_gb: of the run."""
        return self.n > 1 and self.n * n_bytes <= _left_bytes(memory_gb)


def count_workers(n_units: int, memory_gb: float | None) -> int:
    """How many are worth their start, and find cores and memory; memory_gb: of the run."""
    by_memory = int(_left_bytes(memory_gb) / BYTES_A_WORKER)
    cores = min(available_cores(), torch.get_num_threads())
    return max(0, min(cores, by_memory, n_units // UNITS_A_WORKER))


def _left_bytes(memory_gb: float | None) -> float:
    cpu = torch.device("cpu")
    return memory_budget_bytes(memory_gb, cpu) - used_memory_bytes(cpu)


def keep_for_good(opened: Result) -> Result:
    """What a worker needs until it ends, and all there is besides, is not gone through again each
    time that garbage is collected; loky does so every second, which would take half of it.
    """
    gc.collect()
    gc.freeze()
    return opened


def _begin(n_threads: int, starter: int) -> None:
    """starter: process that ends the worker, on Ctrl-C too; one that is killed cannot."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(starter,), daemon=True).start()
    torch.set_num_threads(n_threads)


def _end_with(starter: int) -> None:
    while os.getppid() == starter:
        time.sleep(PARENT_LOOK_S)
    os._exit(1)
