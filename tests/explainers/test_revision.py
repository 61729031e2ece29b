"""What the two models of a revision are asked, and what becomes of answers that are none."""

from __future__ import annotations

import asyncio

import pytest

from neuron_explainer.errors import (
    BudgetExceeded,
    CannotExplain,
    NeuronExplainerError,
    Refused,
    ServerFailed,
)
from neuron_explainer.explainers.revision import AskedModel, NewEvidence, Reviser, SentenceWriter
from neuron_explainer.llm.messages import Completion, CompletionRequest
from neuron_explainer.prompts.revise import (
    REVISION_VERSION,
    NewTexts,
    mark_active,
    revision_messages,
    sentence_messages,
)
from neuron_explainer.records.explanation import Explanation
from tests.fakes import FakeClient, completion
from tests.scoring.builders import NEURON_ID, explanation, lookup_table, window

OLD = Explanation(NEURON_ID, "names of rivers", "token_activation", rule=lookup_table({}))
EVIDENCE = (window([0, 1, 2], "train"),)
NEW = NewEvidence((window([2, 0], "new"), window([0.1, 0], "quiet")), NewTexts.WRITTEN)


def write(*replies: Completion | Exception, n_sentences: int = 3) -> tuple[str, ...]:
    client = FakeClient[CompletionRequest, Completion](replies)
    writer = SentenceWriter(AskedModel(client, "m", "openai:m", max_tokens=77, temperature=None))
    try:
        return asyncio.run(writer.write(OLD, n_sentences))
    finally:
        (request,) = client.requests
        assert request == CompletionRequest("m", sentence_messages(OLD.text, n_sentences), 77)


def revise(*replies: Completion | Exception) -> Explanation:
    client = FakeClient[CompletionRequest, Completion](replies)
    reviser = Reviser(AskedModel(client, "m", "openai:m", reasoning_effort="low"))
    try:
        return asyncio.run(reviser.revise(OLD, EVIDENCE, NEW, 2.0))
    finally:
        (request,) = client.requests
        shown = [mark_active(record, 2.0) for record in NEW.records]
        assert request.messages == revision_messages(
            OLD.text, [mark_active(EVIDENCE[0], 2.0)], shown, NewTexts.WRITTEN
        )
        assert (request.reasoning_effort, request.temperature) == ("low", 0.0)


def test_sentences_come_as_they_were_written() -> None:
    answer = completion("<answer>The Rhine.</answer>\n<answer>The Elbe.</answer>")
    assert write(answer) == ("The Rhine.", "The Elbe.")


def test_a_revised_explanation_names_what_made_it_and_has_no_rule() -> None:
    revised = revise(completion("<answer>rivers of Europe</answer>"))
    assert revised == Explanation(
        NEURON_ID, "rivers of Europe", "revision", "openai:m", REVISION_VERSION
    )
    assert revised.rule is None


def test_a_cut_answer_is_read_as_one() -> None:
    whole = completion("<answer>The Rhine.</answer> <answer>The")
    cut = Completion(whole.text, "m", "length", None, None)
    assert write(cut) == ("The Rhine.",)
    with pytest.raises(CannotExplain, match="unreadable revision"):
        revise(Completion("<answer>rivers of", "m", "length", None, None))


@pytest.mark.parametrize(
    ("reply", "sentences", "revision"),
    [
        (completion("no"), "unreadable test sentences: no sentence", None),
        (completion("I cannot tell."), "unreadable test sentences", "unreadable revision: no expl"),
        (Refused("not this"), "test sentences refused: not this", "revision refused: not this"),
    ],
)
def test_an_answer_that_is_none_is_a_reason(
    reply: Completion | Exception, sentences: str, revision: str | None
) -> None:
    with pytest.raises(CannotExplain, match=sentences):
        write(reply)
    if revision is not None:
        with pytest.raises(CannotExplain, match=revision):
            revise(reply)


@pytest.mark.parametrize("error", [ServerFailed("gone"), BudgetExceeded(1.0, 1.0)])
def test_what_is_no_answer_at_all_goes_up(error: NeuronExplainerError) -> None:
    for ask in (write, revise):
        with pytest.raises(type(error)):
            ask(error)


def test_the_same_case_is_asked_in_the_same_words() -> None:
    """So that a kept answer is found again."""
    client = FakeClient[CompletionRequest, Completion](lambda _: completion("<answer>a</answer>"))
    reviser = Reviser(AskedModel(client, "m", "openai:m"))
    for _ in range(2):
        asyncio.run(reviser.revise(explanation(), EVIDENCE, NEW, 2.0))
    assert len({request.key() for request in client.requests}) == 1
