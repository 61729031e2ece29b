"""The command line: one command a stage; it parses, calls the pipeline, and prints."""

# Stages are imported inside their commands, so that --help does not wait for torch.

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from neuron_explainer.cli_cascade import add_commands as add_cascade
from neuron_explainer.cli_cascade import print_last_cascade
from neuron_explainer.cli_library import add_commands
from neuron_explainer.cli_options import (
    COLLECT_FIELDS,
    DRY_RUN,
    EXPLAIN_FIELDS,
    JsonOption,
    OwnFlag,
    RunOption,
    console,
    run_program,
    takes_spec,
)
from neuron_explainer.cli_rescore import rescore
from neuron_explainer.cli_view import view
from neuron_explainer.errors import UsageError
from neuron_explainer.pipeline.folder import DEFAULT_RUN, RunFolder
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.records.neuron import NeuronId

if TYPE_CHECKING:
    from neuron_explainer.pipeline.summary import RunSummary
    from neuron_explainer.records.patterns import FoundPatterns
    from neuron_explainer.records.score import Score, ScoredWindow
    from neuron_explainer.records.unit_result import UnitResult

EVIDENCE = {
    "evidence": OwnFlag(
        Annotated[
            str,
            typer.Option(
                "--evidence",
                help="What the reviser learns: sentences written as a test, or random windows.",
            ),
        ],
        "sentences",
    )
}
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


@app.command()
@takes_spec(more=DRY_RUN)
def run(spec: RunSpec, folder: RunFolder, *, dry_run: bool) -> None:
    """Everything: collect, explain, simulate, score, report. The same command goes on after a stop.

    [dim]neuron-explainer run --model gpt2 --layers 0-2 --neurons 500 --run runs/gpt2[/]
    """
    if dry_run:
        _print_estimate(spec, folder)
        return
    from neuron_explainer.cli_progress import ProgressDisplay
    from neuron_explainer.pipeline.run import run as run_everything

    _print_plain(f"Explaining the neurons of {spec.model} on {spec.corpus}")
    with ProgressDisplay(console) as display:
        run_everything(spec, folder, display)
    _print_next_steps(spec, folder, _print_scores(folder).best or NeuronId(0, 0))


@app.command()
@takes_spec(*COLLECT_FIELDS)
def collect(spec: RunSpec, folder: RunFolder) -> None:
    """Read the text and record what every neuron responds to."""
    from neuron_explainer.cli_progress import ProgressDisplay
    from neuron_explainer.pipeline.run import run_collect

    with ProgressDisplay(console) as display:
        run_collect(spec, folder, display)
    if spec.shard is None:
        _print_plain(f"next: neuron-explainer explain{_run_flag(folder)}")
    else:
        _print_plain(f"when all shards are done: neuron-explainer merge{_run_flag(folder)}")


@app.command()
def merge(run: RunOption = DEFAULT_RUN) -> None:
    """Make one collection of the shards that `collect --shard` read."""
    from neuron_explainer.cli_progress import ProgressDisplay
    from neuron_explainer.pipeline.run import run_merge

    folder = RunFolder(run)
    with ProgressDisplay(console) as display:
        run_merge(folder, display)
    _print_plain(f"next: neuron-explainer explain{_run_flag(folder)}")


@app.command()
@takes_spec(*EXPLAIN_FIELDS, fresh=False, more=DRY_RUN)
def explain(spec: RunSpec, folder: RunFolder, *, dry_run: bool) -> None:
    """Explain and score the collected neurons that have no score yet, and write the report."""
    if dry_run:
        _print_estimate(spec, folder)
        return
    from neuron_explainer.cli_progress import ProgressDisplay
    from neuron_explainer.pipeline.run import run_explain

    with ProgressDisplay(console) as display:
        run_explain(spec, folder, display)
    _print_scores(folder)


@app.command()
@takes_spec(
    *(name for name in EXPLAIN_FIELDS if name != "evidence"),
    fresh=False,
    more={**EVIDENCE, **DRY_RUN},
)
def revise(spec: RunSpec, folder: RunFolder, *, evidence: str, dry_run: bool) -> None:
    """Test a run's explanations on new sentences, revise them, and score both versions.

    [dim]neuron-explainer revise --explainer openai:gpt-4o --neurons 20[/]
    """
    from neuron_explainer.cli_display import print_revisions
    from neuron_explainer.cli_progress import ProgressDisplay
    from neuron_explainer.pipeline.revise import RevisionEvidence
    from neuron_explainer.pipeline.run_revise import run_revise

    if evidence not in list(RevisionEvidence):
        raise UsageError(f"--evidence {evidence!r}: write {' or '.join(RevisionEvidence)}")
    if dry_run:
        from neuron_explainer.pipeline.revise_estimate import estimate_revise

        _print_plain(estimate_revise(spec, folder, RevisionEvidence(evidence)).sentence())
        return
    with ProgressDisplay(console) as display:
        summary = run_revise(spec, folder, RevisionEvidence(evidence), display)
    print_revisions(console, summary)
    _print_scores(folder)


@app.command()
def report(run: RunOption = DEFAULT_RUN) -> None:
    """Write the page again from what is in the run folder."""
    from neuron_explainer.pipeline.run import report as write_page

    folder = RunFolder(run)
    write_page(folder)
    _print_plain(str(folder.report))


@app.command()
def show(
    neuron: Annotated[str, typer.Argument(help="LAYER:NEURON, such as 2:417.")],
    run: RunOption = DEFAULT_RUN,
    n_windows: Annotated[int, typer.Option(min=1, help="Windows of each kind to print.")] = 3,
    as_json: JsonOption = False,
) -> None:
    """One neuron: explanation, score with its parts, cost, windows with activations coloured."""
    from neuron_explainer.cli_display import print_neuron
    from neuron_explainer.pipeline.kept_patterns import open_current_patterns
    from neuron_explainer.pipeline.records import open_records
    from neuron_explainer.stores.pattern_store import plain_patterns
    from neuron_explainer.stores.results import Results

    folder = RunFolder(run)
    record = open_records(folder).read_neuron(NeuronId.parse(neuron))
    result: UnitResult | None = None
    scored: tuple[ScoredWindow, ...] = ()
    candidates: tuple[tuple[str, Score], ...] = ()
    found: FoundPatterns | None = None
    if folder.results.exists():
        with (
            Results(folder.results, read_only=True) as results,
            open_current_patterns(folder, results) as kept,
        ):
            result, scored = results.newest(record.neuron_id)
            if kept is not None and result is not None:
                found = kept.read_patterns(record.neuron_id)
            if result is not None:
                candidates = results.candidates(results.current_method(), record.neuron_id)
    if as_json:
        searched = {"patterns": []} if found is None else plain_patterns(found)
        answer = {
            "record": asdict(record),
            "result": None if result is None else asdict(result),
            "patterns": searched.pop("patterns"),
            "pattern_search": searched or None,
            "candidates": [{"text": text, "score": asdict(score)} for text, score in candidates],
            "scored_windows": [asdict(window) for window in scored],
        }
        typer.echo(json.dumps(answer, ensure_ascii=False, allow_nan=False))
    else:
        print_neuron(console, record, result, scored, candidates, found, n_windows)


@app.command()
def scores(run: RunOption = DEFAULT_RUN, as_json: JsonOption = False) -> None:
    """How many neurons are scored, why others are not, and the scores of each layer."""
    _print_scores(RunFolder(run), as_json=as_json)
    if not as_json:
        print_last_cascade(RunFolder(run))


@app.command()
def status(run: RunOption = DEFAULT_RUN, as_json: JsonOption = False) -> None:
    """What a run is at: done, unscored by reason, rate, cost, time left; while it goes on, too."""
    from neuron_explainer.cli_status import plain_status, print_status
    from neuron_explainer.pipeline.status import read_status

    folder = RunFolder(run)
    found = read_status(folder)
    if as_json:
        typer.echo(json.dumps(plain_status(found), allow_nan=False))
    else:
        print_status(console, found, _run_flag(folder))


@app.command()
def doctor(
    run: RunOption = DEFAULT_RUN,
    base_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Look at this server of language models instead: what can it do?"
        ),
    ] = None,
    model_name: Annotated[
        str | None,
        typer.Option(help="Of the server's models; without it, the first that it lists."),
    ] = None,
    api_key_env: Annotated[
        str, typer.Option(help="Environment variable that holds the server's key.")
    ] = "OPENAI_API_KEY",
    as_json: JsonOption = False,
) -> None:
    """What is in place, what is not, and what to do: packages, machine, network, a run folder.

    With --base-url: what a server offers, and so which simulations; it takes ten tiny requests.

    [dim]It changes nothing; the exit code is 1 when there is a problem.[/]
    """
    from neuron_explainer.cli_doctor import print_checks

    if base_url is not None:
        from neuron_explainer.pipeline.model_server import examine_server

        found = examine_server(base_url, model_name, api_key_env)
        checks, answer = found.checks, found.as_json()
    elif model_name is not None:
        raise UsageError("--model-name is one of a server's; give --base-url too")
    else:
        from neuron_explainer.pipeline.doctor import examine

        checks = examine(RunFolder(run))
        answer = {"checks": [asdict(check) for check in checks]}
    if as_json:
        typer.echo(json.dumps(answer, ensure_ascii=False, allow_nan=False))
    else:
        print_checks(console, checks)
    if any(check.status == "problem" for check in checks):
        raise typer.Exit(1)


add_cascade(app)
add_commands(app)
app.command()(rescore)
app.command()(view)


def main() -> None:
    """The entry point."""
    run_program(app)


def _print_estimate(spec: RunSpec, folder: RunFolder) -> None:
    from neuron_explainer.pipeline.run import estimate_run

    _print_plain(estimate_run(spec, folder).sentence())


def _print_scores(folder: RunFolder, *, as_json: bool = False) -> RunSummary:
    from neuron_explainer.cli_display import print_summary
    from neuron_explainer.pipeline.shard_status import require_merged
    from neuron_explainer.pipeline.summary import summarize_method
    from neuron_explainer.stores.results import Results

    require_merged(folder)
    with Results(folder.results, read_only=True) as results:
        summary = summarize_method(results)
    if as_json:
        typer.echo(json.dumps(asdict(summary), allow_nan=False))
    else:
        print_summary(console, summary)
    return summary


def _print_next_steps(spec: RunSpec, folder: RunFolder, neuron_id: NeuronId) -> None:
    at = _run_flag(folder)
    _print_plain(
        f"\nThe report: {folder.report}\n\n"
        "What to try next\n"
        f"  neuron-explainer show {neuron_id}{at}\n"
        f"  neuron-explainer scores{at}\n"
        "  neuron-explainer run --model gpt2 --tokens 200000 --run runs/gpt2"
        "   # GPT-2 small, from the hub\n"
        f"  neuron-explainer run --model {shlex.quote(spec.model)} --corpus FOLDER --run runs/mine"
        "   # your own text"
    )


def _run_flag(folder: RunFolder) -> str:
    return "" if folder.path == DEFAULT_RUN else f" --run {shlex.quote(str(folder.path))}"


def _print_plain(text: str) -> None:
    """As it is: nothing in a path is markup, and no line is broken."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
