"""What the report shows of two methods beside each other, read from a run's results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import Score, ScoredWindow
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.comparison import Mover, PairedScores, read_baseline
from neuron_explainer.stores.makers import Makers, makers_of, simulator_prompt
from neuron_explainer.stores.record_source import RecordSource
from neuron_explainer.stores.results import LOOKUP_LABEL, Results
from neuron_explainer.viewer.report_data import (
    PairedWindow,
    ReportBaseline,
    ReportComparison,
    ReportMover,
    ReportSide,
    ReportWindow,
)

N_MOVERS = 6
"""Of each kind, in full."""


class Beside:
    """The method that another one's choices name as what it is read beside.

    Its units are read once, and not kept.
    """

    def __init__(self, results: Results, method: str, units: Sequence[UnitResult]) -> None:
        baseline = read_baseline(results, method)
        self.label = LOOKUP_LABEL if baseline is None else baseline.label
        self._results = results
        self._method = method
        self._other = None if baseline is None else baseline.method
        methods = (method, self._other) if self._other else (method,)
        self._prompts = {name: simulator_prompt(results, name) for name in methods}
        self._makers: set[Makers] = set()
        self._values: list[float] = []
        self._paired: PairedScores | None = None
        if self._other is not None:
            others = results.units(self._other)
            ids = {unit.neuron_id for unit in units}
            self._paired = PairedScores.of(units, self._noted(others, ids), self.label)

    def distribution(self) -> tuple[ReportBaseline, ...]:
        """Its scores; empty when it has none."""
        values = tuple(self._values)
        return (ReportBaseline(self.label, values),) if values else ()

    def scores(self, neuron_id: NeuronId) -> dict[str, Score]:
        """Its headline score of one neuron under its label; empty when it says nothing of it."""
        if self._other is None:
            return {}
        unit = next(self._results.units(self._other, neuron_id), None)
        return {} if unit is None or unit.score is None else {self.label: unit.score}

    def comparison(self, source: RecordSource, makers: Sequence[Makers]) -> ReportComparison | None:
        """None: there is no such method. makers: what the scores of the other side came from."""
        if self._paired is None:
            return None
        gains, losses = self._paired.gains(N_MOVERS), self._paired.losses(N_MOVERS)
        return ReportComparison(
            self._paired,
            tuple(makers),
            tuple(sorted(self._makers)),
            gains=tuple(self._mover(mover, source) for mover in gains),
            losses=tuple(self._mover(mover, source) for mover in losses),
        )

    def _noted(
        self, others: Iterable[UnitResult], neuron_ids: set[NeuronId]
    ) -> Iterator[UnitResult]:
        """Of these units alone: it may have been used for others too."""
        assert self._other is not None
        for unit in others:
            if unit.neuron_id not in neuron_ids:
                continue
            if unit.score is not None and unit.score.value is not None:
                self._values.append(unit.score.value)
                self._makers.add(makers_of(unit, self._prompts[self._other]))
            yield unit

    def _mover(self, mover: Mover, source: RecordSource) -> ReportMover:
        assert self._other is not None
        neuron_id = mover.neuron_id
        this, other = (
            self._results.windows(name, neuron_id) for name in (self._method, self._other)
        )
        return ReportMover(
            neuron_id,
            mover.difference,
            self._side(self._method, neuron_id, this),
            self._side(self._other, neuron_id, other),
            source.read_neuron(neuron_id).max_activation,
            pair_windows(this, other),
        )

    def _side(
        self, method: str, neuron_id: NeuronId, windows: Sequence[ScoredWindow]
    ) -> ReportSide:
        unit = self._results.unit(method, neuron_id)
        assert unit.text is not None and unit.score is not None
        scale = windows[0].simulation.scale if windows else None
        return ReportSide(unit.text, unit.score, makers_of(unit, self._prompts[method]), scale)


def report_window(window: ScoredWindow) -> ReportWindow:
    """As pages draw it."""
    return ReportWindow(
        window.subset,
        window.simulation.tokens,
        window.true_activations,
        window.simulation.expected_activations,
        window.score,
    )


def pair_windows(
    this: Sequence[ScoredWindow], other: Sequence[ScoredWindow]
) -> tuple[PairedWindow, ...]:
    """Empty unless both are of the same windows in the same order."""
    if [_content(window) for window in this] != [_content(window) for window in other]:
        return ()
    return tuple(
        PairedWindow(report_window(mine), report_window(its))
        for mine, its in zip(this, other, strict=True)
    )


def _content(window: ScoredWindow) -> tuple[object, ...]:
    return window.subset, window.simulation.tokens, window.true_activations
