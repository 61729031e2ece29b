"""Made-up comparisons for pages."""

from __future__ import annotations

from collections.abc import Mapping

from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.score import Score
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.comparison import Mover, PairedScores
from neuron_explainer.stores.makers import Makers
from neuron_explainer.viewer.report_data import (
    PairedWindow,
    ReportComparison,
    ReportMover,
    ReportSide,
    ReportWindow,
)

METRIC = "ev_correlation_score"


def made_by(text: str) -> Makers:
    return Makers(f"explainer {text}", f"e {text}", f"simulator {text}", f"s {text}", f"by {text}")


def result(neuron_id: NeuronId, value: float | None, reason: str = "dead unit") -> UnitResult:
    score = Score(METRIC, value, 640, reason=reason if value is None else None)
    return UnitResult(neuron_id, "e", "commas", None, {"h": score}, "h", "s", scorer="simulation")


def pair(
    this: Mapping[NeuronId, float | None], other: Mapping[NeuronId, float | None], label: str
) -> PairedScores:
    return PairedScores.of(
        (result(i, value) for i, value in this.items()),
        (result(i, value) for i, value in other.items()),
        label,
    )


def window(text: str, predicted: tuple[float | None, ...]) -> ReportWindow:
    score = Score(METRIC, None, 3, reason=text)
    return ReportWindow("top", (text, " b", "c"), (0.5, None, -1.0), predicted, score)


def side(text: str, value: float, scale: ActivationScale) -> ReportSide:
    return ReportSide(text, Score(METRIC, value, 640, 0.01, 0.99), made_by(text), scale)


def shown(mover: Mover, text: str = "commas", *, with_windows: bool = True) -> ReportMover:
    windows = (
        PairedWindow(window(text, (1.0, None, 2.0)), window(text, (0.0, 0.25, None))),
        PairedWindow(window(text, (None, 3.0, 4.0)), window(text, (0.5, 0.0, 0.125))),
    )
    return ReportMover(
        mover.neuron_id,
        mover.difference,
        side(text, mover.value, ActivationScale.NORMALIZED),
        side(text, mover.baseline_value, ActivationScale.NEURON),
        2.0,
        windows if with_windows else (),
    )


def comparison(text: str, *, with_windows: bool = True) -> ReportComparison:
    """Two gains and a loss, and one unit that is left out; `text` wherever there is one."""
    ids = [NeuronId(0, 0), NeuronId(0, 1), NeuronId(1, 2), NeuronId(1, 3)]
    values: list[float | None] = [0.5, 0.25, 0.125, None]
    paired = pair(dict(zip(ids, values, strict=True)), dict.fromkeys(ids[:3], 0.1875), text)
    return ReportComparison(
        paired,
        (made_by(text),),
        (made_by(text), made_by(text + "2")),
        gains=tuple(shown(m, text, with_windows=with_windows) for m in paired.gains(6)),
        losses=tuple(shown(m, text, with_windows=with_windows) for m in paired.losses(6)),
    )
