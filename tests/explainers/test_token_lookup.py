"""The table's words name its best frequent tokens, and nothing is claimed of a dead unit."""

from __future__ import annotations

import asyncio
import random

import pytest

from neuron_explainer.errors import CannotExplain
from neuron_explainer.explainers.base import Explainer
from neuron_explainer.explainers.token_lookup import (
    MAX_NAMED,
    MIN_COUNT,
    MIN_SHARE_OF_BEST,
    TokenLookupExplainer,
    describe,
)
from neuron_explainer.records.explanation import Explanation, TokenLookupTable
from neuron_explainer.records.neuron import NeuronId, NeuronRecord
from tests.scoring.builders import NEURON_ID, neuron_record, window

MEANS = {" two": 4.0, " half": 3.0, " twice": 2.0, " the": 0.1, ",": -0.2}


def table(means: dict[str, float], counts: dict[str, int] | None = None) -> TokenLookupTable:
    return TokenLookupTable(means, {**dict.fromkeys(means, 100), **(counts or {})}, default=0.5)


def explain(record: NeuronRecord, found: TokenLookupTable) -> Explanation:
    asked: list[NeuronId] = []

    def read_table(neuron_id: NeuronId) -> TokenLookupTable:
        asked.append(neuron_id)
        return found

    explainer: Explainer = TokenLookupExplainer(read_table)
    (explanation,) = asyncio.run(explainer.explain(record))
    assert asked == [record.neuron_id]
    return explanation


def test_the_best_tokens_are_named_best_first_and_weak_ones_are_not() -> None:
    assert describe(table(MEANS)) == "tokens such as “two”, “half”, “twice”"


def test_the_words_do_not_depend_on_the_order_of_the_table() -> None:
    means = {**MEANS, " b": 3.0, " a": 3.0}
    rows = list(means.items())
    texts = {
        describe(table(dict(random.Random(seed).sample(rows, len(rows))))) for seed in range(20)
    }
    assert texts == {"tokens such as “two”, “a”, “b”, “half”, “twice”"}


def test_scaling_a_unit_does_not_change_its_words() -> None:
    scaled = {token: 1000 * mean for token, mean in MEANS.items()}
    assert describe(table(scaled)) == describe(table(MEANS))


def test_a_rare_token_is_not_named_however_large_its_mean() -> None:
    rare = {" zyx": MIN_COUNT - 1}
    assert describe(table({**MEANS, " zyx": 9.0}, rare)) == describe(table(MEANS))
    assert "“zyx”" in describe(table({**MEANS, " zyx": 9.0}, {" zyx": MIN_COUNT}))


def test_rare_tokens_are_named_when_there_are_only_rare_ones() -> None:
    assert describe(table({" a": 2.0, " b": -1.0}, {" a": 1})) == "tokens such as “a”"


@pytest.mark.parametrize(("share", "is_named"), [(1.01, True), (1.0, True), (0.99, False)])
def test_a_token_is_named_from_its_share_of_the_best_on(share: float, is_named: bool) -> None:
    text = describe(table({" best": 1.0, " weak": MIN_SHARE_OF_BEST * share}))
    assert ("“weak”" in text) == is_named


def test_no_more_than_a_few_are_named_and_they_are_the_best() -> None:
    text = describe(table({f" t{i:02d}": 2 - i / 100 for i in range(50)}))
    assert text == "tokens such as " + ", ".join(f"“t{i:02d}”" for i in range(MAX_NAMED))


def test_a_word_is_named_once_with_and_without_its_space() -> None:
    assert describe(table({" two": 2.0, "two": 1.9, " half": 1.5})) == (
        "tokens such as “two”, “half”"
    )


def test_a_piece_inside_a_word_is_told_from_a_word() -> None:
    means = {"ites": 3.0, " Will": 2.9, "Will": 2.8, "ing": 2.7, " ing": 2.6, "(": 2.5}
    assert describe(table(means)) == "tokens such as “…ites”, “Will”, “ing”, “(”"


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (" ", "a space"),
        ("    ", "several spaces"),
        ("\t", "a tab"),
        ("\n", "a line break"),
        ("\n    ", "a line break and indentation"),
        ("\n\n", "an empty line"),
    ],
)
def test_white_space_is_named_in_words(token: str, words: str) -> None:
    assert describe(table({token: 5.0, " a": 4.0})) == f"tokens such as {words}, “a”"


@pytest.mark.parametrize("means", [{}, {"a": 0.0}, {"a": -1.0, "b": 0.0}])
def test_without_a_positive_mean_there_is_a_reason_and_no_text(means: dict[str, float]) -> None:
    with pytest.raises(CannotExplain, match="no token has a positive mean activation"):
        describe(table(means))


def test_the_explanation_carries_the_table_it_was_made_from() -> None:
    found = table(MEANS)
    explanation = explain(neuron_record([window([1.0, -0.1])], []), found)
    assert explanation == Explanation(NEURON_ID, describe(found), "token_lookup")
    assert explanation.rule is found


@pytest.mark.parametrize("largest", [0.0, -0.1])
def test_nothing_is_claimed_of_a_unit_that_is_never_active(largest: float) -> None:
    def read_table(_neuron_id: NeuronId) -> TokenLookupTable:
        raise AssertionError("not needed")

    record = neuron_record([window([-0.2, largest])], [])
    with pytest.raises(CannotExplain, match="dead unit: ") as raised:
        asyncio.run(TokenLookupExplainer(read_table).explain(record))
    assert raised.value.reason == str(raised.value)
