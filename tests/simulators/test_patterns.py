"""The pattern simulator reads the trie behind an explanation, and asks for one."""

from __future__ import annotations

import asyncio

import pytest

from neuron_explainer.errors import CannotSimulate
from neuron_explainer.records.explanation import Explanation, Rule
from neuron_explainer.records.patterns import ContextMeans, PatternTrie
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.simulation import SequenceSimulation
from neuron_explainer.simulators.base import Simulator
from neuron_explainer.simulators.patterns import PatternSimulator
from tests.scoring.builders import NEURON_ID, lookup_table

SIMULATOR: Simulator = PatternSimulator()
TRIE = PatternTrie(
    lookup_table({" two": 3.0, " half": 2.0}, default=-0.1),
    contexts=ContextMeans({(" two", " half"): 5.0}, {" two": 0.5}, by_place=(0.25,)),
)


def simulate(tokens: list[str], rule: Rule | None = TRIE) -> SequenceSimulation:
    explanation = Explanation(NEURON_ID, "made up", explainer="patterns", rule=rule)
    return asyncio.run(SIMULATOR.simulate(explanation, tokens))


def test_each_token_is_predicted_by_its_context_and_backs_off_to_the_table() -> None:
    assert simulate([" half", " two", " half", " half", " two", "x"]) == SequenceSimulation(
        tokens=(" half", " two", " half", " half", " two", "x"),
        expected_activations=(2.25, 3.0, 5.0, 2.0, 3.0, 0.4),
        scale=ActivationScale.NEURON,
    )


def test_nothing_is_missing_of_a_text_of_unknown_tokens() -> None:
    assert simulate(["a", "b"]).expected_activations == (0.15, -0.1)
    assert simulate([]).expected_activations == ()


@pytest.mark.parametrize("rule", [None, TRIE.table])
def test_an_explanation_without_patterns_cannot_be_simulated(rule: Rule | None) -> None:
    with pytest.raises(
        CannotSimulate, match="no patterns behind the patterns explanation"
    ) as found:
        simulate(["a"], rule)
    assert found.value.reason == str(found.value)
