"""Units, windows and a simulator made up for the tests of scores."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from neuron_explainer.records.explanation import Explanation, TokenLookupTable
from neuron_explainer.records.neuron import (
    ActivationRecord,
    Moments,
    NeuronId,
    NeuronRecord,
    Stratum,
)
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.score import ScoredSimulation
from neuron_explainer.records.simulation import SequenceSimulation
from neuron_explainer.scoring.base import Scorer
from neuron_explainer.scoring.simulation import SimulationScorer
from neuron_explainer.simulators.base import Simulator

NEURON_ID = NeuronId(2, 417)


def window(activations: Iterable[float], name: str = "w") -> ActivationRecord:
    """A window whose tokens no other window of another name has."""
    values = tuple(map(float, activations))
    return ActivationRecord(tuple(f"{name}.{i}" for i in range(len(values))), values)


def neuron_record(
    top: Sequence[ActivationRecord],
    random: Sequence[ActivationRecord],
    neuron_id: NeuronId = NEURON_ID,
    n_others: int | None = 1000,
) -> NeuronRecord:
    """n_others: windows of the record text beside the top ones."""
    return NeuronRecord(
        neuron_id=neuron_id,
        top=tuple(sorted(top, key=lambda record: -record.max_activation)),
        strata=(Stratum(None, None, n_others, ()),),
        random=tuple(random),
        moments=Moments(n_tokens=1000, mean=0.0, variance=1.0, skewness=None, kurtosis=None),
    )


def noisy_record(
    n_top: int = 20, n_random: int = 15, n_tokens: int = 16, neuron_id: NeuronId = NEURON_ID
) -> NeuronRecord:
    """Top windows around 2, random ones around 0; every token occurs once."""
    rng = np.random.default_rng(7)
    top = [window(2 + rng.normal(size=n_tokens), f"top{i}") for i in range(n_top)]
    random = [window(rng.normal(size=n_tokens), f"random{i}") for i in range(n_random)]
    return neuron_record(top, random, neuron_id)


def explanation(table: TokenLookupTable | None = None) -> Explanation:
    return Explanation(NEURON_ID, "made up", explainer="token_lookup", rule=table)


def lookup_table(mean_by_token: Mapping[str, float], default: float = 0.0) -> TokenLookupTable:
    return TokenLookupTable(mean_by_token, dict.fromkeys(mean_by_token, 1), default)


def truth(record: NeuronRecord) -> dict[str, float]:
    """Token -> activation, over all windows of the unit."""
    windows = (*record.top, *record.random)
    return {t: a for w in windows for t, a in zip(w.tokens, w.activations, strict=True)}


@dataclass
class FakeSimulator:
    """Predicts by a table, 0 for tokens that have no row; remembers the windows it was shown."""

    predictions: Mapping[str, float | None]
    scale: ActivationScale = ActivationScale.NEURON
    seen: list[tuple[str, ...]] = field(default_factory=list)
    name: str = "fake"

    async def simulate(self, explanation: Explanation, tokens: Sequence[str]) -> SequenceSimulation:
        assert explanation.text
        self.seen.append(tuple(tokens))
        predicted = tuple(self.predictions.get(token, 0.0) for token in tokens)
        return SequenceSimulation(tuple(tokens), predicted, self.scale)


def score(
    simulator: Simulator,
    record: NeuronRecord,
    claim: Explanation | None = None,
    **choices: float,
) -> ScoredSimulation:
    scorer: Scorer = SimulationScorer(simulator, **choices)  # type: ignore[arg-type]
    return asyncio.run(scorer.score(claim or explanation(), record))


def guess(record: NeuronRecord, seed: int = 0) -> dict[str, float | None]:
    """The truth with noise."""
    rng = np.random.default_rng(seed)
    return {token: value + rng.normal() for token, value in truth(record).items()}


def pooled(scored: ScoredSimulation, subsets: Sequence[str]) -> tuple[list[float], list[float]]:
    real: list[float] = []
    simulated: list[float] = []
    for scored_window in scored.windows:
        if scored_window.subset in subsets:
            real += scored_window.true_activations
            simulated += [
                value
                for value in scored_window.simulation.expected_activations
                if value is not None
            ]
    return real, simulated
