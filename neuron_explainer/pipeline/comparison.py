"""Two methods beside each other on the same units: the mean of the differences, and who moved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.results import LOOKUP_LABEL, UnitResult

N_RESAMPLES = 1000
TIE = 0.005
"""Scores that differ by less show as the same."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Headline scores beside another method's, over the units that both could score."""

    label: str
    """What people call the other method."""
    n_units: int
    mean: float
    baseline_mean: float
    difference: float
    """Of the means; above 0: better than the table."""
    low: float
    high: float
    """95 % bootstrap interval of the difference, over units."""
    n_better: int
    n_same: int
    n_worse: int

    def sentence(self) -> str:
        """One line for a person."""
        return (
            f"{self.label} on the same windows: {self.baseline_mean:.3f} against "
            f"{self.mean:.3f} (difference {self.difference:+.3f} [{self.low:+.3f}, "
            f"{self.high:+.3f}] over {self.n_units:,} neurons; {self.n_better:,} better, "
            f"{self.n_same:,} the same, {self.n_worse:,} worse)"
        )


@dataclass(frozen=True, slots=True)
class Mover:
    """A unit and its two headline scores."""

    neuron_id: NeuronId
    value: float
    baseline_value: float

    @property
    def difference(self) -> float:
        return self.value - self.baseline_value


@dataclass(frozen=True, slots=True)
class PairedScores:
    """Headline scores of one method and of another, over the units that both could score."""

    label: str
    """What people call the other method."""
    movers: tuple[Mover, ...]
    """All of these units, the largest gain first; ties by unit."""

    @classmethod
    def of(
        cls, units: Iterable[UnitResult], baseline: Iterable[UnitResult], label: str = LOOKUP_LABEL
    ) -> PairedScores:
        by_id = {unit.neuron_id: _value(unit) for unit in units}
        movers = []
        for other in baseline:
            mine, its = by_id.get(other.neuron_id), _value(other)
            if mine is not None and its is not None:
                movers.append(Mover(other.neuron_id, mine, its))
        return cls(label, tuple(sorted(movers, key=lambda m: (-m.difference, m.neuron_id))))

    def compare(self, seed: int = 0) -> Comparison | None:
        """None when there is no such unit. seed: of the bootstrap."""
        return _compare(self.label, self.movers, seed)

    def by_layer(self, seed: int = 0) -> Mapping[int, Comparison]:
        layers = sorted({mover.neuron_id.layer_index for mover in self.movers})
        compared = {
            layer: _compare(
                self.label, [m for m in self.movers if m.neuron_id.layer_index == layer], seed
            )
            for layer in layers
        }
        return {layer: found for layer, found in compared.items() if found is not None}


def _compare(label: str, movers: Sequence[Mover], seed: int) -> Comparison | None:
    if not movers:
        return None
    ordered = sorted(movers, key=lambda mover: mover.neuron_id)
    differences: npt.NDArray[np.float64] = np.array([m.difference for m in ordered])  # (unit,)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(differences), size=(N_RESAMPLES, len(differences)))
    low, high = np.quantile(differences[drawn].mean(axis=1), (0.025, 0.975))
    return Comparison(
        label=label,
        n_units=len(ordered),
        mean=float(np.mean([m.value for m in ordered])),
        baseline_mean=float(np.mean([m.baseline_value for m in ordered])),
        difference=float(differences.mean()),
        low=float(low),
        high=float(high),
        n_better=int((differences >= TIE).sum()),
        n_same=int((np.abs(differences) < TIE).sum()),
        n_worse=int((differences <= -TIE).sum()),
    )


def _value(unit: UnitResult) -> float | None:
    return None if unit.score is None else unit.score.value
