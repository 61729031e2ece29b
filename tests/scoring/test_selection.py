"""The best explanation is chosen on the calibration split, and scored on another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from neuron_explainer.errors import CannotSimulate
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.scale import ActivationScale, CalibrationKind
from neuron_explainer.records.score import ABSOLUTE_DEV_EXPLAINED, EXPLAINED_VARIANCE
from neuron_explainer.records.simulation import SequenceSimulation
from neuron_explainer.records.splits import Split, split_records
from neuron_explainer.scoring.metrics import correlation
from neuron_explainer.scoring.selection import rank_explanations
from neuron_explainer.scoring.simulation import SimulationScorer
from tests.scoring.builders import (
    FakeSimulator,
    explanation,
    neuron_record,
    noisy_record,
    truth,
    window,
)

RECORD = noisy_record()


class ByText:
    """Predicts the truth with as much noise as the explanation says."""

    name = "by text"

    def __init__(self) -> None:
        self.seen: list[tuple[str, ...]] = []

    async def simulate(self, explanation: Explanation, tokens: Sequence[str]) -> SequenceSimulation:
        if explanation.text == "nonsense":
            raise CannotSimulate("refused: no")
        self.seen.append(tuple(tokens))
        rng = np.random.default_rng(len(tokens[0]))
        values = [truth(RECORD)[t] + float(explanation.text) * rng.normal() for t in tokens]
        return SequenceSimulation(tuple(tokens), tuple(values), ActivationScale.NEURON)


def claims(*texts: str) -> list[Explanation]:
    return [replace(explanation(), text=text) for text in texts]


def test_the_best_on_calibration_windows_comes_first_and_failures_last() -> None:
    scorer = SimulationScorer(ByText())
    ranked = asyncio.run(rank_explanations(claims("3", "nonsense", "0", "1"), scorer, RECORD))
    assert [candidate.explanation.text for candidate in ranked] == ["0", "1", "3", "nonsense"]
    assert ranked[0].score.value == pytest.approx(1.0)
    assert (ranked[-1].score.value, ranked[-1].score.reason) == (None, "refused: no")


def test_the_choice_sees_none_of_the_windows_that_are_scored() -> None:
    simulator = ByText()
    asyncio.run(rank_explanations(claims("1", "2"), SimulationScorer(simulator), RECORD))
    calibration = split_records(RECORD, Split.CALIBRATION)
    allowed = {window.tokens for window in (*calibration.top, *calibration.random)}
    assert set(simulator.seen) == allowed


def test_a_selection_score_is_the_correlation_over_the_calibration_windows() -> None:
    rng = np.random.default_rng(1)
    guess = {token: value + rng.normal() for token, value in truth(RECORD).items()}
    score = asyncio.run(
        SimulationScorer(FakeSimulator(guess)).selection_score(explanation(), RECORD)
    )
    split = split_records(RECORD, Split.CALIBRATION)
    tokens = [token for w in (*split.top, *split.random) for token in w.tokens]
    real = np.array([truth(RECORD)[token] for token in tokens])
    simulated = np.array([guess[token] for token in tokens])
    assert score.value == pytest.approx(correlation(real, simulated))
    assert score.n_tokens == len(tokens)


def test_a_unit_that_cannot_be_scored_has_no_selection_score_either() -> None:
    silent = neuron_record([window([-1.0] * 4)] * 20, [window([-2.0] * 4)] * 15)
    few = noisy_record(n_random=2)
    for record, reason in ((silent, "dead unit"), (few, "too few windows")):
        score = asyncio.run(SimulationScorer(ByText()).selection_score(explanation(), record))
        assert score.value is None
        assert score.reason is not None
        assert score.reason.startswith(reason)


def test_without_calibration_normalized_predictions_are_taken_relative_to_the_maximum() -> None:
    by_token = truth(RECORD)
    normalized = {token: 10 * value / RECORD.max_activation for token, value in by_token.items()}
    simulator = FakeSimulator(normalized, ActivationScale.NORMALIZED)
    scorer = SimulationScorer(simulator, calibration=CalibrationKind.NONE)
    scores = asyncio.run(scorer.score(explanation(), RECORD)).scores
    assert scores[EXPLAINED_VARIANCE].value == pytest.approx(1.0)
    assert scores[ABSOLUTE_DEV_EXPLAINED].value == pytest.approx(1.0)


def test_percentile_matching_undoes_a_curve_that_a_line_cannot() -> None:
    bent = {token: float(np.exp(2 * value)) for token, value in truth(RECORD).items()}
    by_kind = {
        kind: asyncio.run(
            SimulationScorer(FakeSimulator(bent), calibration=kind).score(explanation(), RECORD)
        ).scores
        for kind in CalibrationKind
    }
    explained = {kind: scores[EXPLAINED_VARIANCE].value or 0 for kind, scores in by_kind.items()}
    assert explained[CalibrationKind.PERCENTILE] > 0.9
    assert explained[CalibrationKind.LINEAR] < 0.8
    assert len({scores["top_and_random"] for scores in by_kind.values()}) == 1
