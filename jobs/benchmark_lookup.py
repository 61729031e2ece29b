"""How quickly a published neuron is looked up in an archive, step by step.

    python -m jobs.benchmark_lookup                  40 neurons, each step 25 times on each
    python -m jobs.benchmark_lookup --json           {"median_ms": {...}, "size_kb": {...}}

The documents are made up, of the published shape (made_dataset.py). Steps take turns within each
round, so that whatever else the machine does slows all of them alike.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from jobs.made_dataset import MadeDataset
from neuron_explainer.pipeline.lookup_frame import look_up_many
from neuron_explainer.published.archive import Archive
from neuron_explainer.published.documents import read_content
from neuron_explainer.published.locations import DATASETS, DocumentId, Kind, documents_of
from neuron_explainer.published.lookup import look_up
from neuron_explainer.records.neuron import NeuronId

XL = DATASETS["gpt2-xl"]
LAYER = 0


def main(
    n_neurons: Annotated[int, typer.Option(help="Neurons in the archive.", min=1)] = 40,
    n_rounds: Annotated[int, typer.Option(help="Times each is looked up.", min=1)] = 25,
    seed: Annotated[int, typer.Option(help="Of the made documents.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Milliseconds a neuron, median, by step; and in bulk."""
    with TemporaryDirectory() as folder:
        answer = measure(Path(folder) / "published.sqlite", n_neurons, n_rounds, seed)
    if as_json:
        print(json.dumps(answer))
    else:
        print_table(answer)


def measure(path: Path, n_neurons: int, n_rounds: int, seed: int) -> dict[str, Any]:
    """Fills an archive, and looks up each of its neurons once a round, in all ways."""
    made, sizes = MadeDataset(seed), defaultdict[str, list[int]](list)
    with Archive(path) as archive:
        for which in documents_of(XL, [LAYER], tuple(Kind), n_neurons):
            document = made.document(which)
            archive.add(which, document, "made")
            sizes[which.kind].append(len(document))
    neuron_ids = [NeuronId(LAYER, n) for n in range(n_neurons)]
    times_ms: defaultdict[str, list[float]] = defaultdict(list)
    with Archive(path, read_only=True) as archive:
        for _ in range(n_rounds):
            for name, ms in asyncio.run(_time_round(archive, neuron_ids)):
                times_ms[name].append(ms)
            started_s = time.perf_counter()
            look_up_many(neuron_ids, archive=path, is_offline=True)
            times_ms["look_up_many, a neuron"].append(_since_ms(started_s) / n_neurons)
    return {
        "n_neurons": n_neurons,
        "median_ms": {name: round(statistics.median(ms), 3) for name, ms in times_ms.items()},
        "size_kb": {kind: round(statistics.median(ns) / 1e3, 1) for kind, ns in sizes.items()},
    }


async def _time_round(archive: Archive, neuron_ids: list[NeuronId]) -> list[tuple[str, float]]:
    times: list[tuple[str, float]] = []
    for neuron_id in neuron_ids:
        times += _time_steps(archive, neuron_id)
        started_s = time.perf_counter()
        await look_up(XL, neuron_id, archive=archive)
        times.append(("look_up", _since_ms(started_s)))
    return times


def _time_steps(archive: Archive, neuron_id: NeuronId) -> Iterator[tuple[str, float]]:
    documents: dict[DocumentId, bytes] = {}
    started_s = time.perf_counter()
    for kind in Kind:
        which = DocumentId(XL.name, kind, neuron_id)
        found = archive.read(which)
        assert found is not None
        assert found.document is not None
        documents[which] = found.document
    yield "read five documents", _since_ms(started_s)
    for which, document in documents.items():
        started_s = time.perf_counter()
        read_content(which, document)
        yield f"parse {which.kind}", _since_ms(started_s)


def _since_ms(started_s: float) -> float:
    return (time.perf_counter() - started_s) * 1000


def print_table(answer: dict[str, Any]) -> None:
    sizes = ", ".join(f"{kind} {kb} kB" for kind, kb in answer["size_kb"].items())
    table = Table("step", "median ms", title=f"{answer['n_neurons']} neurons: {sizes}")
    for name, ms in answer["median_ms"].items():
        table.add_row(name, f"{ms:.3f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
