"""Distilled: the tokens as they are, each read behind its last id."""

from __future__ import annotations

import pytest

from neuron_explainer.errors import CannotSimulate, Refused
from neuron_explainer.llm.messages import ExpectedValues, PromptLogprobRequest
from neuron_explainer.simulators.distilled import DistilledSimulator
from tests.fakes import FakeClient
from tests.simulators.examples import NASTY, ReadablePieces, simulate

HEAD = "## Neuron Description: numbers and nothing else\n\n ## Input: "


def ask(tokenizer: ReadablePieces, tokens, expected=None):
    def answer(request: PromptLogprobRequest) -> ExpectedValues:
        return ExpectedValues(expected or tuple(map(float, range(len(request.positions)))), None)

    client: FakeClient[PromptLogprobRequest, ExpectedValues] = FakeClient(answer)
    simulator = DistilledSimulator(
        client, tokenizer, model="m", model_label="hf:m", n_context_tokens=500
    )
    return simulate(simulator, tokens), client.requests


@pytest.mark.parametrize("start", [(), (1,)])
def test_each_token_is_read_behind_its_last_id(start: tuple[int, ...]) -> None:
    tokenizer = ReadablePieces(".", start=start)
    _, (request,) = ask(tokenizer, NASTY)
    whole = [*request.prefix, *request.ids]
    assert whole[: len(start)] == list(start)
    assert len(request.prefix) == 1  # never empty
    assert "".join(tokenizer.read(whole[len(start) :])) == HEAD + "".join(NASTY)
    for n, place in enumerate(request.positions, start=1):
        text = "".join(tokenizer.read([*request.prefix, *request.ids[:place]][len(start) :]))
        assert text == HEAD + "".join(NASTY[:n])
    assert request.positions[-1] == len(request.ids)
    assert request.values == tuple((row,) for row in range(11))


def test_a_token_without_an_id_is_missing_and_the_others_keep_their_places() -> None:
    simulation, (request,) = ask(ReadablePieces(), ["a", "", " b"])
    assert len(request.positions) == 2
    assert simulation.expected_activations == (0.0, None, 1.0)


def test_a_prompt_that_does_not_fit_says_so() -> None:
    with pytest.raises(CannotSimulate, match="prompt too long"):
        ask(ReadablePieces(), ["a"] * 600)


def test_a_refused_window_is_missing() -> None:
    simulator = DistilledSimulator(
        FakeClient([Refused("no")]), ReadablePieces(), model="m", model_label="hf:m",
        n_context_tokens=500,
    )  # fmt: skip
    assert simulator.name == "distilled hf:m"
    assert simulate(simulator, ["a", "b"]).expected_activations == (None, None)
