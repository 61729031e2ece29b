"""What does not grow: memory with the corpus, and the cost of some neurons with their layers.

    python jobs/benchmark_scaling.py                                  four lines
    python jobs/benchmark_scaling.py --model gpt2 --corpus hf:…       of another model and text
    python jobs/benchmark_scaling.py --json                           {"memory_ratio": ...}

Memory: peak resident size of collecting 10 N tokens beside that of N tokens, each in a process of
its own (1 means that it does not grow), and beside what was planned before either began. Reading:
median time to read one neuron from a store beside that of reading its whole layer, in turn. Chosen
units: time, memory beyond the model's, and disk of collecting N tokens for 50 units drawn from all
layers, beside collecting every unit.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from neuron_explainer.collector.memory import MemoryPlan
from neuron_explainer.pipeline.events import Event, MemoryPlanned, StageFinished, StageStarted
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.process_memory import peak_memory_bytes
from neuron_explainer.pipeline.run import run_collect
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.pipeline.unit_choice import choose_neurons
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.neuron_store import NeuronStore

GROWTH = 10
N_READS = 20
N_LAYER_READS = 3
N_CHOSEN = 50


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one collection in a process of its own."""

    n_tokens: int
    n_units: int
    seconds: float
    """Of reading the text with the model, both passes, and writing the store."""
    before_mb: float
    """The program and the model."""
    planned_mb: float
    peak_mb: float
    disk_mb: float
    """Of the layers' files."""

    @property
    def plan_ratio(self) -> float:
        return self.planned_mb / self.peak_mb

    def ratios(self, other: Cost) -> dict[str, float]:
        """This beside the other: time, memory beyond the program and the model, disk."""
        return {
            "seconds": round(self.seconds / other.seconds, 4),
            "memory": round((self.peak_mb - self.before_mb) / (other.peak_mb - other.before_mb), 4),
            "disk": round(self.disk_mb / other.disk_mb, 4),
        }

    def sentence(self) -> str:
        return (
            f"{self.n_units:,} neurons in {self.seconds:,.1f} s, "
            f"{self.peak_mb - self.before_mb:,.0f} MB beyond the model's {self.before_mb:,.0f}, "
            f"{self.disk_mb:,.1f} MB on disk"
        )


def main(
    tokens: Annotated[int, typer.Option(help="N; the larger run reads 10 N.")] = 400_000,
    model: Annotated[str, typer.Option(help="As for `collect`.")] = "bundled",
    corpus: Annotated[str, typer.Option(help="As for `collect`.")] = "pydocs",
    dtype: Annotated[str, typer.Option(help="As for `collect`.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Peak memory by corpus length and beside its plan; the cost of one neuron and of fifty."""
    spec = RunSpec(model=model, corpus=corpus, dtype=dtype, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        small, large = (
            measure(replace(spec, n_tokens=n_tokens), Path(folder) / str(n_tokens))
            for n_tokens in (tokens, GROWTH * tokens)
        )
        everyone = NeuronStore(RunFolder(Path(folder) / str(tokens)).store).neuron_ids()
        units = ",".join(map(str, choose_neurons(str(N_CHOSEN), everyone, seed=0)))
        chosen = measure(replace(spec, n_tokens=tokens, units=units), Path(folder) / "chosen")
        store = NeuronStore(RunFolder(Path(folder) / str(GROWTH * tokens)).store)
        one_s, layer_s = time_reads(store)
    memory_ratio = large.peak_mb / small.peak_mb
    if as_json:
        answer = {
            "memory": [asdict(small), asdict(large)],
            "chosen_units": asdict(chosen),
            "chosen_ratios": chosen.ratios(small),
            "memory_ratio": round(memory_ratio, 3),
            "plan_ratios": [round(small.plan_ratio, 3), round(large.plan_ratio, 3)],
            "read_neuron_ms": round(1e3 * one_s, 3),
            "read_layer_ms": round(1e3 * layer_s, 1),
            "read_ratio": round(one_s / layer_s, 6),
        }
        print(json.dumps(answer))
        return
    print(
        f"memory: {small.peak_mb:,.0f} MB for {small.n_tokens:,} tokens, {large.peak_mb:,.0f} MB "
        f"for {large.n_tokens:,}: ratio {memory_ratio:.3f}\n"
        f"plan: {small.planned_mb:,.0f} and {large.planned_mb:,.0f} MB, ratio to the peak "
        f"{small.plan_ratio:.3f} and {large.plan_ratio:.3f}\n"
        f"reading: {1e3 * one_s:.2f} ms for one neuron, {1e3 * layer_s:,.0f} ms for its layer: "
        f"ratio {one_s / layer_s:.5f}\n"
        f"chosen units: {chosen.sentence()}; every one: {small.sentence()}; ratios "
        + ", ".join(f"{name} {ratio:.4f}" for name, ratio in chosen.ratios(small).items())
    )


def measure(spec: RunSpec, run: Path) -> Cost:
    """In a process of its own: a process's peak never falls."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(collect_and_measure, spec, run).result()


def collect_and_measure(spec: RunSpec, run: Path) -> Cost:
    planned: list[MemoryPlan] = []
    times: list[float] = []

    def listen(event: Event) -> None:
        match event:
            case MemoryPlanned(plan):
                planned.append(plan)
            case StageStarted(stage="collect") | StageFinished(stage="collect"):
                times.append(time.perf_counter())

    folder = RunFolder(run)
    run_collect(spec, folder, listen)
    ((plan,), (started, finished)) = planned, times
    files = [*folder.store.glob("layer_*/*")]
    return Cost(
        n_tokens=spec.n_tokens,
        n_units=len(NeuronStore(folder.store).units),
        seconds=finished - started,
        before_mb=plan.parts[0].size_bytes / 1e6,
        planned_mb=plan.peak_bytes / 1e6,
        peak_mb=peak_memory_bytes(torch.device("cpu")) / 1e6,
        disk_mb=sum(path.stat().st_size for path in files) / 1e6,
    )


def time_reads(store: NeuronStore) -> tuple[float, float]:
    """Median seconds to read one neuron, and every neuron of one layer."""
    rng = random.Random(0)
    layer = store.units.layers[-1]
    units = store.units.of_layer(layer)
    ones, layers = [], []
    for number in range(N_READS):
        ones.append(_time_read(store, [NeuronId(layer, rng.choice(units))]))
        if number < N_LAYER_READS:
            layers.append(_time_read(store, [NeuronId(layer, unit) for unit in units]))
    return statistics.median(ones), statistics.median(layers)


def _time_read(store: NeuronStore, neuron_ids: list[NeuronId]) -> float:
    started = time.perf_counter()
    for neuron_id in neuron_ids:
        store.read_neuron(neuron_id)
    return time.perf_counter() - started


if __name__ == "__main__":
    typer.run(main)
