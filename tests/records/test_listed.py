"""An explanation of a list says what it can hold, and how two are compared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from neuron_explainer.records.listed import (
    MAX_INDEX,
    ListedExplanation,
    ListedScore,
    Polarity,
    plain_claim,
)
from neuron_explainer.records.neuron import NeuronId
from tests.listed import FULL, PLAIN


@pytest.mark.parametrize(
    "text",
    ["rivers", " rivers.", "“rivers.”", "'rivers'", '"rivers" .', "\trivers...\n"],
)
def test_claims_are_compared_without_what_is_around_them(text: str) -> None:
    assert plain_claim(text) == "rivers"


def test_what_is_inside_a_claim_stays() -> None:
    assert plain_claim('U.S. "states" in use') == 'U.S. "states" in use'


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_is_a_number(value: float) -> None:
    with pytest.raises(ValueError, match="is not a score"):
        ListedScore(value)


@pytest.mark.parametrize("index", [-1, MAX_INDEX + 1])
def test_numbers_of_units_are_those_that_every_store_can_hold(index: int) -> None:
    with pytest.raises(ValueError, match="is not a neuron_index"):
        ListedExplanation(NeuronId(0, index), "rivers", "list")


@pytest.mark.parametrize("text", ["", " \n", "a\0b", "half \ud83d"])
def test_a_text_that_says_nothing_or_cannot_be_stored_is_none(text: str) -> None:
    with pytest.raises(ValueError):
        replace(PLAIN, text=text)
    with pytest.raises(ValueError):
        replace(PLAIN, model=text)


@pytest.mark.parametrize(
    "change",
    [
        {"neuron_id": NeuronId(6236, 9)},
        {"text": "rivers"},
        {"source": "another"},
        {"model": None},
        {"site": "mlp"},
        {"polarity": Polarity.POSITIVE},
        {"explainer": "gpt-4", "explainer_model": "summary"},
    ],
)
def test_the_digest_tells_claims_apart(change: dict[str, object]) -> None:
    assert replace(FULL, **change).digest() != FULL.digest()  # type: ignore[arg-type]


def test_scores_do_not_change_the_digest() -> None:
    assert replace(FULL, scores=()).digest() == FULL.digest()
