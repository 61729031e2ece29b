"""What collecting costs beside the bare forward pass of the same model on the same blocks.

    python jobs/benchmark_collector.py             a table
    python jobs/benchmark_collector.py --json      {"ratios": [{"shape", "dtype", "ratio", ...}]}

The bare side runs the truncated forward (it stops at the last layer's neurons) and drops the
activations; the collecting side runs the same forward and keeps everything a store holds. The two
alternate block by block in one process, after a warm-up; ratio = median bare time / median
collecting time, so 1 is free and 0.85 means that collecting runs at 85 % of the forward's speed.
Each statistic alone is timed on the same activations, as a share of the bare forward.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from neuron_explainer.collector.layers import Block, FitLayer, Fitted, RecordLayer
from neuron_explainer.collector.plans import CollectPlan
from neuron_explainer.collector.sampling import hash_windows
from neuron_explainer.collector.token_means import TokenRows, plan_coverage
from neuron_explainer.collector.top_k import hash_keys, least_values_of, value_keys
from neuron_explainer.subject.hooks import reading_inputs
from neuron_explainer.subject.model import BUNDLED_FOLDER
from neuron_explainer.subject.sites import down_projection, find_down_projection, n_inputs

SHAPES = {
    "bundled": lambda: GPT2Config.from_pretrained(BUNDLED_FOLDER),
    "gpt2-small": GPT2Config,
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
PLAN = CollectPlan()
CPU = torch.device("cpu")
N_WARM_UP = 2
N_SEEN = 24
"""Record blocks before the timed ones: the first fill the top. A default run reads 180."""
DRAWN_EVERY = 6
"""In a default run one fit block in six is of drawn windows, one record block in six holds one."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Collecting beside the bare forward, for one shape and dtype."""

    shape: str
    dtype: str
    ratio: float
    """Over both passes, weighted by the default share of fit text."""
    ratio_fit: float
    ratio_record: float
    bare_tokens_s: float
    collect_tokens_s: float
    n_blocks: int
    statistics: dict[str, float]
    """Each statistic alone, as a share of the bare forward."""


class Bench:
    """One model, one seeded stream of blocks, and the state of both passes, warmed up."""

    def __init__(self, config: GPT2Config, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        self.model = GPT2LMHeadModel(config).train(False)
        nn.Module.to(self.model, dtype)
        self.layers = range(config.n_layer)
        path = find_down_projection(config)
        self._modules = {layer: down_projection(self.model, path, layer) for layer in self.layers}
        self.n_units = n_inputs(self._modules[0])
        rng = np.random.default_rng(0)
        zipf = 1 / np.arange(1, config.vocab_size + 1)
        self._draw = partial(rng.choice, config.vocab_size, p=zipf / zipf.sum())
        self._n_blocks_made = 0
        counts = (1e7 * zipf / zipf.sum()).astype(np.int64)
        coverage = plan_coverage(counts, self.n_units * len(self.layers), PLAN.token_means_gb * 1e9)
        self.rows = TokenRows(coverage, config.vocab_size, CPU)
        self.fit = [
            FitLayer(self.rows, self.n_units, PLAN.n_boundary_windows, CPU) for _ in self.layers
        ]
        self.record: list[RecordLayer] = []

    def block(self, n_drawn: int = 0) -> Block:
        """A block of random windows, of which `n_drawn` are among those drawn beforehand."""
        shape = (PLAN.block_size, PLAN.n_ctx)
        first = self._n_blocks_made * PLAN.block_size
        self._n_blocks_made += 1
        ids = torch.arange(first, first + PLAN.block_size)
        places = torch.where(ids < first + n_drawn, ids % PLAN.n_random, -1)
        return Block(torch.from_numpy(self._draw(size=shape)), ids, places)

    @torch.inference_mode()
    def read(self, block: Block, receive: Callable[[int, Tensor], None]) -> None:
        with reading_inputs(self._modules, receive, stop_after=self.layers[-1]):
            self.model.base_model(input_ids=block.tokens, use_cache=False)

    def bare(self, block: Block) -> None:
        self.read(block, lambda _layer, _acts: None)

    def fit_block(self, block: Block) -> None:
        def add(layer: int, acts: Tensor) -> None:
            if block.places[0] >= 0:
                self.fit[layer].draw(layer, block, acts, None)
            self.fit[layer].add(layer, block, acts, None)

        self.read(block, add)

    def record_block(self, block: Block) -> None:
        self.read(block, lambda layer, acts: self.record[layer].add(layer, block, acts, None))

    def start_recording(self) -> None:
        """State of the record pass, with boundaries from real activations of this model."""
        fitted: dict[int, Fitted] = {}

        def quantiles(layer: int, acts: Tensor) -> None:
            maxima = acts.amax(1).float()  # (window, unit)
            levels = torch.tensor([0.5, 0.9, 0.99, 0.999])
            boundaries = maxima.quantile(levels, dim=0).T.contiguous()
            fitted[layer] = Fitted(boundaries, acts.float().mean((0, 1)))

        self.read(self.block(), quantiles)
        self.record = [RecordLayer(fitted[layer], PLAN, PLAN.n_random) for layer in self.layers]


def main(
    n_blocks: Annotated[int, typer.Option(help="Timed blocks of 4,096 tokens a side.")] = 8,
    shapes: Annotated[str, typer.Option(help="Which model shapes.")] = ",".join(SHAPES),
    dtypes: Annotated[str, typer.Option(help="Which dtypes.")] = ",".join(DTYPES),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Throughput of the collector beside the bare truncated forward."""
    cases = [(shape, dtype) for shape in shapes.split(",") for dtype in dtypes.split(",")]
    console = Console(stderr=as_json)
    ratios = [
        measure(shape, dtype, n_blocks)
        for shape, dtype in track(cases, "measuring", console=console)
    ]
    if as_json:
        answer = {
            "ratios": [asdict(ratio) for ratio in ratios],
            "n_threads": torch.get_num_threads(),
            "block": [PLAN.block_size, PLAN.n_ctx],
        }
        print(json.dumps(answer))
    else:
        print_table(console, ratios)


def measure(shape: str, dtype: str, n_blocks: int) -> Ratio:
    """Times both passes of one case."""
    bench = Bench(SHAPES[shape](), DTYPES[dtype])
    fit_bare, fit = alternate(bench, bench.fit_block, n_blocks, n_drawn=PLAN.block_size)
    bench.start_recording()
    for _ in range(N_SEEN):
        bench.record_block(bench.block())
    record_bare, record = alternate(bench, bench.record_block, n_blocks, n_drawn=1)
    bare = statistics.median(fit_bare + record_bare)
    ratio_fit = statistics.median(fit_bare) / statistics.median(fit)
    ratio_record = statistics.median(record_bare) / statistics.median(record)
    ratio = 2 / (1 / ratio_fit + 1 / ratio_record)
    n_tokens = PLAN.block_size * PLAN.n_ctx
    return Ratio(
        shape=shape,
        dtype=dtype,
        ratio=round(ratio, 4),
        ratio_fit=round(ratio_fit, 4),
        ratio_record=round(ratio_record, 4),
        bare_tokens_s=round(n_tokens / bare, 1),
        collect_tokens_s=round(n_tokens / bare * ratio, 1),
        n_blocks=n_blocks,
        statistics={name: round(s / bare, 4) for name, s in time_statistics(bench).items()},
    )


def alternate(
    bench: Bench, collect: Callable[[Block], None], n_blocks: int, n_drawn: int
) -> tuple[list[float], list[float]]:
    """Seconds of each block, bare and collecting in turn on the same tokens.

    n_drawn: drawn windows in one block of DRAWN_EVERY.
    """
    bare_s: list[float] = []
    collect_s: list[float] = []
    for number in range(N_WARM_UP + n_blocks):
        block = bench.block(n_drawn if number % DRAWN_EVERY == 0 else 0)
        for seconds, side in ((bare_s, bench.bare), (collect_s, collect)):
            elapsed = time_call(partial(side, block))
            if number >= N_WARM_UP:
                seconds.append(elapsed)
    return bare_s, collect_s


def time_statistics(bench: Bench, n_repeats: int = 5) -> dict[str, float]:
    """Seconds of each statistic for a whole block, all layers, each layer with its own state."""
    seen: dict[int, Tensor] = {}
    block = bench.block()
    bench.read(block, lambda layer, acts: seen.update({layer: acts.clone()}))
    acts = seen[bench.layers[-1]]
    flat = acts.flatten(0, 1)
    rows = acts.transpose(1, 2)
    maxima = acts.amax(1).float()
    keys = hash_keys(hash_windows(block.ids, PLAN.seed, "band"), block.ids)
    nothing = (block.ids[:0], block.ids[:0])

    def add_top(layer: int) -> None:
        top = bench.record[layer].top
        unit, window = (maxima >= least_values_of(top.floor)).T.nonzero(as_tuple=True)
        claims = value_keys(maxima[window, unit], block.ids[window])
        top.offer(unit, claims, lambda i: rows[window[i], unit[i]])

    def add_bands(layer: int) -> None:
        bench.record[layer].bands.add(maxima, keys, lambda w, u: rows[w, u], nothing)

    timed: dict[str, Callable[[int], object]] = {
        "window maxima": lambda _layer: acts.amax(1).float(),
        "moments": lambda layer: bench.record[layer].moments.add(flat),
        "top-k": add_top,
        "bands": add_bands,
        "token means": lambda layer: bench.fit[layer].token_sums.add(block.tokens, flat),
    }

    def for_all_layers(statistic: Callable[[int], object]) -> None:
        for layer in bench.layers:
            statistic(layer)

    with torch.inference_mode():
        return {
            name: statistics.median(
                time_call(partial(for_all_layers, statistic)) for _ in range(n_repeats)
            )
            for name, statistic in timed.items()
        }


def time_call(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def print_table(console: Console, ratios: list[Ratio]) -> None:
    table = Table(title="Collector beside the bare truncated forward")
    for name in ("shape", "dtype", "ratio", "fit", "record", "bare tokens/s", "tokens/s"):
        table.add_column(name, justify="right")
    for r in ratios:
        table.add_row(
            r.shape, r.dtype, f"{r.ratio:.3f}", f"{r.ratio_fit:.3f}", f"{r.ratio_record:.3f}",
            f"{r.bare_tokens_s:,.0f}", f"{r.collect_tokens_s:,.0f}",
        )  # fmt: skip
    console.print(table)
    costs = Table(title="Cost of each statistic alone, as a share of the bare forward")
    for name in ("shape", "dtype", *ratios[0].statistics):
        costs.add_column(name, justify="right")
    for r in ratios:
        costs.add_row(r.shape, r.dtype, *(f"{x:.1%}" for x in r.statistics.values()))
    console.print(costs)


if __name__ == "__main__":
    typer.run(main)
