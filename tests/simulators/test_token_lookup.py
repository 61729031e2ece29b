"""The token lookup simulator reads the table behind an explanation, and asks for one."""

from __future__ import annotations

import asyncio

import pytest

from neuron_explainer.errors import CannotSimulate
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.simulation import SequenceSimulation
from neuron_explainer.simulators.base import Simulator
from neuron_explainer.simulators.token_lookup import TokenLookupSimulator
from tests.scoring.builders import explanation, lookup_table

SIMULATOR: Simulator = TokenLookupSimulator()


def simulate(tokens: list[str], default: float = -0.1) -> SequenceSimulation:
    table = lookup_table({" two": 3.0, " half": 2.0}, default)
    return asyncio.run(SIMULATOR.simulate(explanation(table), tokens))


def test_each_token_gets_its_row_or_the_default() -> None:
    assert simulate([" two", " kids", " half", "two"]) == SequenceSimulation(
        tokens=(" two", " kids", " half", "two"),
        expected_activations=(3.0, -0.1, 2.0, -0.1),
        scale=ActivationScale.NEURON,
    )


def test_a_token_is_predicted_alike_wherever_it_stands() -> None:
    forward, backward = simulate([" two", "a", "b"]), simulate(["b", "a", " two"])
    assert forward.expected_activations == backward.expected_activations[::-1]


def test_an_explanation_in_words_alone_cannot_be_simulated() -> None:
    with pytest.raises(CannotSimulate, match="no token lookup table") as raised:
        asyncio.run(SIMULATOR.simulate(explanation(), ["a"]))
    assert raised.value.reason == str(raised.value)
