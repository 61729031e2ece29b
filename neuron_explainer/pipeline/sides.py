"""Two methods beside each other with all that made them, for a program to read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.comparison import Mover, PairedScores, read_baseline
from neuron_explainer.stores.makers import simulator_prompt
from neuron_explainer.stores.results import Results

N_MOVERS = 10
"""At most, in each direction."""


@dataclass(frozen=True, slots=True)
class Side:
    """What made the explanations and scores of one method; each of a kind once, in order."""

    fingerprint: str
    made_by: tuple[str, ...]
    """`token_lookup`, or `summary by hf:model`."""
    prompt_versions: tuple[str, ...]
    """Of the explainer's prompt; empty where none is known."""
    simulators: tuple[str, ...]
    simulation_prompt: str | None
    scorers: tuple[str, ...]

    def __str__(self) -> str:
        """One line for a person."""
        prompt = f" (prompt {self.simulation_prompt})" if self.simulation_prompt else ""
        asked = f" (prompt {', '.join(self.prompt_versions)})" if self.prompt_versions else ""
        return (
            f"explained by {', '.join(self.made_by) or 'nobody'}{asked}; simulated by "
            f"{', '.join(self.simulators) or 'nobody'}{prompt}; scored by "
            f"{', '.join(self.scorers) or 'nobody'}"
        )


@dataclass(frozen=True, slots=True)
class PairedUnit:
    """A unit as both methods have it; what is None has a reason beside it."""

    neuron_id: NeuronId
    text: str | None
    value: float | None
    reason: str | None
    """Why there is no score."""
    baseline_text: str | None
    baseline_value: float | None
    baseline_reason: str | None


@dataclass(frozen=True, slots=True)
class Compared:
    """A method beside the one that its choices name."""

    paired: PairedScores
    now: Side
    before: Side
    units: tuple[PairedUnit, ...]
    """Every unit of the method, by layer and unit."""

    def as_json(self) -> dict[str, Any]:
        """What `json.dumps` takes."""
        compared = self.paired.compare()
        by_layer = self.paired.by_layer()
        return {
            "label": self.paired.label,
            "comparison": compared and asdict(compared),
            "by_layer": {layer: asdict(found) for layer, found in by_layer.items()},
            "gains": [_mover(mover) for mover in self.paired.gains(N_MOVERS)],
            "losses": [_mover(mover) for mover in self.paired.losses(N_MOVERS)],
            "left_out": self.paired.left_out,
            "now": asdict(self.now),
            "before": asdict(self.before),
            "units": [asdict(unit) for unit in self.units],
        }


def compare_methods(results: Results, method: str) -> Compared:
    """Reads both once; ValueError when the method's choices name no other one."""
    baseline = read_baseline(results, method)
    if baseline is None:
        raise ValueError(f"method {method} is read beside no other one")
    mine = {unit.neuron_id: unit for unit in results.units(method)}
    others = {u.neuron_id: u for u in results.units(baseline.method) if u.neuron_id in mine}
    return Compared(
        PairedScores.of(mine.values(), others.values(), baseline.label),
        now=_side(results, method, mine.values()),
        before=_side(results, baseline.method, others.values()),
        units=tuple(_pair(unit, others.get(unit.neuron_id)) for unit in mine.values()),
    )


def _mover(mover: Mover) -> dict[str, Any]:
    return {**asdict(mover), "difference": mover.difference}


def _pair(unit: UnitResult, other: UnitResult | None) -> PairedUnit:
    beside = (None, None, "no result") if other is None else _said(other)
    return PairedUnit(unit.neuron_id, *_said(unit), *beside)


def _said(unit: UnitResult) -> tuple[str | None, float | None, str | None]:
    value = None if unit.score is None else unit.score.value
    return unit.text, value, unit.unscored_reason


def _side(results: Results, method: str, units: Iterable[UnitResult]) -> Side:
    said = [unit for unit in units if unit.text is not None]
    return Side(
        method,
        made_by=_each(unit.made_by for unit in said),
        prompt_versions=_each(unit.prompt_version for unit in said),
        simulators=_each(unit.simulator for unit in said),
        simulation_prompt=simulator_prompt(results, method),
        scorers=_each(unit.scorer for unit in said),
    )


def _each(names: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(sorted({name for name in names if name is not None}))
