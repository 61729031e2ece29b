"""Score by simulation: predict the held-out windows from the explanation, compare with reality.

Bills et al. 2023, `scoring.py`:
1. Simulate the windows of the `valid` split, five top and five random ones.
2. ρ over all their tokens is the score (top-and-random); the top and the random windows alone
   give two more, and each window one of its own.
3. Weighted back to the record text, the same windows give the full-distribution ρ: the top ones
   stand together for the top windows on record, the random ones for all others, which a band of
   the maximum counted. Top and random alone are nearly blind to an explanation that is too broad
   (NeuronEval, ICML 2025).
4. With each simulation turned round within its window, ρ is what chance gives.
5. Fit a map from simulated to real activations on the `calibration` split, by default a line (the
   paper fits it on the scored windows themselves, which flatters); the errors left give the other
   two scores.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from neuron_explainer.errors import CannotSimulate
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import DEAD_UNIT, ActivationRecord, NeuronRecord
from neuron_explainer.records.scale import CalibrationKind, raw_unit
from neuron_explainer.records.score import (
    ABSOLUTE_DEV_EXPLAINED,
    BY_CHANCE,
    EXPLAINED_VARIANCE,
    FULL_DISTRIBUTION,
    RANDOM_ONLY,
    TOP_AND_RANDOM,
    TOP_ONLY,
    Score,
    ScoredSimulation,
    ScoredWindow,
)
from neuron_explainer.records.simulation import SequenceSimulation
from neuron_explainer.records.splits import Split, SplitRecords, split_records
from neuron_explainer.scoring.metrics import Metric, measure, measure_weighted
from neuron_explainer.scoring.uncertainty import (
    WindowPair,
    bootstrap_interval,
    central_range,
    null_correlations,
)
from neuron_explainer.simulators.base import Simulator
from neuron_explainer.simulators.calibration import Calibration, fit_calibration

METRIC_BY_NAME: Mapping[str, Metric] = {
    TOP_AND_RANDOM: Metric.EV_CORRELATION,
    FULL_DISTRIBUTION: Metric.EV_CORRELATION,
    RANDOM_ONLY: Metric.EV_CORRELATION,
    TOP_ONLY: Metric.EV_CORRELATION,
    BY_CHANCE: Metric.EV_CORRELATION,
    EXPLAINED_VARIANCE: Metric.EXPLAINED_VARIANCE,
    ABSOLUTE_DEV_EXPLAINED: Metric.ABSOLUTE_DEV_EXPLAINED,
}
"""The scores of every `ScoredSimulation` made here; the last two are after calibration."""
CALIBRATED_METRICS = (Metric.EXPLAINED_VARIANCE, Metric.ABSOLUTE_DEV_EXPLAINED)
NO_POPULATIONS = "populations not on record"
"""How many windows the unit has beside the top ones; published records do not say."""


@dataclass(frozen=True, slots=True)
class SimulationScorer:
    """One score of a unit costs a simulation of each window of two splits."""

    simulator: Simulator
    n_per_split: int = 5
    """Top windows a split, and as many random ones (published: 5)."""
    n_resamples: int = 200
    """Of the bootstrap interval; 0 for none."""
    seed: int = 0
    """Of the bootstrap; joined with the unit's id, so the order of units plays no part."""
    max_missing_share: float = 0.1
    """A score of windows with a larger share of unpredicted tokens than this has no value."""

    calibration: CalibrationKind = CalibrationKind.LINEAR
    """Goes before the two scores that compare magnitudes; the correlations are without it."""

    name = "simulation"

    async def selection_score(self, explanation: Explanation, record: NeuronRecord) -> Score:
        """The correlation over the calibration split's windows, to choose an explanation by.

        What is chosen is then scored on the valid split, which had no part in the choice.
        """
        calibration = split_records(record, Split.CALIBRATION, self.n_per_split)
        reason = (
            DEAD_UNIT if record.is_dead else self._too_few_reason((Split.CALIBRATION, calibration))
        )
        if reason is not None:
            return _without_value(Metric.EV_CORRELATION, reason)
        try:
            windows = await self._simulate(explanation, [*calibration.top, *calibration.random])
        except CannotSimulate as error:
            return _without_value(Metric.EV_CORRELATION, error.reason)
        return self._measure(Metric.EV_CORRELATION, windows)

    async def score(self, explanation: Explanation, record: NeuronRecord) -> ScoredSimulation:
        """The scores of METRIC_BY_NAME, and one a window of the valid split.

        Without a value where undefined. A reason counts by its part before the first colon:
        `dead unit`, `too few windows`, `too many missing predictions`, those of `Undefined`, and
        whatever the simulator says when it cannot simulate the explanation at all.
        """
        valid = split_records(record, Split.VALID, self.n_per_split)
        calibration = split_records(record, Split.CALIBRATION, self.n_per_split)
        splits = ((Split.VALID, valid), (Split.CALIBRATION, calibration))
        reason = DEAD_UNIT if record.is_dead else self._too_few_reason(*splits)
        if reason is not None:
            return self._unscored(reason)
        try:
            simulated = await self._simulate(
                explanation, [*calibration.top, *calibration.random, *valid.top, *valid.random]
            )
        except CannotSimulate as error:
            return self._unscored(error.reason)
        n = self.n_per_split
        return ScoredSimulation(
            scorer=self.name,
            simulator=self.simulator.name,
            scores=self._scores(
                calibration=simulated[: 2 * n],
                top=simulated[2 * n : 3 * n],
                random=simulated[3 * n :],
                record=record,
                seeds=(self.seed, record.neuron_id.layer_index, record.neuron_id.neuron_index),
            ),
            windows=tuple(
                self._scored_window("top" if i < n else "random", window)
                for i, window in enumerate(simulated[2 * n :])
            ),
            headline=TOP_AND_RANDOM,
        )

    async def _simulate(
        self, explanation: Explanation, records: Sequence[ActivationRecord]
    ) -> list[_Window]:
        tasks = [
            asyncio.ensure_future(self.simulator.simulate(explanation, record.tokens))
            for record in records
        ]
        try:
            simulations = await asyncio.gather(*tasks)
        finally:
            for task in tasks:  # one window has failed: the others are not worth their cost
                task.cancel()
        return [_pair(*both) for both in zip(records, simulations, strict=True)]

    def _scores(
        self,
        calibration: Sequence[_Window],
        top: Sequence[_Window],
        random: Sequence[_Window],
        record: NeuronRecord,
        seeds: tuple[int, int, int],
    ) -> dict[str, Score]:
        valid = [*top, *random]
        headline = self._correlation((top, random), seeds)
        return {
            TOP_AND_RANDOM: headline,
            FULL_DISTRIBUTION: self._full_distribution(headline, (top, random), record, seeds),
            RANDOM_ONLY: self._correlation((random,), seeds),
            TOP_ONLY: self._correlation((top,), seeds),
            BY_CHANCE: _by_chance(headline, valid, seeds),
            **self._calibrated_scores(calibration, valid, record.max_activation),
        }

    def _correlation(
        self, strata: Sequence[Sequence[_Window]], seeds: tuple[int, int, int]
    ) -> Score:
        score = self._measure(Metric.EV_CORRELATION, [w for stratum in strata for w in stratum])
        return self._with_interval(score, strata, seeds)

    def _full_distribution(
        self,
        headline: Score,
        strata: Sequence[Sequence[_Window]],
        record: NeuronRecord,
        seeds: tuple[int, int, int],
    ) -> Score:
        """strata: top and random; headline: ρ of the same windows without weights."""
        n_others = record.n_windows_beside_top
        if headline.value is None:
            return headline
        if not n_others:
            return _without_value(Metric.EV_CORRELATION, NO_POPULATIONS)
        populations = (len(record.top), n_others)
        weights = [n / len(stratum) for n, stratum in zip(populations, strata, strict=True)]
        real, simulated = _concatenate([window for stratum in strata for window in stratum])
        n_tokens_of = [sum(len(window.pair.real) for window in stratum) for stratum in strata]
        value, undefined, n_tokens = measure_weighted(
            real, simulated, np.repeat(weights, n_tokens_of)
        )
        reason = undefined and undefined.value
        score = Score(Metric.EV_CORRELATION.value, value, n_tokens, reason=reason)
        return self._with_interval(score, strata, seeds, weights)

    def _with_interval(
        self,
        score: Score,
        strata: Sequence[Sequence[_Window]],
        seeds: tuple[int, int, int],
        weights: Sequence[float] | None = None,
    ) -> Score:
        """weights: of a window of each stratum; None: all count once."""
        if score.value is None:
            return score
        interval = bootstrap_interval(
            [[window.pair for window in stratum] for stratum in strata],
            np.random.default_rng(seeds),
            weights=weights,
            n_resamples=self.n_resamples,
        )
        if interval is None:
            return score
        return replace(score, low=interval.low, high=interval.high)

    def _calibrated_scores(
        self, calibration: Sequence[_Window], valid: Sequence[_Window], max_activation: float
    ) -> dict[str, Score]:
        reason = self._missing_reason(calibration, "calibration")
        if reason is None:
            fit_on = _concatenate(calibration)
            calibrated = fit_calibration(
                self.calibration,
                fit_on.simulated,
                fit_on.real,
                raw_unit(calibration[0].simulation.scale, max_activation),
            )
            scores = [self._measure(metric, valid, calibrated) for metric in CALIBRATED_METRICS]
        else:
            scores = [_without_value(metric, reason) for metric in CALIBRATED_METRICS]
        return {score.metric: score for score in scores}

    def _scored_window(self, subset: str, window: _Window) -> ScoredWindow:
        return ScoredWindow(
            subset=subset,
            simulation=window.simulation,
            true_activations=window.record.activations,
            score=self._measure(Metric.EV_CORRELATION, [window]),
        )

    def _measure(
        self, metric: Metric, windows: Sequence[_Window], calibration: Calibration | None = None
    ) -> Score:
        """One score over all tokens of the windows that have a prediction."""
        reason = self._missing_reason(windows, "scored")
        if reason is not None:
            return _without_value(metric, reason)
        real, simulated = _concatenate(windows)
        value, undefined, n_tokens = measure(
            metric, real, simulated if calibration is None else calibration.apply(simulated)
        )
        return Score(metric.value, value, n_tokens, reason=undefined and undefined.value)

    def _missing_reason(self, windows: Sequence[_Window], which: str) -> str | None:
        n_tokens = sum(window.n_counted for window in windows)
        n_missing = n_tokens - sum(len(window.pair.real) for window in windows)
        # At least one token must be left, whatever share is allowed.
        if n_missing <= max(0, min(self.max_missing_share * n_tokens, n_tokens - 1)):
            return None
        return f"too many missing predictions: {n_missing} of {n_tokens} {which} tokens"

    def _too_few_reason(self, *splits: tuple[Split, SplitRecords]) -> str | None:
        n = self.n_per_split
        for split, records in splits:
            if len(records.top) < n or len(records.random) < n:
                return (
                    f"too few windows: {len(records.top)} top and {len(records.random)} random "
                    f"in the {split} split, {n} of each needed"
                )
        return None

    def _unscored(self, reason: str) -> ScoredSimulation:
        return ScoredSimulation(
            scorer=self.name,
            simulator=self.simulator.name,
            scores={name: _without_value(m, reason) for name, m in METRIC_BY_NAME.items()},
            windows=(),
            headline=TOP_AND_RANDOM,
        )


class _Window(NamedTuple):
    """A window, its simulation, and the tokens that count and have a prediction, as arrays."""

    record: ActivationRecord
    simulation: SequenceSimulation
    pair: WindowPair
    n_counted: int
    """Tokens that count, with a prediction or without."""


def _pair(record: ActivationRecord, simulation: SequenceSimulation) -> _Window:
    real, simulated = record.activations, simulation.expected_activations
    if len(real) != len(simulated):
        raise ValueError(f"{len(simulated)} predictions for a window of {len(real)} tokens")
    n_counted = len(real) - real.count(None)
    if n_counted < len(real) or None in simulated:
        both = zip(real, simulated, strict=True)
        kept = [i for i, pair in enumerate(both) if None not in pair]
        real, simulated = tuple(real[i] for i in kept), tuple(simulated[i] for i in kept)
    pair = WindowPair(np.array(real, dtype=np.float64), np.array(simulated, dtype=np.float64))
    return _Window(record, simulation, pair, n_counted)


def _by_chance(headline: Score, windows: Sequence[_Window], seeds: tuple[int, int, int]) -> Score:
    """Mean and 95 % range; undefined, with the same reason, where the headline is."""
    if headline.value is None:
        return headline
    null = null_correlations([window.pair for window in windows], np.random.default_rng(seeds))
    low, high = central_range(null)
    return replace(headline, value=float(null.mean()), low=low, high=high)


def _concatenate(windows: Sequence[_Window]) -> WindowPair:
    return WindowPair(
        real=np.concatenate([window.pair.real for window in windows]),
        simulated=np.concatenate([window.pair.simulated for window in windows]),
    )


def _without_value(metric: Metric, reason: str) -> Score:
    return Score(metric.value, None, n_tokens=0, reason=reason)
