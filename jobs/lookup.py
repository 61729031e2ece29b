"""Looks up many neurons of the published dataset: ids in, a table out.

    python jobs/lookup.py neurons.txt explanations.csv              9:6236, one a line
    python jobs/lookup.py neurons.parquet explanations.parquet      columns layer and neuron
    python jobs/lookup.py neurons.txt all.parquet --more parts --more related --more tokens

What was had once is in the archive, and not fetched again. Exit code 1 when something failed: the
table is written all the same, with the reasons, and the same command asks for it again.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from neuron_explainer.cli_options import console, run_program
from neuron_explainer.cli_progress import ProgressDisplay
from neuron_explainer.errors import UsageError
from neuron_explainer.formats.neuron_lists import read_neuron_list
from neuron_explainer.pipeline.events import StageAdvanced, StageStarted
from neuron_explainer.pipeline.fetch import PublishedPlace
from neuron_explainer.pipeline.lookup_columns import More
from neuron_explainer.pipeline.lookup_frame import LookedUp, look_up_all
from neuron_explainer.published.locations import PUBLISHED_URL, find_dataset
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.atomic import replacing

STAGE = "lookup"


def lookup(
    ids: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="Neurons: text, csv or parquet.")
    ],
    table: Annotated[Path, typer.Argument(help="A .csv, .jsonl or .parquet file to write.")],
    model: Annotated[str, typer.Option(help="gpt2-xl or gpt2-small.")] = "gpt2-xl",
    more: Annotated[
        list[More] | None,
        typer.Option(help="Columns beside explanation and score; again for more."),
    ] = None,
    source: Annotated[str, typer.Option(help="A URL, or a mirror's folder.")] = PUBLISHED_URL,
    archive: Annotated[Path | None, typer.Option(help="By default in the user's cache.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="From the archive alone.")] = False,
) -> None:
    """Explanation and score of many published neurons."""
    if table.suffix.lower() not in (".csv", ".jsonl", ".parquet"):
        raise UsageError(f"{table}: name a .csv, .jsonl or .parquet file")
    place = PublishedPlace(find_dataset(model), source, archive, offline)
    found = _look_up(read_neuron_list(ids), place, more or ())
    _write(found.frame, table)
    n_found = int(found.frame["explanation"].notna().sum())
    console.print(f"{n_found:,} of {len(found.frame):,} neurons have an explanation: {table}")
    for column in (name for name in found.frame if str(name).endswith("reason")):
        for reason, n in found.frame[column].value_counts().items():
            console.print(f"{column}: {n:,} {reason}", markup=False, highlight=False)
    if found.n_failed:
        raise typer.Exit(1)


def _look_up(neuron_ids: list[NeuronId], place: PublishedPlace, more: Collection[More]) -> LookedUp:
    with ProgressDisplay(console) as display:
        display(StageStarted(STAGE, len(set(neuron_ids)), "neurons"))
        return look_up_all(
            neuron_ids, place, more, lambda n_done: display(StageAdvanced(STAGE, n_done))
        )


def _write(frame: pd.DataFrame, table: Path) -> None:
    with replacing(table) as path:
        match table.suffix.lower():
            case ".csv":
                frame.to_csv(path, index=False)
            case ".jsonl":
                frame.to_json(path, orient="records", lines=True, double_precision=15)
            case _:
                frame.to_parquet(path, index=False)


if __name__ == "__main__":
    run_program(lambda: typer.run(lookup))
