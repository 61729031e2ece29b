"""The parts of a published score are of the halves of its windows, and of nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from neuron_explainer.pipeline.published_scores import PARTS, score_parts
from neuron_explainer.records.published import (
    PublishedExplanation,
    PublishedSimulation,
    PublishedWindow,
)
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.score import RANDOM_ONLY, TOP_AND_RANDOM, TOP_ONLY
from neuron_explainer.records.simulation import SequenceSimulation

N_TOKENS = 6
SCALE = ActivationScale.NORMALIZED


def window(rng: np.random.Generator, *, is_said: bool = True) -> PublishedWindow:
    real = tuple(rng.normal(size=N_TOKENS).tolist()) if is_said else (None,) * N_TOKENS
    expected = tuple(rng.uniform(0, 10, size=N_TOKENS).tolist())
    simulation = SequenceSimulation((" t",) * N_TOKENS, expected, SCALE)
    return PublishedWindow(PublishedSimulation(simulation), real, None)


def explained(n_windows: int, value: float | None = 0.5) -> PublishedExplanation:
    rng = np.random.default_rng(n_windows)
    return PublishedExplanation(" a text.", tuple(window(rng) for _ in range(n_windows)), value)


def correlation(windows: tuple[PublishedWindow, ...]) -> float:
    real = np.concatenate([one.true_activations for one in windows])
    said = np.concatenate([one.simulation.predicted.expected_activations for one in windows])
    return float(np.corrcoef(real.astype(float), said.astype(float))[0, 1])


@pytest.mark.parametrize("n_a_half", [3, 5, 10])
def test_each_part_is_of_one_half_of_the_windows(n_a_half: int) -> None:
    one = explained(2 * n_a_half)
    scores = score_parts(one)
    assert scores[TOP_AND_RANDOM].value == 0.5
    assert scores[TOP_ONLY].value == pytest.approx(correlation(one.windows[:n_a_half]))
    assert scores[RANDOM_ONLY].value == pytest.approx(correlation(one.windows[n_a_half:]))
    assert scores[TOP_ONLY].n_tokens == n_a_half * N_TOKENS


@pytest.mark.parametrize("n_windows", [0, 1, 9])
def test_without_equal_halves_there_are_no_parts(n_windows: int) -> None:
    assert not set(PARTS) & score_parts(explained(n_windows)).keys()


def test_what_has_no_value_has_a_reason() -> None:
    silent = tuple(window(np.random.default_rng(0), is_said=False) for _ in range(2))
    scores = score_parts(PublishedExplanation(" a text.", silent))
    assert {score.value for score in scores.values()} == {None}
    assert {score.reason for score in scores.values()} == {
        "not in the published file", "too few tokens"
    }  # fmt: skip
