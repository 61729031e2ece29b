"""All at once: the places that are asked for, the shared prefix, and what fits a context."""

from __future__ import annotations

import logging

import pytest

from neuron_explainer.errors import CannotSimulate, RateLimited, Refused, UsageError
from neuron_explainer.llm.client import PieceTokenizer
from neuron_explainer.llm.messages import ExpectedValues, PromptLogprobRequest
from neuron_explainer.llm.pieces import HfPieceTokenizer
from neuron_explainer.prompts.few_shot import read_few_shot_set
from neuron_explainer.prompts.simulate import prefix_pieces, window_pieces
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.simulators.all_at_once import AllAtOnceSimulator
from neuron_explainer.subject.token_display import display_strings
from tests.fakes import FakeClient
from tests.simulators.examples import EXPLANATION, FEW_SHOT, NASTY, ReadablePieces, simulate
from tests.tiny_tokenizers import KINDS, wrapped

VALUES = tuple((900 + v,) for v in range(11))
PATTERNS = {"words": r"\s?\w+|\s|[^\w\s]", "characters": r"."}


def answer_by_place(request: PromptLogprobRequest) -> ExpectedValues:
    """The n-th place gets n; a window has at most eleven tokens then."""
    expected = tuple(float(n % 11) for n in range(len(request.positions)))
    return ExpectedValues(expected, usage=None)


def make(
    tokenizer: PieceTokenizer, answer=answer_by_place, **options
) -> tuple[AllAtOnceSimulator, FakeClient[PromptLogprobRequest, ExpectedValues]]:
    client: FakeClient[PromptLogprobRequest, ExpectedValues] = FakeClient(answer)
    given = {"few_shot": FEW_SHOT, "n_context_tokens": 10_000, "n_window_tokens": 64} | options
    simulator = AllAtOnceSimulator(
        client, tokenizer, model="m", model_label="hf:m", values=VALUES, end=7, **given
    )
    return simulator, client


@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_asked_place_is_the_first_id_of_its_tokens_unknown(pattern: str) -> None:
    tokenizer = ReadablePieces(PATTERNS[pattern])
    simulator, client = make(tokenizer)
    simulate(simulator, NASTY, "the word unknown")
    (request,) = client.requests
    first, *_ = tokenizer.encode(["unknown"])[0]
    assert len(request.positions) == len(NASTY)
    assert all(request.ids[place] == first for place in request.positions)
    pieces, asked = window_pieces("the word unknown", NASTY)
    for place, index in zip(request.positions, asked, strict=True):
        assert "".join(tokenizer.read(request.ids[:place])) == "".join(pieces[:index])


@pytest.mark.parametrize("kind", KINDS)
def test_the_places_are_right_with_every_kind_of_tokenizer(kind: str) -> None:
    """What precedes a place is read back with the tokenizer: the lines so far, and a tab."""
    backend = wrapped(kind).backend_tokenizer
    simulator, client = make(HfPieceTokenizer(wrapped(kind)))
    simulate(simulator, NASTY)
    (request,) = client.requests
    strings = display_strings(backend)
    before = ["".join(strings[i] for i in request.ids[:place]) for place in request.positions]
    first = HfPieceTokenizer(wrapped(kind)).encode(["unknown"])[0][0]
    assert {request.ids[place] for place in request.positions} == {first}
    assert all(text.endswith(("\t", "<0x09>")) for text in before)
    line_breaks = [text.count("\n") + text.count("<0x0A>") for text in before]
    assert [n - line_breaks[0] for n in line_breaks] == list(range(len(NASTY)))


def test_the_prompt_is_the_start_the_examples_and_the_window() -> None:
    tokenizer = ReadablePieces(start=(1,))
    simulator, client = make(tokenizer)
    simulate(simulator, ["0", " 1"])
    (request,) = client.requests
    assert request.prefix[0] == 1
    text = "".join(tokenizer.read([*request.prefix[1:], *request.ids]))
    expected = [*prefix_pieces(FEW_SHOT), *window_pieces(EXPLANATION, ["0", " 1"]).pieces]
    assert text == "".join(expected)
    assert (request.model, request.values, request.end) == ("m", VALUES, 7)


def test_all_units_and_windows_share_the_prefix() -> None:
    simulator, client = make(ReadablePieces())
    simulate(simulator, ["0"], "one thing")
    simulate(simulator, ["a", "b", "c"], "quite another thing")
    first, second = client.requests
    assert first.prefix == second.prefix


def test_predictions_are_normalized_and_none_where_the_server_named_no_value(caplog) -> None:
    caplog.set_level(logging.DEBUG, logger="neuron_explainer.simulators.answers")
    simulator, _ = make(ReadablePieces(), [ExpectedValues((0.5, None, 9.0), None)])
    simulation = simulate(simulator, ["a", "b", "c"])
    assert simulation.tokens == ("a", "b", "c")
    assert simulation.expected_activations == (0.5, None, 9.0)
    assert simulation.scale is ActivationScale.NORMALIZED
    assert "1 of 3 tokens are missing" in caplog.text


def test_a_refused_window_is_missing_and_other_errors_are_raised(caplog) -> None:
    caplog.set_level(logging.DEBUG, logger="neuron_explainer.simulators.answers")
    simulator, _ = make(ReadablePieces(), [Refused("a filter"), RateLimited("slow down")])
    assert simulate(simulator, ["a", "b"]).expected_activations == (None, None)
    assert "2 of 2 tokens are missing: refused: a filter" in caplog.text
    with pytest.raises(RateLimited):
        simulate(simulator, ["a"])


def test_the_name_is_that_of_the_method_and_the_model() -> None:
    assert make(ReadablePieces())[0].name == "all_at_once hf:m"


def test_smaller_contexts_hold_fewer_examples_and_every_window_fits() -> None:
    few_shot = read_few_shot_set()
    window = [token for token, _ in zip(_tokens_of(few_shot), range(64), strict=False)]
    n_shown = []
    for n_context_tokens in range(2600, 300, -50):
        try:
            simulator, client = make(
                ReadablePieces(), few_shot=few_shot, n_context_tokens=n_context_tokens
            )
        except UsageError as error:
            assert str(n_context_tokens) in str(error)
            n_shown.append(0)
            continue
        n_shown.append(sum(len(neuron.records) for neuron in simulator.few_shot))
        simulate(simulator, window, "one thing " * 40)
        (request,) = client.requests
        assert len(request.prefix) + len(request.ids) <= n_context_tokens
    assert n_shown == sorted(n_shown, reverse=True)
    assert n_shown[0] == sum(len(neuron.records) for neuron in few_shot)
    assert n_shown[-1] == 0
    assert 1 in n_shown


def test_a_prompt_that_does_not_fit_says_so() -> None:
    simulator, client = make(ReadablePieces(), n_context_tokens=1000)
    with pytest.raises(CannotSimulate, match=r"prompt too long: \d+ tokens in a context of 1000"):
        simulate(simulator, ["a"] * 400)
    assert client.requests == []


def _tokens_of(few_shot):
    return [token for neuron in few_shot for record in neuron.records for token in record.tokens]
