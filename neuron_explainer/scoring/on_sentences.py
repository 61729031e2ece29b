"""One correlation over windows that are already simulated and further text that is not.

Bills et al. 2023, "Revising explanations": old and new explanation are scored on the usual windows,
and on those together with sentences written to test the old one. Tokens of all are one list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeAlias

from neuron_explainer.errors import CannotSimulate
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import ActivationRecord
from neuron_explainer.records.score import Score, ScoredWindow
from neuron_explainer.scoring.metrics import Metric, measure
from neuron_explainer.simulators.base import Simulator

MAX_MISSING_SHARE = 0.1
METRIC = Metric.EV_CORRELATION
Values: TypeAlias = Sequence[float | None]


async def score_on_sentences(
    simulator: Simulator,
    explanation: Explanation,
    sentences: Sequence[ActivationRecord],
    windows: Sequence[ScoredWindow] = (),
    max_missing_share: float = MAX_MISSING_SHARE,
) -> Score:
    """ρ over the sentences and the windows; `windows`: what this simulator made of others.

    Without a value where undefined, where more than `max_missing_share` of the tokens that count
    have no prediction, and where the simulator cannot work from the explanation.
    """
    try:
        simulated = await _simulate(simulator, explanation, sentences)
    except CannotSimulate as error:
        return Score(METRIC.value, None, n_tokens=0, reason=error.reason)
    return _correlate(
        [
            *((w.true_activations, w.simulation.expected_activations) for w in windows),
            *((s.activations, p) for s, p in zip(sentences, simulated, strict=True)),
        ],
        max_missing_share,
    )


async def _simulate(
    simulator: Simulator, explanation: Explanation, sentences: Sequence[ActivationRecord]
) -> list[Values]:
    tasks = [
        asyncio.ensure_future(simulator.simulate(explanation, sentence.tokens))
        for sentence in sentences
    ]
    try:
        simulations = await asyncio.gather(*tasks)
    finally:
        for task in tasks:  # one sentence has failed: the others are not worth their cost
            task.cancel()
    return [simulation.expected_activations for simulation in simulations]


def _correlate(pairs: Sequence[tuple[Values, Values]], max_missing_share: float) -> Score:
    """pairs: real and simulated activations, a window each."""
    counted = [
        (real, simulated)
        for window in pairs
        for real, simulated in zip(*window, strict=True)
        if real is not None
    ]
    known = [(real, simulated) for real, simulated in counted if simulated is not None]
    n_missing = len(counted) - len(known)
    if n_missing > max_missing_share * len(counted):
        reason = f"too many missing predictions: {n_missing} of {len(counted)} scored tokens"
        return Score(METRIC.value, None, n_tokens=0, reason=reason)
    value, undefined, n_tokens = measure(METRIC, [r for r, _ in known], [p for _, p in known])
    return Score(METRIC.value, value, n_tokens, reason=undefined and undefined.value)
