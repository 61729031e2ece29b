"""What asking a server costs us: how full the rate limit is used, CPU a request, memory.

    python jobs/benchmark_client.py            a table
    python jobs/benchmark_client.py --json     {"utilisation", "most_in_a_minute", ...}

Every request goes through all that a run's do: cache and spending on disk, retries, the limiter,
the budget, the openai package. The server is another process (jobs/benchmark_server.py), so that
its CPU is not counted; it notes when each request arrives. Three runs, each in a fresh process:
one at the rate limit for some minutes, and two without one, which differ in the number of requests
alone: their memory should not.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import count, takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from neuron_explainer.llm.budget import PICOUSD, Budget, BudgetedClient, charged_to
from neuron_explainer.llm.cache import COMPLETIONS, CachedClient
from neuron_explainer.llm.client import LLMClient
from neuron_explainer.llm.messages import CompletionRequest, Message
from neuron_explainer.llm.openai_client import NO_KEY, OpenAIClient
from neuron_explainer.llm.prices import read_prices
from neuron_explainer.llm.retry import RetryingClient
from neuron_explainer.llm.throttle import Limiter, ThrottledClient
from neuron_explainer.pipeline.bounded import map_bounded
from neuron_explainer.stores.response_cache import SqliteResponseCache
from neuron_explainer.stores.spending import SpendingStore

SERVER = Path(__file__).with_name("benchmark_server.py")
LATENCY_S = 0.05
MODEL = "gpt-4o-mini"
MOST_IN_FLIGHT = 64
REQUESTS_A_UNIT = 11
"""An explanation, and a simulation of each of ten windows."""
UNITS_AT_ONCE = 12
NO_LIMIT = 10**7
"""Requests a minute: more than any machine sends."""
SHARED = "Neuron\nthe\t0\n river\t10\n bank\t3\n" * 100
"""Few-shot examples, about as long as the real ones."""
BUDGET_USD = 10**6


@dataclass(frozen=True, slots=True)
class Run:
    """One process that sent some requests."""

    n_requests: int
    cpu_ms_a_request: float
    """Of the client's process alone."""
    peak_memory_mb: float
    utilisation: float
    """Arrivals in the run's time, as a share of what the rate limit allows."""
    most_in_a_minute: int
    """Arrivals at the server in the fullest 60 seconds."""


def main(
    requests_a_minute: Annotated[int, typer.Option(help="The rate limit.")] = 6000,
    minutes: Annotated[float, typer.Option(help="Of the run at the rate limit.")] = 2.5,
    n_few: Annotated[int, typer.Option(help="Requests of the short run without a limit.")] = 1000,
    n_many: Annotated[int, typer.Option(help="Requests of the long one.")] = 50_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Utilisation of a rate limit, CPU a request, and memory by number of requests."""
    limited = in_fresh_process(requests_a_minute, minutes=minutes)
    few, many = (in_fresh_process(NO_LIMIT, n_requests=n) for n in (n_few, n_many))
    answer = {
        "requests_a_minute": requests_a_minute,
        "utilisation": limited.utilisation,
        "most_in_a_minute": limited.most_in_a_minute,
        "cpu_ms_a_request": {"at_the_limit": limited.cpu_ms_a_request,
                             "without_a_limit": many.cpu_ms_a_request},
        "peak_memory_mb": {str(run.n_requests): run.peak_memory_mb for run in (few, many)},
        "memory_ratio": round(many.peak_memory_mb / few.peak_memory_mb, 4),
    }  # fmt: skip
    if as_json:
        print(json.dumps(answer))
    else:
        print_table(answer)


def in_fresh_process(requests_a_minute: int, **until: float) -> Run:
    """What `measure` finds in a process that did nothing before."""
    code = "import sys; from jobs import benchmark_client as b; b.measure_and_print(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps({"requests_a_minute": requests_a_minute} | until)],
        cwd=SERVER.parents[1],
        stdout=subprocess.PIPE,
        check=True,
    )
    return Run(**json.loads(done.stdout))


def measure_and_print(arguments: str) -> None:
    print(json.dumps(asdict(measure(**json.loads(arguments)))))


def measure(
    requests_a_minute: int, n_requests: int | None = None, minutes: float | None = None
) -> Run:
    """Sends so many requests, rounded up to whole units, or for so long."""
    with TemporaryDirectory() as folder, started_server() as server:
        units: Iterable[int] = count()
        if n_requests is not None:
            units = range(math.ceil(n_requests / REQUESTS_A_UNIT))
        if minutes is not None:
            ends_at = time.monotonic() + minutes * 60
            units = takewhile(lambda _unit: time.monotonic() < ends_at, units)
        started_s, cpu_s = time.monotonic(), time.process_time()
        n_sent = asyncio.run(send(units, server.base_url, requests_a_minute, Path(folder)))
        cpu_s = time.process_time() - cpu_s
        elapsed_s = time.monotonic() - started_s
        arrivals = server.arrivals()
    assert len(arrivals) == n_sent, "a request was lost or sent twice"
    return Run(
        n_requests=n_sent,
        cpu_ms_a_request=round(cpu_s / n_sent * 1000, 3),
        peak_memory_mb=round(peak_memory_bytes() / 1e6, 1),
        utilisation=round(n_sent / (elapsed_s / 60 * requests_a_minute), 4),
        most_in_a_minute=most_in_a_minute(arrivals),
    )


async def send(units: Iterable[int], base_url: str, requests_a_minute: int, folder: Path) -> int:
    """Asks through the whole stack, as a run does; how many requests there were."""
    openai_client = OpenAIClient(api_key=NO_KEY, base_url=base_url, most_in_flight=MOST_IN_FLIGHT)
    with ExitStack() as stack:
        spending = stack.enter_context(SpendingStore(folder / "spending.sqlite"))
        cache = stack.enter_context(SqliteResponseCache(folder / "responses.sqlite"))
        budget = Budget(spending, limit_picousd=BUDGET_USD * PICOUSD)
        budgeted = BudgetedClient(openai_client, budget, read_prices().find)
        limiter = Limiter(requests_a_minute, most_in_flight=MOST_IN_FLIGHT)
        retrying = RetryingClient(ThrottledClient(budgeted, limiter), rng=random.Random(0))
        client = CachedClient(retrying, cache, COMPLETIONS, namespace=base_url)
        try:
            asked = map_bounded(lambda unit: ask_of_unit(client, unit), units, UNITS_AT_ONCE)
            return sum([n_requests async for n_requests in asked])
        finally:
            await openai_client.close()


async def ask_of_unit(client: LLMClient, unit: int) -> int:
    """One request, and then the others together: how many they were."""
    charged_to.set(f"0:{unit}/explain")
    await client.ask(made_request(f"unit {unit}"))
    charged_to.set(f"0:{unit}/simulate")
    windows = [f"window {n} of unit {unit}" for n in range(1, REQUESTS_A_UNIT)]
    answers = await asyncio.gather(*(client.ask(made_request(window)) for window in windows))
    return 1 + len(answers)


def made_request(name: str) -> CompletionRequest:
    """As long as a real one; no two are equal."""
    window = "\n".join(f"token {place} of {name}\tunknown" for place in range(64))
    messages = (
        Message("system", "You predict how strongly a neuron responds to each token."),
        Message("user", SHARED),
        Message("user", window),
    )
    return CompletionRequest(MODEL, messages, max_tokens=60, temperature=0.0)


class Server:
    """The other process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        self.base_url = f"http://127.0.0.1:{int(self._stdout.readline())}/v1"

    def arrivals(self) -> list[float]:
        """Seconds, in order."""
        self._stdin.write("\n")
        self._stdin.flush()
        arrivals: list[float] = json.loads(self._stdout.readline())
        return arrivals


@contextmanager
def started_server() -> Iterator[Server]:
    command = [sys.executable, str(SERVER), str(LATENCY_S)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Server(process)


def most_in_a_minute(arrivals: list[float]) -> int:
    first = most = 0
    for last, at in enumerate(arrivals):
        while arrivals[first] <= at - 60:
            first += 1
        most = max(most, last - first + 1)
    return most


def peak_memory_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def print_table(answer: dict[str, object]) -> None:
    table = Table(title="Asking a server that answers after 50 ms")
    for name in ("figure", "value"):
        table.add_column(name)
    for name, value in answer.items():
        table.add_row(name.replace("_", " "), str(value))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
