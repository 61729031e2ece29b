"""The command line: one command a stage; it parses, calls the pipeline, and prints."""

# Stages are imported inside their commands, so that --help does not wait for torch.

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from neuron_explainer.cli_options import (
    COLLECT_FIELDS,
    EXPLAIN_FIELDS,
    JsonOption,
    RunOption,
    run_program,
    takes_spec,
)
from neuron_explainer.pipeline.folder import DEFAULT_RUN, RunFolder
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.records.neuron import NeuronId

if TYPE_CHECKING:
    from neuron_explainer.pipeline.summary import RunSummary

app = typer.Typer(
    name="neuron-explainer",
    help=(
        "Says in words what every neuron of a language model responds to, and how well the words "
        "predict it.\n\n[bold]neuron-explainer run[/] does everything with a model and text that "
        "come with the package; no key, no network, no GPU."
    ),
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()


@app.command()
@takes_spec()
def run(spec: RunSpec, folder: RunFolder) -> None:
    """Everything: collect, explain, simulate, score, report. The same command goes on after a stop.

    [dim]neuron-explainer run --model gpt2 --layers 0-2 --neurons 500 --run runs/gpt2[/]
    """
    from neuron_explainer.cli_display import ProgressDisplay
    from neuron_explainer.pipeline.run import run as run_everything

    console.print(f"Explaining the neurons of [bold]{spec.model}[/] on {spec.corpus}")
    with ProgressDisplay(console) as display:
        run_everything(spec, folder, display)
    _print_next_steps(spec, folder, _print_scores(folder).best or NeuronId(0, 0))


@app.command()
@takes_spec(*COLLECT_FIELDS)
def collect(spec: RunSpec, folder: RunFolder) -> None:
    """Read the text and record what every neuron responds to."""
    from neuron_explainer.cli_display import ProgressDisplay
    from neuron_explainer.pipeline.run import run_collect

    with ProgressDisplay(console) as display:
        run_collect(spec, folder, display)
    console.print(f"next: neuron-explainer explain --run {folder.path}")


@app.command()
@takes_spec(*EXPLAIN_FIELDS, fresh=False)
def explain(spec: RunSpec, folder: RunFolder) -> None:
    """Explain and score the collected neurons that have no score yet, and write the report."""
    from neuron_explainer.cli_display import ProgressDisplay
    from neuron_explainer.pipeline.run import run_explain

    with ProgressDisplay(console) as display:
        run_explain(spec, folder, display)
    _print_scores(folder)


@app.command()
def report(run: RunOption = DEFAULT_RUN) -> None:
    """Write the page again from what is in the run folder."""
    from neuron_explainer.pipeline.run import report as write_page

    folder = RunFolder(run)
    write_page(folder)
    console.print(str(folder.report))


@app.command()
def show(
    neuron: Annotated[str, typer.Argument(help="LAYER:NEURON, such as 2:417.")],
    run: RunOption = DEFAULT_RUN,
    windows: Annotated[int, typer.Option("--windows", help="Windows to print.")] = 6,
    as_json: JsonOption = False,
) -> None:
    """One neuron: explanation, score with its parts, windows with the activations coloured."""
    from neuron_explainer.cli_display import print_neuron
    from neuron_explainer.stores.neuron_store import NeuronStore
    from neuron_explainer.stores.results import Results

    folder = RunFolder(run)
    record = NeuronStore(folder.store).read_neuron(NeuronId.parse(neuron))
    with Results(folder.results, read_only=True) as results:
        result, scored = results.newest(record.neuron_id)
    if as_json:
        answer = {
            "record": asdict(record),
            "result": None if result is None else asdict(result),
            "scored_windows": [asdict(window) for window in scored],
        }
        print(json.dumps(answer, ensure_ascii=False, allow_nan=False))  # noqa: T201
    else:
        print_neuron(console, record, result, scored, windows)


@app.command()
def scores(run: RunOption = DEFAULT_RUN, as_json: JsonOption = False) -> None:
    """How many neurons are scored, why others are not, and the scores of each layer."""
    _print_scores(RunFolder(run), as_json=as_json)


def main() -> None:
    """The entry point."""
    run_program(app)


def _print_scores(folder: RunFolder, *, as_json: bool = False) -> RunSummary:
    from neuron_explainer.cli_display import print_summary
    from neuron_explainer.pipeline.summary import summarize_run
    from neuron_explainer.stores.results import Results

    with Results(folder.results, read_only=True) as results:
        summary = summarize_run(results.units(results.current_method()))
    if as_json:
        print(json.dumps(asdict(summary), allow_nan=False))  # noqa: T201
    else:
        print_summary(console, summary)
    return summary


def _print_next_steps(spec: RunSpec, folder: RunFolder, neuron_id: NeuronId) -> None:
    at = "" if folder.path == DEFAULT_RUN else f" --run {folder.path}"
    console.print(
        f"\nThe report: [bold]{folder.report}[/]\n\n"
        "What to try next\n"
        f"  neuron-explainer show {neuron_id}{at}\n"
        f"  neuron-explainer scores{at}\n"
        "  neuron-explainer run --model gpt2 --tokens 200000 --run runs/gpt2   "
        "[dim]# GPT-2 small, from the hub[/]\n"
        f"  neuron-explainer run --corpus FOLDER --model {spec.model} --run runs/mine   "
        "[dim]# your own text[/]",
        highlight=False,
        soft_wrap=True,
    )
