"""Whether a simulator tells true explanations from false ones, and what an explainer finds.

    python jobs/neuron_puzzles.py --puzzles puzzles.json --simulator openai:gpt-4o
    python jobs/neuron_puzzles.py --puzzles puzzles.json --simulator hf:MODEL --explainer hf:MODEL

The puzzles are those of Bills et al. 2023 (`puzzles.json` in their repository), which found the
true explanation first in 16 of 19 and among the best two in 18. A rank such as 1-2 is open: another
explanation scores the same, or has no score. What an explainer finds is scored on the sentences it
was shown, none of them held out. `--run`: the folder where answers and costs are kept.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from neuron_explainer.cli_options import JsonOption, OwnFlag, console, run_program, takes_spec
from neuron_explainer.formats.puzzles import read_puzzles
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.puzzles import (
    PuzzleResult,
    PuzzleSummary,
    Rank,
    ScoredText,
    run_puzzles,
    summarize_puzzles,
)
from neuron_explainer.pipeline.spec import ASK, REACH, RunSpec

FIELDS = (
    "explainer", "simulator", "max_missing_share", "seed", "device", "memory_gb",
    *sorted({*RunSpec().choices(ASK), *RunSpec().choices(REACH)} - {"n_explanations"}),
)  # fmt: skip
"""With several explanations there would be no windows left to choose one by."""
PuzzlesOption = Annotated[
    Path,
    typer.Option("--puzzles", exists=True, dir_okay=False, help="The file of puzzles."),
]


@takes_spec(
    *FIELDS,
    fresh=False,
    more={"puzzles": OwnFlag(PuzzlesOption), "as_json": OwnFlag(JsonOption, False)},
)
def neuron_puzzles(spec: RunSpec, folder: RunFolder, *, puzzles: Path, as_json: bool) -> None:
    """Rank the true explanations of neuron puzzles among false ones, by simulation."""
    results = run_puzzles(spec, folder, read_puzzles(puzzles))
    (_print_json if as_json else _print_table)(results, summarize_puzzles(results))


def _print_json(results: Sequence[PuzzleResult], summary: PuzzleSummary) -> None:
    puzzles = [asdict(r) | {"rank": r.rank and asdict(r.rank)} for r in results]
    print(json.dumps({"summary": asdict(summary), "puzzles": puzzles}, ensure_ascii=False))


def _print_table(results: Sequence[PuzzleResult], summary: PuzzleSummary) -> None:
    has_explainer = any(result.found or result.reason for result in results)
    names = ["puzzle", "rank", "true", "best false", *(["found"] if has_explainer else [])]
    table = Table(*names, box=None)
    for result in results:
        found = [_show_found(result)] if has_explainer else []
        values = [text.score.value for text in result.false if text.score.value is not None]
        best_false = f"{max(values):.2f}" if values else "–"
        n_all = 1 + len(result.false)
        table.add_row(
            result.name, _show_rank(result.rank, n_all), _show(result.true), best_false, *found
        )
    console.print(table)
    for line in _sentences(summary, has_explainer=has_explainer):
        console.print(line, highlight=False)


def _sentences(summary: PuzzleSummary, *, has_explainer: bool) -> list[str]:
    lines = [
        f"The true explanation is first in {_count(summary.n_first, summary.n_first_at_best)} of "
        f"{summary.n_puzzles} puzzles, among the best two in "
        f"{_count(summary.n_top_two, summary.n_top_two_at_best)}.",
        f"{summary.n_tied} with a tie; without a score: {summary.n_true_unscored} true and "
        f"{summary.n_false_unscored} false explanations.",
    ]
    if has_explainer and summary.mean_found is not None:
        lines.append(
            f"Mean score of {summary.n_found} explanations that were found: "
            f"{summary.mean_found:.3f}, on the very sentences they were made from."
        )
    return lines


def _count(sure: int, at_best: int) -> str:
    return str(sure) if sure == at_best else f"{sure} to {at_best}"


def _show_rank(rank: Rank | None, n_all: int) -> str:
    if rank is None:
        return "–"
    place = str(rank.best) if rank.best == rank.worst else f"{rank.best}-{rank.worst}"
    return f"{place} of {n_all}"


def _show(text: ScoredText) -> str:
    value = text.score.value
    return text.score.reason or "–" if value is None else f"{value:.2f}"


def _show_found(result: PuzzleResult) -> str:
    if result.found is None:
        return result.reason or "–"
    return f"{_show(result.found)} {result.found.text}"


if __name__ == "__main__":
    run_program(lambda: typer.run(neuron_puzzles))
