"""What does not grow: memory with the corpus, and the cost of one neuron with its layer.

    python jobs/benchmark_scaling.py           two lines
    python jobs/benchmark_scaling.py --json    {"memory_ratio", "read_ratio", ...}

Memory: peak resident size of collecting 4 N tokens beside that of N tokens, each in a process of
its own; 1 means that it does not grow. Reading: median time to read one neuron from a store beside
that of reading its whole layer, in turn.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.neuron_store import NeuronStore

GROWTH = 4
N_READS = 20
N_LAYER_READS = 3


def main(
    tokens: Annotated[int, typer.Option(help="N; the larger run reads 4 N.")] = 300_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Peak memory by corpus length, and the time to read one neuron."""
    with tempfile.TemporaryDirectory() as folder:
        small = collect_peak_mb(tokens, Path(folder) / "small")
        large = collect_peak_mb(GROWTH * tokens, Path(folder) / "large")
        one_s, layer_s = time_reads(NeuronStore(Path(folder) / "large" / "store"))
    answer = {
        "n_tokens": [tokens, GROWTH * tokens],
        "peak_mb": [round(small, 1), round(large, 1)],
        "memory_ratio": round(large / small, 3),
        "read_neuron_ms": round(1e3 * one_s, 3),
        "read_layer_ms": round(1e3 * layer_s, 1),
        "read_ratio": round(one_s / layer_s, 6),
    }
    if as_json:
        print(json.dumps(answer))
        return
    print(
        f"memory: {small:,.0f} MB for {tokens:,} tokens, {large:,.0f} MB for "
        f"{GROWTH * tokens:,}: ratio {large / small:.2f}\n"
        f"reading: {1e3 * one_s:.2f} ms for one neuron, {1e3 * layer_s:,.0f} ms for its layer: "
        f"ratio {one_s / layer_s:.5f}"
    )


def collect_peak_mb(n_tokens: int, run: Path) -> float:
    """Peak resident size of a process that collects from the bundled subject."""
    arguments = ["collect", "--tokens", str(n_tokens), "--run", str(run)]
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "neuron_explainer", *arguments],
        dict(os.environ),
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(child, 0)
    if status != 0:
        raise SystemExit(f"collecting {n_tokens:,} tokens failed")
    return usage.ru_maxrss / 1024


def time_reads(store: NeuronStore) -> tuple[float, float]:
    """Median seconds to read one neuron, and every neuron of one layer."""
    rng = random.Random(0)
    layer, n_units = store.manifest.layers[-1], store.manifest.n_units
    ones, layers = [], []
    for number in range(N_READS):
        ones.append(_time_read(store, [NeuronId(layer, rng.randrange(n_units))]))
        if number < N_LAYER_READS:
            layers.append(_time_read(store, [NeuronId(layer, unit) for unit in range(n_units)]))
    return statistics.median(ones), statistics.median(layers)


def _time_read(store: NeuronStore, neuron_ids: list[NeuronId]) -> float:
    started = time.perf_counter()
    for neuron_id in neuron_ids:
        store.read_neuron(neuron_id)
    return time.perf_counter() - started


if __name__ == "__main__":
    typer.run(main)
