"""The cascade command, and the table of what its stages came to."""

# Stages are imported inside the command, so that --help does not wait for torch.

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from neuron_explainer.cli_options import (
    DRY_RUN,
    EXPLAIN_FIELDS,
    JsonOption,
    OwnFlag,
    console,
    takes_spec,
)
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.spec import RunSpec

if TYPE_CHECKING:
    from neuron_explainer.pipeline.cascade_gain import MeanGain
    from neuron_explainer.pipeline.cascade_report import CascadeReport, StageReport

NOT_TAKEN = {"explainer", "order", "batch"}
"""Flags of `explain` that a cascade answers by itself: it names several explainers, orders the
neurons, and needs each stage's answers before the next."""
FLAGS: Mapping[str, OwnFlag] = {
    "stages": OwnFlag(
        Annotated[
            str,
            typer.Option(
                "--stages",
                help="Explainers, the cheapest first: patterns, openai:MODEL or hf:MODEL, with "
                "/PROMPT if wanted. The token lookup table goes before them.",
            ),
        ]
    ),
    "pilots": OwnFlag(
        Annotated[
            int | None,
            typer.Option(
                "--pilots",
                min=1,
                help="Neurons drawn at random that go through every stage; a fifth, 10 to 40, "
                "when not given.",
            ),
        ],
        None,
    ),
    "min_gain": OwnFlag(
        Annotated[
            float,
            typer.Option("--min-gain", help="Neurons that are expected to gain less do not go on."),
        ],
        0.01,
    ),
    **DRY_RUN,
    "as_json": OwnFlag(JsonOption, False),
}


def add_commands(app: typer.Typer) -> None:
    """Puts the command of this file into the program."""
    app.command()(cascade)


@takes_spec(*(name for name in EXPLAIN_FIELDS if name not in NOT_TAKEN), fresh=False, more=FLAGS)
def cascade(
    spec: RunSpec,
    folder: RunFolder,
    *,
    stages: str,
    pilots: int | None,
    min_gain: float,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Explain with the token lookup table, then better models only where they gain most a dollar.

    [dim]neuron-explainer cascade --stages openai:gpt-4o-mini,openai:gpt-4o --simulator
    openai:gpt-4o-mini --neurons all --budget-usd 5[/]
    """
    from neuron_explainer.cli_progress import ProgressDisplay
    from neuron_explainer.pipeline.cascade_run import estimate_cascade, run_cascade
    from neuron_explainer.pipeline.cascade_steps import CascadePlan
    from neuron_explainer.pipeline.events import ignore

    plan = CascadePlan(pilots, min_gain)
    if dry_run:
        estimates = estimate_cascade(spec, folder, stages, plan)
        if as_json:
            typer.echo(json.dumps([asdict(one) for one in estimates], allow_nan=False))
        else:
            for one in estimates:
                console.print(one.sentence(), markup=False, highlight=False, soft_wrap=True)
    elif as_json:
        found = run_cascade(spec, folder, stages, plan, ignore)
        typer.echo(json.dumps(asdict(found), allow_nan=False))
    else:
        with ProgressDisplay(console) as display:
            found = run_cascade(spec, folder, stages, plan, display)
        print_cascade(console, found)


def print_last_cascade(folder: RunFolder) -> None:
    """The table again, where a cascade is what the run's readers show."""
    from neuron_explainer.pipeline.cascade_report import read_cascade
    from neuron_explainer.stores.results import Results

    with Results(folder.results, read_only=True) as results:
        found = read_cascade(folder.cascade, results.current_method())
    if found is not None:
        print_cascade(console, found)


def print_cascade(console: Console, report: CascadeReport) -> None:
    """A row a stage, what else is to be said of each, and where the neurons stand in the end."""
    table = Table(title="Stages of the cascade", box=box.SIMPLE_HEAD)
    table.add_column("stage", overflow="fold")
    for name in ("done", "won", "before", "after", "gain", "cost", "per 0.01"):
        table.add_column(name, justify="right", no_wrap=True)
    for at, stage in enumerate(report.stages):
        table.add_row(stage.name, *_cells(stage, is_first=at == 0))
    console.print(table)
    console.print(
        "[dim]done: of those offered; gain: mean of the pilots’; per 0.01 of mean score[/]"
    )
    for stage in report.stages:
        _print(console, f"{stage.name}: {_describe_rest(stage)}")
    _print(
        console,
        f"mean score {_number(report.mean_first)} → {_number(report.mean_last)} over "
        f"{report.n_both:,} neurons; {report.n_scored:,} of {report.n_neurons:,} scored; "
        f"{report.ended}",
    )
    for reason, n in report.failures.items():
        _print(console, f"no answer, tried again by the same command: {n:,} {reason}")


def _cells(stage: StageReport, *, is_first: bool) -> list[str]:
    """The first stage has nothing to win against."""
    n_offered = "" if stage.n_done == stage.n_offered else f"/{stage.n_offered:,}"
    return [
        f"{stage.n_done:,}{n_offered}",
        "–" if is_first else f"{stage.n_won:,}",
        _number(stage.mean_before),
        _number(stage.mean_after),
        "–" if stage.pilot_gain is None else f"{stage.pilot_gain.mean:+.3f}",
        _usd(stage.cost.cost_usd),
        _usd(stage.usd_a_point),
    ]


def _describe_rest(stage: StageReport) -> str:
    """`gain over 20 pilots +0.021 [+0.003, +0.040]; $0.0123 a neuron; 12 passed over`"""
    parts = [] if stage.pilot_gain is None else [_describe_gain(stage.pilot_gain)]
    if stage.usd_a_neuron is not None:
        parts.append(f"{_usd(stage.usd_a_neuron)} a neuron")
    counts = {
        "waiting": stage.n_offered - stage.n_done,
        "expected to gain too little": stage.n_not_worth,
        "passed over": stage.n_passed_over,
        "dead, or without a pilot to judge by": stage.n_unknown,
        "pilots missing": stage.n_drawn - stage.n_pilots,
        **{f"no explanation ({reason})": n for reason, n in stage.unexplained.items()},
        "without a score": stage.n_without,
    }
    if stage.mean_new is not None:
        parts.append(f"{stage.n_new:,} scored for the first time, {stage.mean_new:.3f} on average")
    parts += [f"{n:,} {what}" for what, n in counts.items() if n]
    return "; ".join(parts) or "all neurons"


def _describe_gain(gain: MeanGain) -> str:
    interval = "" if gain.low is None else f" [{gain.low:+.3f}, {gain.high:+.3f}]"
    return f"gain over {gain.n_pilots:,} pilots {gain.mean:+.3f}{interval}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _usd(value: float | None) -> str:
    if value is None:
        return "–"
    return f"${value:,.2f}" if value >= 1 else f"${value:,.4f}"


def _print(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
