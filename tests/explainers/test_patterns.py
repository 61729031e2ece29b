"""The pattern explainer puts what was found of a unit into words, and a trie behind them."""

from __future__ import annotations

import asyncio

import pytest

from neuron_explainer.errors import CannotExplain
from neuron_explainer.explainers.base import Explainer
from neuron_explainer.explainers.pattern_words import describe_patterns
from neuron_explainer.explainers.patterns import PatternExplainer
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId, NeuronRecord
from neuron_explainer.records.patterns import (
    ContextMeans,
    FoundPatterns,
    Pattern,
    PatternTrie,
)
from tests.scoring.builders import NEURON_ID, lookup_table, neuron_record, window

TABLE = lookup_table({" of": 0.5})
CONTEXTS = ContextMeans({("x", " of"): 2.0}, {"x": 0.5})
FOUND = FoundPatterns(
    (
        Pattern(
            sets=(frozenset([" University"]), frozenset([" of"])), activation=5.0, n_matches=3,
            share=0.75, precision=1.0, seed=(" University", " of"),
        ),
    ),
    n_tokens=400,
    is_cut_short=False,
)  # fmt: skip
NOTHING = FoundPatterns((), 0, is_cut_short=False)


def explain(record: NeuronRecord, found: FoundPatterns = FOUND) -> Explanation:
    asked: list[NeuronId] = []

    def read_patterns(neuron_id: NeuronId) -> FoundPatterns:
        asked.append(neuron_id)
        return found

    explainer: Explainer = PatternExplainer(lambda _: TABLE, read_patterns, lambda _: CONTEXTS)
    (explanation,) = asyncio.run(explainer.explain(record))
    assert asked == [record.neuron_id]
    return explanation


def test_the_words_are_of_the_patterns_and_the_rule_is_of_all_that_is_known() -> None:
    explanation = explain(neuron_record([window([5.0, -0.1])], []))
    assert explanation == Explanation(NEURON_ID, describe_patterns(FOUND), "patterns")
    assert explanation.text == "“of” after “University” (75%)"
    assert explanation.rule == PatternTrie(TABLE, FOUND.patterns, CONTEXTS)


def test_a_unit_without_patterns_is_not_explained_and_the_reason_is_said() -> None:
    with pytest.raises(CannotExplain, match="no pattern found: "):
        explain(neuron_record([window([1.0])], []), NOTHING)


@pytest.mark.parametrize("largest", [0.0, -0.1])
def test_nothing_is_claimed_of_a_unit_that_is_never_active(largest: float) -> None:
    with pytest.raises(CannotExplain, match="dead unit: "):
        explain(neuron_record([window([-0.2, largest])], []), FOUND)
