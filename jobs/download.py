"""Download layers of the published dataset (Bills et al. 2023) into one archive, resumable.

    python jobs/download.py --layers 0-3 --archive published.sqlite
    python jobs/download.py --dataset gpt2-small --kind explanations --source mirror/

What the archive knows is not asked for again, what failed is: after any end, a kill included, the
same command goes on. Exit code 1 when something failed.
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from neuron_explainer.cli_options import console, run_program
from neuron_explainer.cli_progress import RateColumn
from neuron_explainer.errors import UsageError
from neuron_explainer.pipeline.spec import parse_layers
from neuron_explainer.published.archive import Archive
from neuron_explainer.published.downloads import N_AT_ONCE, DownloadCounts, Fetcher, download
from neuron_explainer.published.locations import (
    DATASETS,
    PUBLISHED_URL,
    Dataset,
    Kind,
    documents_of,
    find_dataset,
)
from neuron_explainer.published.sources import address_of, open_source

DEFAULT_ARCHIVE = Path("published.sqlite")


class Part(NamedTuple):
    """What is to be had."""

    dataset: Dataset
    layers: list[int]
    kinds: list[Kind]
    n_neurons: int
    """Of each layer, from the first."""


def download_layers(
    *,
    dataset: Annotated[
        str, typer.Option(help=f"Which subject's part: {' or '.join(DATASETS)}.")
    ] = "gpt2-xl",
    layers: Annotated[
        str | None, typer.Option(help="Layers, such as 0,2-5; all when not given.")
    ] = None,
    kind: Annotated[
        list[Kind] | None, typer.Option(help="What to get; again for more; all when not given.")
    ] = None,
    neurons: Annotated[
        int | None, typer.Option(help="The first so many of each layer; all when not given.", min=1)
    ] = None,
    source: Annotated[
        str, typer.Option(help="A URL, or a mirror's folder of the same layout.")
    ] = PUBLISHED_URL,
    archive: Annotated[
        Path, typer.Option(help="The sqlite file to fill.", dir_okay=False)
    ] = DEFAULT_ARCHIVE,
    connections: Annotated[
        int, typer.Option(help="Most requests at the same time.", min=1, max=256)
    ] = N_AT_ONCE,
) -> None:
    """Download layers of the published dataset into an archive."""
    chosen = find_dataset(dataset)
    part = Part(
        chosen,
        parse_layers(layers, chosen.n_layers),
        _kinds(chosen, kind),
        min(neurons or chosen.n_neurons, chosen.n_neurons),
    )
    started = time.monotonic()
    with Archive(archive) as opened:
        counts = asyncio.run(_download(part, source, opened, connections))
    console.print(f"{counts.sentence()}, in {time.monotonic() - started:,.1f} s", highlight=False)
    if counts.is_all_absent:
        console.print(
            f"all of it is absent: is {address_of(source)} a place of this layout? It should have "
            f"{next(documents_of(*part)).path}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if counts.failed:
        raise typer.Exit(1)


def _kinds(dataset: Dataset, wanted: list[Kind] | None) -> list[Kind]:
    unknown = set(wanted or ()).difference(dataset.kinds)
    if unknown:
        raise UsageError(f"of {dataset.name} {', '.join(sorted(unknown))} is not published")
    return [kind for kind in dataset.kinds if not wanted or kind in wanted]


async def _download(part: Part, address: str, archive: Archive, connections: int) -> DownloadCounts:
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(compact=True),
        console=console,
    )
    n_documents = len(part.layers) * part.n_neurons * len(part.kinds)
    task = progress.add_task(part.dataset.name, total=n_documents, unit="documents")
    async with open_source(address, n_at_once=connections) as source:
        with progress:
            return await download(
                Fetcher(source, rng=random.Random()),
                archive,
                documents_of(*part),
                n_at_once=connections,
                on_done=lambda counts: progress.update(task, completed=counts.n_done),
            )


if __name__ == "__main__":
    run_program(lambda: typer.run(download_layers))
