"""Commands over explanations from anywhere: import them, look up published ones, export."""

# Stages are imported inside their commands, so that --help does not wait for pandas.

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from neuron_explainer.cli_options import JsonOption, RunOption, console
from neuron_explainer.cli_search import search
from neuron_explainer.errors import UsageError
from neuron_explainer.pipeline.folder import DEFAULT_RUN, RunFolder
from neuron_explainer.pipeline.wording import format_count

if TYPE_CHECKING:
    from neuron_explainer.pipeline.import_files import Imported

SourceOption = Annotated[
    str | None,
    typer.Option("--source", help="The list's name, where a file does not say it."),
]


def add_commands(app: typer.Typer) -> None:
    """Puts the commands of this file into the program."""
    app.command(name="import")(import_)
    app.command()(search)
    app.command()(lookup)
    app.command()(export)


def import_(
    files: Annotated[
        list[Path],
        typer.Argument(help="Tables, JSON lists, folders; runs, too."),
    ],
    run: RunOption = DEFAULT_RUN,
    source: SourceOption = None,
    model: Annotated[
        str | None, typer.Option("--model", help="The subject, where a file does not say it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Take explanations made elsewhere into the run's library; what is there already stays once.

    [dim]csv, tsv, jsonl, parquet with layer, neuron and explanation in any common spelling; the
    files and folders of OpenAI, Neuronpedia, delphi and Transluce; bundles of `export`.[/]
    """
    from neuron_explainer.pipeline.import_files import import_files
    from neuron_explainer.stores.library import Library

    imported: list[Imported] = []
    with Library(RunFolder(run).library) as library:
        for result in import_files(files, library, source=source, model=model):
            imported.append(result)
            if not as_json:
                _print_imported(result)
    if as_json:
        typer.echo(json.dumps([_plain(result) for result in imported]))
    if any(result.refused is not None for result in imported):
        raise typer.Exit(1)


def lookup(
    neuron: Annotated[str, typer.Argument(help="LAYER:NEURON, such as 9:6236.")],
    model: Annotated[str, typer.Option("--model", help="gpt2-xl or gpt2-small.")] = "gpt2-xl",
    source: Annotated[
        str | None, typer.Option("--source", help="Another URL, or a mirror's folder.")
    ] = None,
    archive: Annotated[
        Path | None,
        typer.Option("--archive", help="Where it is kept; by default in the cache."),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="From the archive alone.")] = False,
    n_windows: Annotated[int, typer.Option(min=1, help="Windows to print.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """What OpenAI published of a GPT-2 neuron in 2023: explanation, score, windows, neighbours."""
    from neuron_explainer.cli_published import print_published, published_as_json
    from neuron_explainer.pipeline.run_lookup import run_lookup
    from neuron_explainer.published.locations import PUBLISHED_URL
    from neuron_explainer.records.neuron import NeuronId

    neuron_id, address = NeuronId.parse(neuron), source or PUBLISHED_URL
    with nullcontext() if as_json else console.status(f"asking {escape(address)}"):
        found = run_lookup(model, neuron_id, source=address, archive=archive, is_offline=offline)
    if as_json:
        # In ASCII: a token may be half a surrogate pair, which no encoding holds.
        typer.echo(json.dumps(published_as_json(found), allow_nan=False))
    else:
        print_published(console, found, n_windows)
    if found.record is None and found.results is None:
        raise typer.Exit(1)


def export(
    target: Annotated[
        Path, typer.Argument(help="A .csv, .jsonl or .parquet file; a folder or a .zip.")
    ],
    run: RunOption = DEFAULT_RUN,
    kind: Annotated[
        str,
        typer.Option(
            "--format",
            help="table, neuronpedia, openai (with records), or bundle: everything, to pass on.",
        ),
    ] = "table",
    windows: Annotated[
        bool, typer.Option(help="Whether a bundle holds each neuron's windows of text.")
    ] = True,
) -> None:
    """Write a run for others: a table, the layout of a dataset, or a bundle with everything."""
    from neuron_explainer.pipeline.export import ExportFormat, export_run

    if kind not in list(ExportFormat):
        raise UsageError(f"--format {kind!r} is not known; one of {', '.join(ExportFormat)}")
    if not windows and kind != ExportFormat.BUNDLE:
        raise UsageError(f"--no-windows is for --format bundle; {kind} stays as it is")
    exported = export_run(RunFolder(run), target, ExportFormat(kind), with_windows=windows)
    explanations = format_count(exported.n_explanations, "explanation")
    line = f"{explanations} in {format_count(exported.n_files, 'file')} at {target}"
    left_out = ", ".join(f"{what} {n:,}" for what, n in exported.left_out.most_common())
    line += f"; no place for: {left_out}" if left_out else ""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _print_imported(result: Imported) -> None:
    if result.refused is not None:
        line = f"refused: {result.refused}"
    else:
        added = result.added
        line = f"{result.path}: {added.n_added:,} added, {added.n_known:,} known already"
        if added.n_scores_differing:
            n_scores = format_count(added.n_scores_differing, "score")
            line += f", {n_scores} unlike what is there"
        left_out = ", ".join(f"{reason} {n:,}" for reason, n in result.left_out.most_common())
        line += f"; left out: {left_out}" if left_out else ""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _plain(result: Imported) -> dict[str, object]:
    return {
        "path": str(result.path),
        "kind": result.kind,
        "added": asdict(result.added),
        "left_out": dict(result.left_out),
        "refused": result.refused,
    }
