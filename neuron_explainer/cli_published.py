"""What the command line draws of a published neuron."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from neuron_explainer.cli_display import colour_activations
from neuron_explainer.published.lookup import PublishedNeuron
from neuron_explainer.records.neuron import ActivationRecord
from neuron_explainer.records.published import (
    NeuronsByWeight,
    PublishedExplanation,
    PublishedWindow,
    TokenValue,
)
from neuron_explainer.scoring.metrics import correlation
from neuron_explainer.viewer.display import printable

N_LISTED = 10
N_TOP = 5
"""Of the scored windows, the first so many are top windows, the others random ones."""


def print_published(console: Console, found: PublishedNeuron, n_windows: int) -> None:
    """Explanations with their scores, windows, tokens and related neurons, and what is missing."""
    console.print(f"[bold]neuron {found.neuron_id}[/]")
    for explanation in found.results.explanations if found.results else ():
        _print_explanation(console, explanation)
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
    for kind, reason in found.missing.items():
        _print(console, f"no {kind}: {reason}")
    if found.not_kept:
        _print(console, f"not kept, as the archive cannot be written: {', '.join(found.not_kept)}")


def _print_explanation(console: Console, explanation: PublishedExplanation) -> None:
    console.print(Text(printable(explanation.text.strip()), style="bold"))
    parts = [("top-and-random", explanation.ev_correlation_score)]
    if len(explanation.windows) > N_TOP:
        parts += [
            ("top-only", _score(explanation.windows[:N_TOP])),
            ("random-only", _score(explanation.windows[N_TOP:])),
        ]
    shown = ", ".join(f"{name} {'–' if v is None else f'{v:.3f}'}" for name, v in parts)
    _print(console, f"score: {shown}")


def _score(windows: Sequence[PublishedWindow]) -> float | None:
    """ρ over the tokens that have both values."""
    pairs = [
        (real, simulated)
        for window in windows
        for real, simulated in zip(
            window.true_activations,
            window.simulation.predicted.expected_activations,
            strict=True,
        )
        if real is not None and simulated is not None
    ]
    return correlation([real for real, _ in pairs], [p for _, p in pairs]) if pairs else None


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
