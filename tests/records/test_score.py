"""A score is a number or a reason; a prediction may be absent, and is counted."""

from __future__ import annotations

import pytest

from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.score import Score, ScoredSimulation
from neuron_explainer.records.simulation import SequenceSimulation


def test_a_score_has_a_value_or_a_reason() -> None:
    assert Score("m", 0.5, 10).value == 0.5
    assert Score("m", None, 10, reason="constant prediction").reason == "constant prediction"


@pytest.mark.parametrize(("value", "reason"), [(None, None), (0.5, "constant prediction")])
def test_a_score_with_neither_or_both_is_refused(value: float | None, reason: str | None) -> None:
    with pytest.raises(ValueError, match="m: a score has a value or a reason, and not both"):
        Score("m", value, 10, reason=reason)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_not_a_score(value: float) -> None:
    with pytest.raises(ValueError, match="is not a score"):
        Score("m", value, 10)


def test_the_headline_is_the_score_to_report() -> None:
    scores = {"all": Score("m", 0.5, 10), "top": Score("m", 0.9, 5)}
    assert ScoredSimulation("s", "t", scores, (), headline="top").score == scores["top"]


def test_a_simulation_needs_a_prediction_or_a_none_for_each_token() -> None:
    with pytest.raises(ValueError, match="1 predictions for 2 tokens"):
        SequenceSimulation(("a", "b"), (0.5,), ActivationScale.NEURON)


@pytest.mark.parametrize(("predicted", "n_missing"), [((0.0, 1.0), 0), ((None, 0.0), 1)])
def test_missing_predictions_are_counted_and_zeros_are_not_missing(
    predicted: tuple[float | None, ...], n_missing: int
) -> None:
    simulation = SequenceSimulation(("a", "b"), predicted, ActivationScale.NEURON)
    assert simulation.n_missing == n_missing
