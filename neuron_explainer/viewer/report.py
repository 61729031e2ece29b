"""The page a run leaves behind: one HTML file with every neuron's explanation and score.

The file needs no network and no server. Its script is named by hash in a content security policy,
so that nothing that came from the data could run even if it were not escaped.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from jinja2 import Template
from markupsafe import Markup

from neuron_explainer.records.score import BY_CHANCE, GOOD_SCORE, RANDOM_ONLY, TOP_AND_RANDOM, Score
from neuron_explainer.stores.atomic import write_text
from neuron_explainer.viewer import display
from neuron_explainer.viewer.distributions import (
    Axis,
    Density,
    Distribution,
    describe,
    pair_density,
)
from neuron_explainer.viewer.environment import REPORT, make_environment
from neuron_explainer.viewer.report_comparison import (
    Predictions,
    measure_predictions,
    view_comparison,
)
from neuron_explainer.viewer.report_data import (
    ReportBaseline,
    ReportData,
    ReportNeuron,
    ReportRow,
    ReportStratum,
    ReportWindow,
    label_of,
    score_names,
    score_values,
)

__all__ = [
    "ReportBaseline",
    "ReportData",
    "ReportNeuron",
    "ReportRow",
    "ReportStratum",
    "ReportWindow",
    "render_report",
    "write_report",
]


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer in the table of layers."""

    layer_index: int
    distribution: Distribution
    n_neurons: int
    random_mean: float | None
    """Mean random-only score."""


class Group(NamedTuple):
    """Neurons shown under one heading."""

    name: str
    note: str
    neurons: tuple[ReportNeuron, ...]


class Card(NamedTuple):
    """One neuron with what the page needs to draw it."""

    neuron: ReportNeuron
    simulated: Predictions
    open: list[tuple[int, ReportWindow]]
    """Windows that are seen at once, numbered from 1."""
    folded: list[tuple[int, ReportWindow]]
    parts: list[tuple[str, Score]]
    """The scores other than the headline, by label."""


def write_report(path: Path, data: ReportData) -> None:
    """Puts the page at `path`, whole or not at all."""
    write_text(path, render_report(data))


def render_report(data: ReportData) -> str:
    """The page as one HTML document."""
    names = score_names(data.rows)
    values = {name: score_values(data.rows, name) for name in names}
    metric_values = [x for name in names for x in values[name]]
    axis = Axis.covering(values[TOP_AND_RANDOM])
    metric_axis = Axis.covering([*metric_values, *(x for b in data.baselines for x in b.values)])
    script = Markup(_static("page.js") + _static("table.js"))
    return _template().render(
        data=data,
        headline=TOP_AND_RANDOM,
        good_score=GOOD_SCORE,
        axis=axis,
        overall=describe("all layers", values[TOP_AND_RANDOM], axis),
        layers=layer_rows(data.rows, axis),
        metric_axis=metric_axis,
        metrics=[describe(label_of(name), values[name], metric_axis) for name in names],
        baselines=[describe(b.label, b.values, metric_axis) for b in data.baselines],
        density=random_density(data.rows),
        comparison=data.comparison and view_comparison(data.comparison),
        card_axis=Axis(-1.0),
        groups=_groups(data),
        shown={neuron.neuron_id for neuron in (*data.best, *data.middle, *data.worst)},
        table=Markup(embedded_table(data.rows, axis)),
        css=Markup(_static("report.css")),
        dark_css=Markup(_static("dark.css")),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def layer_rows(rows: Iterable[ReportRow], axis: Axis) -> list[LayerRow]:
    """Layers in order, each with its distribution of headline scores."""
    by_layer: dict[int, list[ReportRow]] = {}
    for row in rows:
        by_layer.setdefault(row.neuron_id.layer_index, []).append(row)
    return [
        LayerRow(
            layer_index,
            describe(f"layer {layer_index}", score_values(layer, TOP_AND_RANDOM), axis),
            n_neurons=len(layer),
            random_mean=describe("", score_values(layer, RANDOM_ONLY), axis).mean,
        )
        for layer_index, layer in sorted(by_layer.items())
    ]


def random_density(rows: Iterable[ReportRow]) -> Density | None:
    """Random-only against top-and-random, over the neurons that have both."""
    scores = [(row.scores.get(TOP_AND_RANDOM), row.scores.get(RANDOM_ONLY)) for row in rows]
    return pair_density(
        [
            (x.value, y.value)
            for x, y in scores
            if x is not None and y is not None and x.value is not None and y.value is not None
        ]
    )


def embedded_table(rows: Iterable[ReportRow], axis: Axis) -> str:
    """The rows as JSON that is safe inside `<script>`.

    A row is [layer, neuron, text, reason, low, high, score, ...], a score for each of `columns`. A
    score that is missing is a string, the place of its reason in `reasons`, or null when there is
    no such score.
    """
    rows = sorted(rows, key=lambda row: row.neuron_id)
    names = score_names(rows)
    reasons: dict[str, int] = {}
    table = {
        "axis": [axis.low, axis.high],
        "columns": [label_of(name) for name in names],
        "rows": [_embedded_row(row, names, reasons) for row in rows],
        "reasons": list(reasons),
    }
    text = json.dumps(table, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _embedded_row(row: ReportRow, names: list[str], reasons: dict[str, int]) -> list[object]:
    headline = row.scores.get(TOP_AND_RANDOM)
    return [
        row.neuron_id.layer_index,
        row.neuron_id.neuron_index,
        None if row.text is None else display.printable(row.text),
        _reason_index(row.unscored_reason, reasons),
        None if headline is None else _rounded(headline.low),
        None if headline is None else _rounded(headline.high),
        *(_embedded_score(row.scores.get(name), reasons) for name in names),
    ]


def _embedded_score(score: Score | None, reasons: dict[str, int]) -> float | str | None:
    if score is None:
        return None
    if score.value is None:
        return str(_reason_index(score.reason, reasons))
    return _rounded(score.value)


def _reason_index(reason: str | None, reasons: dict[str, int]) -> int | None:
    return None if reason is None else reasons.setdefault(display.printable(reason), len(reasons))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4) + 0.0  # -0.0 + 0.0 is 0.0


def _groups(data: ReportData) -> list[Group]:
    groups = (
        Group("best", "The highest top-and-random scores of the run.", data.best),
        Group("middle", "Around the median: what a typical explanation is worth.", data.middle),
        Group("worst", "The lowest scores: here the words do not predict the neuron.", data.worst),
    )
    return [group for group in groups if group.neurons]


def make_card(neuron: ReportNeuron) -> Card:
    """Scales and windows of one neuron; the first window of each subset is open."""
    numbered = list(enumerate(neuron.windows, 1))
    first = {window.subset: i for i, window in reversed(numbered)}
    return Card(
        neuron,
        measure_predictions(neuron.simulated_scale, neuron.windows, neuron.max_activation),
        open=[(i, window) for i, window in numbered if i in first.values()],
        folded=[(i, window) for i, window in numbered if i not in first.values()],
        parts=[
            (_part_label(name, score), score)
            for name, score in neuron.scores.items()
            if name != TOP_AND_RANDOM
        ],
    )


def _part_label(name: str, score: Score) -> str:
    """Chance is a range rather than a value: `by chance, 95 % in −0.02 to 0.21, mean`"""
    if name != BY_CHANCE or score.low is None or score.high is None:
        return label_of(name)
    low, high = (display.number(end) for end in (score.low, score.high))
    return f"{label_of(name)}, 95 % in {low} to {high}, mean"


def _static(name: str) -> str:
    folder = resources.files("neuron_explainer.viewer") / "static"
    return (folder / name).read_text(encoding="utf-8")


@cache
def _template() -> Template:
    environment = make_environment().overlay()
    environment.filters = {**environment.filters, "card": make_card}
    return environment.get_template(REPORT)
