"""What the report shows of a run: every unit in a row, and a few in full."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from neuron_explainer.errors import StoreError
from neuron_explainer.records.cost import UnitCost
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import Score
from neuron_explainer.stores.record_source import Facts, Manifest, RecordSource
from neuron_explainer.stores.results import (
    BASELINE,
    BASELINE_LABEL,
    LOOKUP_LABEL,
    Results,
    UnitResult,
)
from neuron_explainer.viewer.report_data import (
    ReportBaseline,
    ReportData,
    ReportNeuron,
    ReportRow,
    ReportStratum,
    ReportWindow,
)

N_SHOWN = 6
"""Neurons in full: this many of the best, the middle and the worst."""


def read_report_data(
    source: RecordSource, results: Results, notice: str | None = None
) -> ReportData:
    """The current method's results, every unit once."""
    fingerprint = results.current_method()
    units = list(results.units(fingerprint))
    baseline = _read_baseline(results, fingerprint, {unit.neuron_id for unit in units})
    scored = sorted(
        (unit for unit in units if unit.score is not None and unit.score.value is not None),
        key=lambda unit: (-_value(unit), unit.neuron_id),
    )
    middle = max(0, (len(scored) - N_SHOWN) // 2)
    shown = [scored[:N_SHOWN], scored[middle : middle + N_SHOWN], scored[-N_SHOWN:][::-1]]
    best, mid, worst = (
        tuple(_neuron(unit, fingerprint, source, results, baseline) for unit in group)
        for group in _without_repeats(shown)
    )
    return ReportData(
        title=f"Neurons of {_model_name(source.manifest)}",
        subject=source.manifest.size(),
        facts=_facts(source.manifest, units),
        rows=tuple(ReportRow(u.neuron_id, u.text, u.scores, u.reason) for u in units),
        best=best,
        middle=mid,
        worst=worst,
        notice=notice,
        baselines=baseline.distribution(),
    )


@dataclass(frozen=True, slots=True)
class _Baseline:
    """The method that this one is read beside."""

    label: str
    scores: Mapping[NeuronId, Score]
    """Headline scores; empty when there is no such method."""

    def distribution(self) -> tuple[ReportBaseline, ...]:
        values = tuple(score.value for score in self.scores.values() if score.value is not None)
        return (ReportBaseline(self.label, values),) if values else ()

    def beside(self, neuron_id: NeuronId) -> dict[str, Score]:
        return {self.label: self.scores[neuron_id]} if neuron_id in self.scores else {}


def _read_baseline(
    results: Results, fingerprint: str, neuron_ids: Collection[NeuronId]
) -> _Baseline:
    """Of these units alone: it may have been used for others too."""
    choices = results.choices(fingerprint)
    label = choices.get(BASELINE_LABEL, LOOKUP_LABEL)
    if BASELINE not in choices:
        return _Baseline(label, {})
    units = results.units(choices[BASELINE])
    scores = {
        unit.neuron_id: unit.score
        for unit in units
        if unit.score is not None and unit.neuron_id in neuron_ids
    }
    return _Baseline(label, scores)


def _without_repeats(groups: Sequence[Sequence[UnitResult]]) -> list[list[UnitResult]]:
    """With few units the groups overlap; each unit stays in the first one that has it."""
    seen: set[NeuronId] = set()
    kept: list[list[UnitResult]] = []
    for group in groups:
        kept.append([unit for unit in group if unit.neuron_id not in seen])
        seen.update(unit.neuron_id for unit in group)
    return kept


def _neuron(
    unit: UnitResult,
    fingerprint: str,
    source: RecordSource,
    results: Results,
    baseline: _Baseline,
) -> ReportNeuron:
    record = source.read_neuron(unit.neuron_id)
    windows = results.windows(fingerprint, unit.neuron_id)
    assert unit.text is not None
    if not windows:
        raise StoreError(
            f"the results of neuron {unit.neuron_id} are not whole; "
            "move results.sqlite away and run `explain` again"
        )
    return ReportNeuron(
        neuron_id=unit.neuron_id,
        text=unit.text,
        explainer=unit.made_by,
        simulator=unit.simulator or "",
        scores=unit.scores,
        max_activation=record.max_activation,
        windows=tuple(
            ReportWindow(
                window.subset,
                window.simulation.tokens,
                window.true_activations,
                window.simulation.expected_activations,
                window.score,
            )
            for window in windows
        ),
        simulated_scale=windows[0].simulation.scale,
        baselines=baseline.beside(unit.neuron_id),
        strata=tuple(ReportStratum(s.low, s.high, s.population) for s in record.strata),
    )


def _model_name(manifest: Manifest) -> str:
    """The bundled model has no name of its own."""
    return "the bundled model" if manifest.subject == "bundled" else manifest.subject


def _facts(manifest: Manifest, units: Sequence[UnitResult]) -> Facts:
    layers = ", ".join(map(str, manifest.layers))
    return (
        ("Model", manifest.subject),
        ("Read at", f"{manifest.site}, layers {layers}"),
        *manifest.facts(),
        ("Explained by", ", ".join(sorted({unit.made_by for unit in units}))),
        *_asked(units),
        ("Made by", f"neuron-explainer {version('neuron-explainer')}"),
        ("Collection", manifest.fingerprint),
    )


def _asked(units: Sequence[UnitResult]) -> Facts:
    """What the language models were asked in all, where there were any."""
    costs = [unit.cost for unit in units if unit.cost is not None]
    if not costs:
        return ()
    simulators = ", ".join(sorted({unit.simulator for unit in units if unit.simulator}))
    total = sum(costs, start=UnitCost())
    return (("Simulated by", simulators or "–"), ("Asked", total.sentence()))


def _value(unit: UnitResult) -> float:
    assert unit.score is not None and unit.score.value is not None
    return unit.score.value
