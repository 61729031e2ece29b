"""What the command line draws of a published neuron."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from neuron_explainer.cli_display import colour_activations
from neuron_explainer.pipeline.published_scores import score_parts
from neuron_explainer.published.lookup import PublishedNeuron
from neuron_explainer.records.neuron import ActivationRecord
from neuron_explainer.records.published import (
    NeuronsByWeight,
    PublishedExplanation,
    TokenValue,
)
from neuron_explainer.viewer.display import printable

N_LISTED = 10
WAY_OUT = (
    "what failed is asked for again by the same command; --source names another URL or a mirror's "
    "folder, --offline reads the archive alone, `neuron-explainer doctor` checks the network"
)


def published_as_json(found: PublishedNeuron) -> dict[str, Any]:
    """What `json.dumps` takes: every field, and of each explanation its `scores`, with parts."""
    plain = asdict(found)
    if found.results is not None:
        for one, explanation in zip(
            plain["results"]["explanations"], found.results.explanations, strict=True
        ):
            one["scores"] = {
                name: asdict(score) for name, score in score_parts(explanation).items()
            }
    return plain


def print_published(console: Console, found: PublishedNeuron, n_windows: int) -> None:
    """Explanations with their scores, windows, tokens and related neurons, and what is missing."""
    console.print(f"[bold]neuron {found.neuron_id}[/]")
    if found.results is not None:
        for explanation in found.results.explanations:
            _print_explanation(console, explanation)
        if not found.results.explanations:
            _print(console, "no explanation: the file has none")
    if found.record is not None:
        _print_windows(console, "top windows", found.record.top[:n_windows])
    if found.tokens_by_activation is not None:
        _print_tokens(console, "tokens by mean activation", found.tokens_by_activation.tokens)
    if found.tokens_by_weight is not None:
        _print_tokens(console, "tokens it reads", found.tokens_by_weight.input_positive)
        _print_tokens(console, "tokens it writes", found.tokens_by_weight.output_positive)
    if found.related is not None:
        _print_related(console, "upstream", found.related.upstream)
        _print_related(console, "downstream", found.related.downstream)
    _print_missing(console, found)


def _print_missing(console: Console, found: PublishedNeuron) -> None:
    """What there is not, what was left out, and what to do."""
    kinds_of = defaultdict[str, list[str]](list)
    for kind, reason in found.missing.items():
        kinds_of[reason].append(kind)
    for reason, kinds in kinds_of.items():
        _print(console, f"no {', '.join(kinds)}: {reason}")
    for what, n in found.left_out.items():
        _print(console, f"left out: {n:,} {what}")
    if found.not_kept:
        _print(console, f"not kept, as the archive cannot be written: {', '.join(found.not_kept)}")
    if found.failed:
        _print(console, WAY_OUT)


def _print_explanation(console: Console, explanation: PublishedExplanation) -> None:
    console.print(Text(printable(explanation.text.strip()), style="bold"))
    shown = ", ".join(
        f"{name.replace('_', '-')} " + ("–" if score.value is None else f"{score.value:.3f}")
        for name, score in score_parts(explanation).items()
    )
    _print(console, f"score: {shown}")


def _print_windows(console: Console, title: str, windows: Iterable[ActivationRecord]) -> None:
    console.print(f"[bold]{title}[/]")
    shown = list(windows)
    full = max((window.max_activation for window in shown), default=0.0)
    for window in shown:
        console.print(Text(f"{window.max_activation:8.3f}  ", style="dim"), end="")
        console.print(colour_activations(window, full, plain=console.color_system is None))


def _print_tokens(console: Console, title: str, tokens: Sequence[TokenValue]) -> None:
    shown = ", ".join(
        repr(printable(t.token)) + ("" if t.value is None else f" {t.value:.2f}")
        for t in tokens[:N_LISTED]
    )
    _print(console, f"{title}: {shown or '–'}")


def _print_related(console: Console, title: str, related: NeuronsByWeight | None) -> None:
    if related is None:
        return
    shown = ", ".join(
        f"{n.neuron_id}" + ("" if n.weight is None else f" {n.weight:+.2f}")
        for n in (*related.positive[:N_LISTED], *related.negative[:N_LISTED])
    )
    _print(console, f"{title} neurons: {shown or '–'}")


def _print(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
