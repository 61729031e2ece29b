"""What the local simulator saves beside plain forward passes of the same model and prompts.

    python jobs/benchmark_simulator.py             two lines
    python jobs/benchmark_simulator.py --json      {"speedup": …, "memory_ratio": …}

A prompt is a shared beginning of 1,500 tokens (the worked examples), an explanation of 30, and a
window of 64 lines of 4 tokens, in which the value of each line is asked for. The plain side reads
each prompt whole, with the logits of all its tokens; the other side is the client that simulators
use. Both alternate in one process after a warm-up; speedup = median seconds a window of the plain
side, in whichever batch size is better for it, over those of the client. All values are compared.
Memory: the peak above the loaded model of either side in a process of its own, batches alike.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Annotated, Literal, TypeVar

import torch
import typer
from transformers import GPT2Config, GPT2LMHeadModel

from neuron_explainer.llm.local_model import LocalModel
from neuron_explainer.llm.messages import ExpectedValues, PromptLogprobRequest
from neuron_explainer.llm.transformers_client import CPU_BATCH_SIZE, LocalPromptLogprobClient
from neuron_explainer.pipeline.process_memory import peak_memory_bytes, used_memory_bytes

SHAPES: dict[str, Callable[[], GPT2Config]] = {
    "gpt2-small": lambda: GPT2Config(n_positions=2048),
}
N_PREFIX, N_EXPLANATION, N_LINES = 1_500, 30, 64
WINDOWS_A_UNIT = 10
TAB, UNKNOWN, LINE_BREAK = 20, 21, 22
ONE_TOKEN = tuple((value,) for value in range(11))
TWO_TOKENS = (*ONE_TOKEN[:10], (1, 0))
MAX_DIFFERENCE = 1e-3
CPU = torch.device("cpu")
Side = Literal["plain", "client"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Comparison:
    """The client beside the plain forward pass."""

    speedup: float
    speedup_two_tokens: float
    """Where 10 is two tokens, of which the plain side looks at the first alone."""
    memory_ratio: float
    client_s: float
    """Median seconds a window."""
    plain_s: float
    plain_batch_s: float
    """The same, with as many windows a forward pass as the client takes."""
    prefix_s: float
    """To read the shared beginning, once for all windows; part of neither."""
    client_mb: float
    """Peak above the loaded model."""
    plain_mb: float
    max_difference: float
    """Between the values of both sides."""
    n_windows: int
    batch_size: int
    n_threads: int


def main(
    n_windows: Annotated[int, typer.Option(help="Timed windows a side.")] = 10,
    batch_size: Annotated[int, typer.Option(help="Windows a forward pass.")] = CPU_BATCH_SIZE,
    shape: Annotated[str, typer.Option(help="Which model shape.")] = "gpt2-small",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Speed and memory of the local simulator beside plain forward passes."""
    found = compare(SHAPES[shape](), n_windows, batch_size)
    if found.max_difference > MAX_DIFFERENCE:
        raise SystemExit(f"the sides differ by {found.max_difference}: one of them is wrong")
    if as_json:
        print(json.dumps(asdict(found)))
        return
    print(
        f"time: {found.client_s:.2f} s a window, plainly {found.plain_s:.2f}: speedup "
        f"{found.speedup:.2f} ({found.speedup_two_tokens:.2f} where 10 is two tokens)\n"
        f"memory: {found.client_mb:,.0f} MB above the model, plainly {found.plain_mb:,.0f}: ratio "
        f"{found.memory_ratio:.3f}"
    )


def compare(config: GPT2Config, n_windows: int, batch_size: int) -> Comparison:
    # Memory first: a process is born with the peak of the one that started it.
    client_mb = measure_memory(config, "client", batch_size)
    plain_mb = measure_memory(config, "plain", batch_size)
    model = build(config)
    local = LocalModel(model)
    client = LocalPromptLogprobClient(local, batch_size=batch_size)
    n_batches = -(-n_windows // batch_size)
    requests = make_requests(config, (n_batches + 1) * batch_size)
    prefix_s, _ = time_call(lambda: local.read(requests[0].prefix[:-1]))
    seconds: dict[str, list[float]] = {}
    differences: list[float] = []
    for number in range(n_batches + 1):
        batch = requests[number * batch_size : (number + 1) * batch_size]
        client_values = _time_side(seconds, "client", batch, partial(ask, client))
        _time_side(seconds, "pairs", as_pairs(batch), partial(ask, client))
        _time_side(seconds, "plain", batch[:1], partial(read_plainly, model))
        plain_values = _time_side(seconds, "plain batch", batch, partial(read_plainly, model))
        differences += [abs(x - y) for x, y in zip(client_values, plain_values, strict=True)]
    median = {side: statistics.median(times[1:]) for side, times in seconds.items()}
    plain_s = min(median["plain"], median["plain batch"])
    return Comparison(
        speedup=round(plain_s / median["client"], 3),
        speedup_two_tokens=round(plain_s / median["pairs"], 3),
        memory_ratio=round(client_mb / plain_mb, 4),
        client_s=round(median["client"], 4),
        plain_s=round(median["plain"], 4),
        plain_batch_s=round(median["plain batch"], 4),
        prefix_s=round(prefix_s, 4),
        client_mb=round(client_mb, 1),
        plain_mb=round(plain_mb, 1),
        max_difference=max(differences),
        n_windows=n_batches * batch_size,
        batch_size=batch_size,
        n_threads=torch.get_num_threads(),
    )


def measure_memory(config: GPT2Config, side: Side, batch_size: int) -> float:
    """MB above the loaded model, in a process of its own: a process's peak never falls."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(read_and_measure, config, side, batch_size).result()


def read_and_measure(config: GPT2Config, side: Side, batch_size: int) -> float:
    """Two batches of one side; megabytes."""
    model = build(config)
    requests = make_requests(config, 2 * batch_size)
    loaded_bytes = used_memory_bytes(CPU)
    batches = [requests[:batch_size], requests[batch_size:]]
    if side == "plain":
        for batch in batches:
            read_plainly(model, batch)
    else:
        client = LocalPromptLogprobClient(LocalModel(model), batch_size=batch_size)
        for batch in batches:
            ask(client, batch)
    return (peak_memory_bytes(CPU) - loaded_bytes) / 1e6


def build(config: GPT2Config) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config)
    model.train(False)
    return model


def make_requests(config: GPT2Config, n_windows: int) -> list[PromptLogprobRequest]:
    """Windows of random tokens; a unit's windows have its explanation before them."""
    rng = random.Random(0)
    words = range(LINE_BREAK + 1, config.vocab_size)
    prefix = tuple(rng.choices(words, k=N_PREFIX))
    requests = []
    for number in range(n_windows):
        if number % WINDOWS_A_UNIT == 0:
            explanation = rng.choices(words, k=N_EXPLANATION)
        ids = list(explanation)
        for _ in range(N_LINES):
            ids += [rng.choice(words), TAB, UNKNOWN, LINE_BREAK]
        positions = tuple(range(N_EXPLANATION + 2, len(ids), 4))
        requests.append(
            PromptLogprobRequest("", prefix, tuple(ids), positions, ONE_TOKEN, LINE_BREAK)
        )
    return requests


def as_pairs(requests: Sequence[PromptLogprobRequest]) -> list[PromptLogprobRequest]:
    """The same, for a tokenizer that makes two tokens of 10."""
    return [replace(request, values=TWO_TOKENS) for request in requests]


def ask(client: LocalPromptLogprobClient, requests: Sequence[PromptLogprobRequest]) -> list[float]:
    """Every expected value, one window after the other."""

    async def gather() -> list[ExpectedValues]:
        return await asyncio.gather(*map(client.ask, requests))

    answers = asyncio.run(gather())
    return [value for answer in answers for value in answer.expected if value is not None]


def read_plainly(model: GPT2LMHeadModel, requests: Sequence[PromptLogprobRequest]) -> list[float]:
    """The same from one forward pass over the whole prompts, which are all of one length."""
    prompts = torch.tensor([request.prefix + request.ids for request in requests])
    with torch.inference_mode():
        logits = model(prompts, use_cache=False).logits  # (window, token, vocabulary)
    values = torch.arange(len(ONE_TOKEN))
    expected = []
    for request, of_window in zip(requests, logits, strict=True):
        asked = torch.tensor(request.positions) + len(request.prefix) - 1
        p = of_window[asked][:, [v for (v,) in ONE_TOKEN]].double().softmax(-1)
        expected += (p @ values.double()).tolist()
    return expected


def time_call(call: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def _time_side(
    seconds: dict[str, list[float]],
    side: str,
    batch: Sequence[PromptLogprobRequest],
    read: Callable[[Sequence[PromptLogprobRequest]], list[float]],
) -> list[float]:
    """The values; notes the seconds a window."""
    elapsed, values = time_call(lambda: read(batch))
    seconds.setdefault(side, []).append(elapsed / len(batch))
    return values


if __name__ == "__main__":
    typer.run(main)
