"""Windows and sentences are one list of tokens, and what is missing is never a number."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from neuron_explainer.errors import CannotSimulate
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import ActivationRecord
from neuron_explainer.records.score import Score, ScoredWindow
from neuron_explainer.records.simulation import SequenceSimulation
from neuron_explainer.scoring.metrics import correlation
from neuron_explainer.scoring.on_sentences import score_on_sentences
from neuron_explainer.scoring.simulation import SimulationScorer
from neuron_explainer.simulators.base import Simulator
from tests.scoring.builders import FakeSimulator, explanation, noisy_record, truth, window

RECORD = noisy_record()
SENTENCES = (window([0, 3, 0, 1], "s0"), window([2, 0], "s1"))
PREDICTED = {"s0.0": 1.0, "s0.1": 4.0, "s0.2": 0.0, "s0.3": 0.0, "s1.0": 1.0, "s1.1": -1.0}


class Unable:
    name = "unable"

    async def simulate(self, explanation: Explanation, tokens: Sequence[str]) -> SequenceSimulation:
        raise CannotSimulate(f"no rule: {explanation.text} on {len(tokens)} tokens")


def score(
    simulator: Simulator,
    sentences: Sequence[ActivationRecord] = SENTENCES,
    windows: Sequence[ScoredWindow] = (),
    max_missing_share: float = 0.1,
) -> Score:
    return asyncio.run(
        score_on_sentences(simulator, explanation(), sentences, windows, max_missing_share)
    )


def test_the_sentences_alone_are_one_correlation_over_all_their_tokens() -> None:
    found = score(FakeSimulator(PREDICTED))
    assert found.value == correlation([0, 3, 0, 1, 2, 0], [1, 4, 0, 0, 1, -1])
    assert (found.metric, found.n_tokens) == ("ev_correlation_score", 6)


def test_with_windows_it_is_one_correlation_over_the_tokens_of_both() -> None:
    simulator = FakeSimulator({**truth(RECORD), **PREDICTED})
    scored = asyncio.run(SimulationScorer(simulator).score(explanation(), RECORD))
    found = score(simulator, windows=scored.windows)
    real = [a for w in scored.windows for a in w.true_activations if a is not None]
    assert found.value == correlation([*real, 0, 3, 0, 1, 2, 0], [*real, 1, 4, 0, 0, 1, -1])
    assert found.n_tokens == len(real) + 6


def test_without_sentences_it_is_the_score_of_the_windows() -> None:
    simulator = FakeSimulator({token: a * a for token, a in truth(RECORD).items()})
    scored = asyncio.run(SimulationScorer(simulator).score(explanation(), RECORD))
    assert score(simulator, (), scored.windows).value == pytest.approx(scored.score.value)


def test_a_position_that_does_not_count_plays_no_part() -> None:
    masked = ActivationRecord(("s0.0", "s0.1", "s0.2", "s0.3"), (None, 3.0, 0.0, 1.0))
    found = score(FakeSimulator(PREDICTED), [masked])
    assert found.value == correlation([3, 0, 1], [4, 0, 0])


def test_missing_predictions_are_left_out_up_to_the_share_that_is_allowed() -> None:
    simulator = FakeSimulator({**PREDICTED, "s0.3": None})
    found = score(simulator, max_missing_share=0.2)
    assert found.value == correlation([0, 3, 0, 2, 0], [1, 4, 0, 1, -1])
    assert found.n_tokens == 5
    assert score(simulator).reason == "too many missing predictions: 1 of 6 scored tokens"


@pytest.mark.parametrize(
    ("simulator", "reason"),
    [
        (Unable(), "no rule: made up on 4 tokens"),
        (FakeSimulator({}), "constant prediction"),
        (FakeSimulator(dict.fromkeys(PREDICTED)), "too many missing predictions: 6 of 6"),
    ],
)
def test_what_has_no_value_says_why(simulator: Simulator, reason: str) -> None:
    found = score(simulator)
    assert found.value is None
    assert found.reason is not None
    assert found.reason.startswith(reason)


def test_no_sentence_and_no_window_is_no_score() -> None:
    assert score(FakeSimulator(PREDICTED), ()).reason == "too few tokens"
