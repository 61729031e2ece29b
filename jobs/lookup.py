"""Looks up many neurons of the published dataset: ids in, a table out.

    python jobs/lookup.py neurons.txt explanations.csv              9:6236, one a line
    python jobs/lookup.py neurons.parquet explanations.parquet      columns layer and neuron

What was had once is in the archive, and not fetched again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuron_explainer.cli_options import console, run_program
from neuron_explainer.errors import UsageError
from neuron_explainer.formats.neuron_lists import read_neuron_list
from neuron_explainer.pipeline.lookup_frame import look_up_many
from neuron_explainer.published.locations import PUBLISHED_URL
from neuron_explainer.stores.atomic import replacing


def lookup(
    ids: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="Neurons: text, csv or parquet.")
    ],
    table: Annotated[Path, typer.Argument(help="A .csv, .jsonl or .parquet file to write.")],
    model: Annotated[str, typer.Option(help="gpt2-xl or gpt2-small.")] = "gpt2-xl",
    source: Annotated[str, typer.Option(help="A URL, or a mirror's folder.")] = PUBLISHED_URL,
    archive: Annotated[Path | None, typer.Option(help="By default in the user's cache.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="From the archive alone.")] = False,
) -> None:
    """Explanation and score of many published neurons."""
    ending = table.suffix.lower()
    if ending not in (".csv", ".jsonl", ".parquet"):
        raise UsageError(f"{table}: name a .csv, .jsonl or .parquet file")
    frame = look_up_many(
        read_neuron_list(ids), model=model, source=source, archive=archive, is_offline=offline
    )
    with replacing(table) as path:
        if ending == ".csv":
            frame.to_csv(path, index=False)
        elif ending == ".jsonl":
            frame.to_json(path, orient="records", lines=True, double_precision=15)
        else:
            frame.to_parquet(path, index=False)
    n_found = int(frame["explanation"].notna().sum())
    console.print(f"{n_found:,} of {len(frame):,} neurons have an explanation: {table}")
    for reason, n in frame["reason"].value_counts().items():
        console.print(f"{n:,} {reason}", markup=False, highlight=False)


if __name__ == "__main__":
    run_program(lambda: typer.run(lookup))
