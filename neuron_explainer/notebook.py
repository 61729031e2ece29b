"""A run in a few lines of a notebook: `open_run("runs/default").neuron(3, 17)`."""

# pandas is imported where a frame is asked for: importing the package must stay quick.

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.kept_patterns import open_current_patterns
from neuron_explainer.pipeline.records import open_records
from neuron_explainer.records.neuron import ActivationRecord, NeuronId, NeuronRecord
from neuron_explainer.records.patterns import Pattern
from neuron_explainer.records.score import ScoredWindow
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.results import Results
from neuron_explainer.viewer.display import percent, printable, token_html

if TYPE_CHECKING:
    import pandas as pd

FULL_COLOUR = "255, 140, 0"
N_SHOWN = 5
"""Windows of each kind that a neuron shows of itself."""


@dataclass(frozen=True, slots=True)
class Neuron:
    """One neuron of a run: what was recorded, what is said of it, and how well it predicts.

    In a notebook it shows itself, with the activations as colour behind the text.
    """

    record: NeuronRecord
    result: UnitResult | None
    """By the run's current method; None: the neuron is not explained yet."""
    scored_windows: tuple[ScoredWindow, ...]
    """Held-out windows, real and simulated; empty without a simulation."""
    patterns: tuple[Pattern, ...] = ()
    """That the method found, by the share of the activation that they account for."""

    @property
    def explanation(self) -> str | None:
        return None if self.result is None else self.result.text

    @property
    def score(self) -> float | None:
        """Top-and-random; None: the result says why."""
        if self.result is None or self.result.score is None:
            return None
        return self.result.score.value

    def __repr__(self) -> str:
        """`Neuron(3:17, ' words about time' (score 0.62))`"""
        return f"{type(self).__name__}({self.record.neuron_id}, {self._headline()!r:.120})"

    def _repr_html_(self) -> str:
        full = self.record.max_activation
        parts = [Markup("<b>{}</b> {}<br>").format(self.record.neuron_id, self._headline())]
        parts += map(_pattern_line, self.patterns)
        parts += [_coloured(window, full) for window in self.record.top[:N_SHOWN]]
        if self.scored_windows:
            parts.append(Markup("<i>held-out windows: real, then simulated</i>"))
        for window in self.scored_windows[:N_SHOWN]:
            expected = window.simulation.expected_activations
            tokens = window.simulation.tokens
            largest = max((value for value in expected if value is not None), default=0.0)
            parts.append(_coloured(ActivationRecord(tokens, window.true_activations), full))
            parts.append(_coloured(ActivationRecord(tokens, expected), largest))
        return str(Markup("").join(parts))

    def _headline(self) -> str:
        if self.result is None:
            return "not explained yet"
        said = self.result.text or f"no explanation: {self.result.reason}"
        why = self.result.unscored_reason
        return f"{said} (score {self.score:.2f})" if self.score is not None else f"{said} ({why})"


class Run:
    """A run folder, read alone: another process may be writing to it."""

    def __init__(self, path: Path | str) -> None:
        """StoreError when the folder has no collection, nor says whose records it is over."""
        self._folder = RunFolder(Path(path))
        self.records = open_records(self._folder)

    @property
    def path(self) -> Path:
        return self._folder.path

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def neuron(self, layer_index: int, neuron_index: int) -> Neuron:
        """Numbers as a frame holds them do, too. UnitNotFound when the collection has no such
        neuron, UsageError for what is no whole number."""
        record = self.records.read_neuron(NeuronId.of(layer_index, neuron_index))
        if not self._folder.results.exists():
            return Neuron(record, None, ())
        with (
            Results(self._folder.results, read_only=True) as results,
            open_current_patterns(self._folder, results) as kept,
        ):
            result, windows = results.newest(record.neuron_id)
            if kept is None or result is None:
                return Neuron(record, result, windows)
            return Neuron(record, result, windows, kept.read_patterns(record.neuron_id).patterns)

    def results(self) -> Iterator[UnitResult]:
        """What the current method says of each neuron it was used on."""
        with Results(self._folder.results, read_only=True) as results:
            yield from results.units(results.current_method())

    def scores(self) -> pd.DataFrame:
        """A row a neuron: layer, neuron, explanation, explainer, simulator, score with its
        interval, the other scores by name, why there is no score, and the cost in dollars."""
        import pandas as pd

        return pd.DataFrame([_row(unit) for unit in self.results()])


def open_run(path: Path | str = "runs/default") -> Run:
    """The run in a folder; StoreError when there is none."""
    return Run(path)


def _row(unit: UnitResult) -> dict[str, object]:
    score = unit.score
    others = {name: s.value for name, s in unit.scores.items() if name != unit.headline}
    return {
        "layer": unit.neuron_id.layer_index,
        "neuron": unit.neuron_id.neuron_index,
        "explanation": unit.text,
        "explainer": unit.made_by,
        "simulator": unit.simulator,
        "score": score and score.value,
        "low": score and score.low,
        "high": score and score.high,
        **others,
        "reason": unit.unscored_reason,
        "cost_usd": unit.cost and unit.cost.cost_usd,
    }


def _pattern_line(pattern: Pattern) -> Markup:
    """The token sets, the last of which the neuron is active on, and the share."""
    sets = Markup(" ").join(
        Markup("any") if fits is None else Markup("{{{}}}").format(
            Markup(", ").join(Markup("<code>{}</code>").format(token_html(t)) for t in sorted(fits))
        )
        for fits in pattern.sets
    )  # fmt: skip
    start = " at a window’s start" if pattern.at_start else ""
    return Markup("<div>{} of the activation{}: {}</div>").format(
        percent(pattern.share), start, sets
    )


def _coloured(window: ActivationRecord, full: float) -> Markup:
    """The text of a window; the background is the stronger the larger the activation."""
    spans = []
    for token, activation in zip(window.tokens, window.activations, strict=True):
        share = 0.0 if activation is None or full <= 0 else min(1.0, max(0.0, activation / full))
        value = "" if activation is None else f"{activation:.3g}"
        spans.append(
            Markup('<span title="{}" style="background: rgba({}, {:.2f})">{}</span>').format(
                value, FULL_COLOUR, share, escape(printable(token).replace("\n", "⏎"))
            )
        )
    return Markup('<div style="font-family: monospace; white-space: pre-wrap">{}</div>').format(
        Markup("").join(spans)
    )
