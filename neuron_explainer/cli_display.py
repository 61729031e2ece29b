"""What the command line draws: one neuron in full, tables of scores and of comparisons."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from neuron_explainer.pipeline.summary import QUANTILES, RunSummary, ScoreSummary
from neuron_explainer.records.neuron import ActivationRecord, NeuronRecord
from neuron_explainer.records.patterns import FoundPatterns, Pattern
from neuron_explainer.records.score import FULL_DISTRIBUTION, RANDOM_ONLY, Score, ScoredWindow
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.viewer.display import printable, rarity
from neuron_explainer.viewer.report_data import label_of

if TYPE_CHECKING:
    from neuron_explainer.pipeline.revision_summary import RevisionSummary
    from neuron_explainer.stores.comparison import Comparison, PairedScores

N_MOVERS = 5
WIDE = 78
"""Columns from which on a terminal has room for the quantiles."""
FULL_COLOUR = (255, 140, 0)
EMPTY_COLOUR = (38, 38, 38)


def format_score(score: Score | None) -> str:
    """`0.71 [0.55, 0.80]`, or a dash and the reason."""
    if score is None:
        return "–"
    if score.value is None:
        return f"– ({score.reason})"
    interval = "" if score.low is None else f" [{score.low:.2f}, {score.high:.2f}]"
    return f"{score.value:.2f}{interval}"


def print_neuron(
    console: Console,
    record: NeuronRecord,
    result: UnitResult | None,
    windows: tuple[ScoredWindow, ...],
    candidates: Sequence[tuple[str, Score]],
    found: FoundPatterns | None,
    n_windows: int,
) -> None:
    """The explanation, the score with its parts, and windows with the activations coloured.

    candidates: texts that the explanation was chosen from, with their scores on calibration text.
    found: the patterns behind it, if it has any.
    """
    console.print(Panel(_neuron_head(record, result), title=f"neuron {record.neuron_id}"))
    if candidates:
        console.print("[bold]Chosen from[/], by the score on the calibration split")
        for words, score in candidates:
            console.print(f"{format_score(score):>8}  {escape(printable(words))}", highlight=False)
    if found is not None and found.patterns:
        console.print("[bold]Patterns[/], by the share of strong activation; the last token counts")
        for pattern in found.patterns:
            console.print(_describe_sets(pattern), markup=False, highlight=False)
        if found.is_cut_short:
            n_tokens = f"{found.n_tokens:,} tokens of forward passes"
            console.print(f"the budget cut the search short after {n_tokens}", highlight=False)
    if windows:
        console.print("[bold]Held-out windows[/], real above, simulated below")
        for subset in ("top", "random"):
            for window in [w for w in windows if w.subset == subset][:n_windows]:
                _print_scored_window(console, window, record.max_activation)
    plain = console.color_system is None
    console.print("[bold]Top windows[/]")
    for top in record.top[:n_windows]:
        console.print(Text(f"{top.max_activation:8.3f}  ", style="dim"), end="")
        console.print(colour_activations(top, record.max_activation, plain=plain))


def _describe_sets(pattern: Pattern) -> str:
    """` 61 %  {" University", " Institute"} {" of"}`"""
    sets = " ".join(
        "any" if fits is None else "{" + ", ".join(json.dumps(t, ensure_ascii=False) for t in
                                                   sorted(fits)) + "}"
        for fits in pattern.sets
    )  # fmt: skip
    start = "  at a window's start:" if pattern.at_start else ""
    notes = [f"strong on {pattern.precision:.0%} of its places"] if pattern.precision < 0.5 else []
    if pattern.lack is not None:
        notes.append(pattern.lack.reason)
    noted = f"  ({'; '.join(notes)})" if notes else ""
    return printable(f"{pattern.share:5.0%} {start} {sets}{noted}")


def colour_activations(record: ActivationRecord, full: float, *, plain: bool = False) -> Text:
    """The window's text; the background runs from dark at 0 to orange at `full`.

    `plain`: without colours, tokens from half of `full` on stand in «».
    """
    text = Text()
    for token, activation in zip(record.tokens, record.activations, strict=True):
        shown = printable(token).replace("\n", "⏎").replace("\t", "⇥")
        if plain and full > 0 and activation is not None and activation >= full / 2:
            shown = f"«{shown}»"
        text.append(shown, style="dim" if activation is None else _style(activation, full))
    return text


def print_paired(console: Console, paired: PairedScores) -> None:
    """A row a layer and one for all, and the units that moved most."""
    overall = paired.compare()
    if overall is None:
        console.print("no neuron is scored by both")
        _print_left_out(console, paired)
        return
    table = Table(
        title=f"Beside {paired.label}",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
    )
    for name in ("layer", "neurons", "before", "now", "difference", "better", "same", "worse"):
        table.add_column(name, justify="right", no_wrap=True)
    for layer, row in paired.by_layer().items():
        table.add_row(str(layer), *_paired_cells(row))
    table.add_section()
    table.add_row("all", *_paired_cells(overall), style="bold")
    console.print(table)
    for title, movers in (
        ("largest gains", paired.gains(N_MOVERS)),
        ("largest losses", paired.losses(N_MOVERS)),
    ):
        moved = ", ".join(f"{m.neuron_id} {m.difference:+.2f}" for m in movers)
        console.print(f"{title}: {moved or 'none'}", highlight=False, soft_wrap=True)
    _print_left_out(console, paired)


def _print_left_out(console: Console, paired: PairedScores) -> None:
    for reason, n_units in paired.left_out.items():
        console.print(f"not compared: {n_units:,} {escape(reason)}", soft_wrap=True)


def _paired_cells(row: Comparison) -> list[str]:
    return [
        f"{row.n_units:,}",
        f"{row.baseline_mean:.3f}",
        f"{row.mean:.3f}",
        row.difference_text(),
        *(f"{n:,}" for n in (row.n_better, row.n_same, row.n_worse)),
    ]


def print_revisions(console: Console, summary: RevisionSummary) -> None:
    """Before and after, on both sets of text, and why some were not revised."""
    for name, compared in (
        ("original windows", summary.on_windows),
        ("with new sentences", summary.with_sentences),
    ):
        if compared.mean_old is None or compared.mean_new is None:
            line = f"{name}: no neuron has a score before and after"
        else:
            line = (
                f"{name}: {compared.mean_old:.3f} before, {compared.mean_new:.3f} after, over "
                f"{compared.n_units:,} neurons; {compared.n_better:,} better, "
                f"{compared.n_worse:,} worse"
            )
        console.print(line, highlight=False, soft_wrap=True)
    if summary.false_positive_share is not None:
        console.print(
            f"{summary.false_positive_share:.0%} of the new sentences leave the neuron quiet",
            highlight=False,
        )
    for reason, n_units in summary.reasons.items():
        console.print(f"not revised: {n_units:,} {escape(reason)}")


def print_summary(console: Console, summary: RunSummary) -> None:
    """A row a layer, a row for all, and the reasons of what is not scored."""
    table = Table(
        title="Top-and-random scores: correlation of simulated and real activations",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
    )
    levels = QUANTILES if console.width >= WIDE else ()
    names = (
        "layer",
        "scored",
        "mean",
        *(f"{level:.0%}" for level in levels),
        "> 0.5",
        "full",
        "random",
    )
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for layer, row in summary.by_layer.items():
        table.add_row(str(layer), *_summary_cells(row, levels))
    table.add_section()
    table.add_row("all", *_summary_cells(summary.overall, levels), style="bold")
    console.print(table)
    if summary.comparison is not None:
        console.print(summary.comparison.sentence(), highlight=False, soft_wrap=True)
    if summary.cost is not None:
        console.print(summary.cost.sentence(), highlight=False, soft_wrap=True)
    for reason, n_units in summary.unscored.items():
        console.print(f"not scored: {n_units:,} {escape(reason)}")


def _summary_cells(row: ScoreSummary, levels: Sequence[float]) -> list[str]:
    quantiles = [None if row.quantiles is None else row.quantiles[str(level)] for level in levels]
    numbers = ["–" if x is None else f"{x:.2f}" for x in (row.mean, *quantiles)]
    above = "–" if row.share_above_half is None else f"{row.share_above_half:.1%}"
    others = (row.mean_by_name.get(name) for name in (FULL_DISTRIBUTION, RANDOM_ONLY))
    return [
        f"{row.n_scored:,}",
        *numbers,
        above,
        *("–" if mean is None else f"{mean:.2f}" for mean in others),
    ]


def _neuron_head(record: NeuronRecord, result: UnitResult | None) -> Text:
    text = Text()
    if result is None:
        text.append("not explained yet; run `explain`\n", style="yellow")
    else:
        said = result.text or f"no explanation: {result.reason}"
        text.append(f"{printable(said)}\n", style="bold")
        text.append(f"by {result.made_by}, simulated by {result.simulator or '–'}\n", "dim")
        for name, score in result.scores.items():
            text.append(f"{label_of(name):>29}  {format_score(score)}\n")
        if result.cost is not None:
            text.append(f"asked of language models: {result.cost.sentence()}\n", "dim")
    text.append(f"{_describe_activations(record)}\n")
    populations = [stratum.population for stratum in record.strata]
    shown = ", ".join("not said" if n is None else f"{n:,}" for n in populations)
    text.append(f"windows by band of their maximum, lowest first: {shown or 'none'}")
    return text


def _describe_activations(record: NeuronRecord) -> str:
    """`max 3.120, mean 0.0100, standard deviation 0.2000 over 1,000 tokens`"""
    moments = record.moments
    parts = [f"max {record.max_activation:.3f}"]
    if moments.mean is not None:
        parts.append(f"mean {moments.mean:.4f}")
    if moments.variance is not None:
        parts.append(f"standard deviation {moments.variance**0.5:.4f}")
    over = "" if moments.n_tokens is None else f" over {moments.n_tokens:,} tokens"
    active = "" if record.density is None else f"; above 0 on {rarity(record.density)} of them"
    return ", ".join(parts) + over + active


def _print_scored_window(console: Console, window: ScoredWindow, full: float) -> None:
    tokens, expected = window.simulation.tokens, window.simulation.expected_activations
    largest = max((value for value in expected if value is not None), default=0.0)
    console.print(f"[dim]{window.subset}, score {format_score(window.score)}[/]")
    plain = console.color_system is None
    for activations, full_at in ((window.true_activations, full), (expected, largest)):
        record = ActivationRecord(tokens, activations)
        console.print(colour_activations(record, full_at, plain=plain))


def _style(activation: float, full: float) -> str:
    share = 0.0 if full <= 0 else min(1.0, max(0.0, activation / full))
    if share < 0.05:
        return ""
    red, green, blue = (
        round(low + (high - low) * share)
        for low, high in zip(EMPTY_COLOUR, FULL_COLOUR, strict=True)
    )
    ink = "black" if share > 0.5 else "white"
    return f"{ink} on rgb({red},{green},{blue})"
