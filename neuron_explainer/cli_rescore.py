"""The rescore command: a run's explanations, published ones or those of lists, scored anew."""

# Stages are imported inside the command, so that --help does not wait for torch.

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuron_explainer.cli_options import (
    COLLECT_FIELDS,
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
    from neuron_explainer.pipeline.rescore import Rescored
    from neuron_explainer.pipeline.rescore_estimate import RescoreEstimate

PANEL = "What is rescored"


def _flag(kind: Any, name: str, text: str, default: Any = None, **more: Any) -> OwnFlag:
    option = typer.Option(name, help=text, rich_help_panel=PANEL, **more)
    return OwnFlag(Annotated[kind, option], default)


FLAGS = {
    "published": _flag(
        bool, "--published", "OpenAI's published explanations, on the published windows.", False
    ),
    "imported": _flag(
        list[Path] | None,
        "--imported",
        "A list of explanations, of any kind that `import` takes; give it again for more.",
        metavar="FILE",
    ),
    "windows": _flag(
        str | None,
        "--windows",
        "Whose windows to score on: another run's folder, or published.",
        metavar="RUN|published",
    ),
    "method": _flag(
        str | None,
        "--method",
        "Which of the run's methods to keep: its fingerprint, or its explainer's name.",
    ),
    "scorers": _flag(str, "--scorers", "Separated by commas: simulation.", "simulation"),
    "dataset": _flag(str | None, "--dataset", "Of the published: gpt2-xl or gpt2-small."),
    "source": _flag(str | None, "--source", "Of the published: another URL, or a mirror's folder."),
    "archive": _flag(
        Path | None, "--archive", "Where published documents are kept; by default in the cache."
    ),
    "offline": _flag(bool, "--offline", "Published documents from the archive alone.", False),
    **DRY_RUN,
    "as_json": OwnFlag(JsonOption, False),
}
FIELDS = sorted({*EXPLAIN_FIELDS, *COLLECT_FIELDS} - {"shard", "layers", "units", "cut"})
"""Windows of these units alone are collected, all of each document; `--windows` says whose."""


@takes_spec(*FIELDS, fresh=False, more=FLAGS)
def rescore(
    spec: RunSpec,
    folder: RunFolder,
    *,
    published: bool,
    imported: list[Path] | None,
    windows: str | None,
    method: str | None,
    scorers: str,
    dataset: str | None,
    source: str | None,
    archive: Path | None,
    offline: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Score explanations with another simulator, beside another explainer's if one is named.

    Those of the run; with --published OpenAI's; with --imported those of a list.

    [dim]neuron-explainer rescore --simulator openai:gpt-4o-mini --explainer openai:gpt-4o[/]
    """
    from neuron_explainer.cli_progress import ProgressDisplay
    from neuron_explainer.pipeline.events import ignore
    from neuron_explainer.pipeline.methods import parse_scorers
    from neuron_explainer.pipeline.rescore import run_rescore
    from neuron_explainer.pipeline.rescore_estimate import estimate_rescore
    from neuron_explainer.pipeline.rescore_source import RescoreSource
    from neuron_explainer.published.locations import PUBLISHED_URL

    what = RescoreSource(
        is_published=published,
        imported=tuple(imported or ()),
        windows=windows,
        method=method,
        dataset=dataset,
        source=PUBLISHED_URL if source is None else source,
        archive=archive,
        is_offline=offline,
    )
    names = parse_scorers(scorers)
    if dry_run:
        _print_estimate(estimate_rescore(spec, folder, what), as_json=as_json)
        return
    if as_json:
        rescored = run_rescore(spec, folder, ignore, what, names)
        _print_json(rescored)
    else:
        with ProgressDisplay(console) as display:
            rescored = run_rescore(spec, folder, display, what, names)
        _print_rescored(rescored)
    if rescored.why_nothing is not None:
        raise typer.Exit(1)


def _print_estimate(found: RescoreEstimate, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(found), allow_nan=False))
    else:
        for line in found.sentences():
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _print_json(rescored: Rescored) -> None:
    first, *others = (compared.as_json() for compared in rescored.compared)
    answer = {**first, "others": others, "not_taken": rescored.left_out}
    answer["why_nothing"] = rescored.why_nothing
    typer.echo(json.dumps(answer, ensure_ascii=False, allow_nan=False))


def _print_rescored(rescored: Rescored) -> None:
    from neuron_explainer.cli_display import print_paired

    for compared in rescored.compared:
        for name, side in (("before", compared.before), ("now", compared.now)):
            console.print(f"{name}: {side}", markup=False, highlight=False, soft_wrap=True)
        print_paired(console, compared.paired)
    for reason, n in rescored.left_out.items():
        console.print(f"left out: {n:,} {reason}", markup=False, highlight=False, soft_wrap=True)
    if rescored.why_nothing is not None:
        line = f"nothing was scored: {rescored.why_nothing}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
