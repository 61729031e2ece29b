"""What the report shows of a run: every unit in a row, and a few in full."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from neuron_explainer.errors import StoreError
from neuron_explainer.records.cost import UnitCost
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.makers import makers_of, simulator_prompt
from neuron_explainer.stores.pattern_store import PatternStore
from neuron_explainer.stores.record_source import Facts, Manifest, RecordSource
from neuron_explainer.stores.results import Results
from neuron_explainer.viewer.comparison_source import Beside, report_window
from neuron_explainer.viewer.report_data import ReportData, ReportNeuron, ReportRow, ReportStratum

N_SHOWN = 6
"""Neurons in full: this many of the best, the middle and the worst."""


def read_report_data(
    source: RecordSource,
    results: Results,
    notice: str | None = None,
    patterns: PatternStore | None = None,
) -> ReportData:
    """The current method's results, every unit once; patterns: those behind them, if any are."""
    fingerprint = results.current_method()
    units = list(results.units(fingerprint))
    beside = Beside(results, fingerprint, units)
    prompt = simulator_prompt(results, fingerprint)
    scored = sorted(
        (unit for unit in units if unit.score is not None and unit.score.value is not None),
        key=lambda unit: (-_value(unit), unit.neuron_id),
    )
    middle = max(0, (len(scored) - N_SHOWN) // 2)
    shown = [scored[:N_SHOWN], scored[middle : middle + N_SHOWN], scored[-N_SHOWN:][::-1]]
    best, mid, worst = (
        tuple(
            _neuron(unit, fingerprint, prompt, source, results, beside, patterns) for unit in group
        )
        for group in _without_repeats(shown)
    )
    makers = tuple(sorted({makers_of(unit, prompt) for unit in scored}))
    return ReportData(
        title=f"Neurons of {_model_name(source.manifest)}",
        subject=source.manifest.size(),
        facts=_facts(source.manifest, units),
        rows=tuple(ReportRow(u.neuron_id, u.text, u.scores, u.reason) for u in units),
        best=best,
        middle=mid,
        worst=worst,
        notice=notice,
        makers=makers,
        baselines=beside.distribution(),
        comparison=beside.comparison(source, makers),
    )


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
    prompt: str | None,
    source: RecordSource,
    results: Results,
    beside: Beside,
    patterns: PatternStore | None,
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
        makers=makers_of(unit, prompt),
        scores=unit.scores,
        max_activation=record.max_activation,
        windows=tuple(map(report_window, windows)),
        simulated_scale=windows[0].simulation.scale,
        baselines=beside.scores(unit.neuron_id),
        strata=tuple(ReportStratum(s.low, s.high, s.population) for s in record.strata),
        density=record.density,
        patterns=() if patterns is None else patterns.read_patterns(unit.neuron_id).patterns,
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
