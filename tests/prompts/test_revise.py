"""Test sentences and revisions: what is asked word for word, and what is read from the answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from neuron_explainer.errors import ParseError
from neuron_explainer.llm.messages import Message
from neuron_explainer.prompts.revise import (
    NewTexts,
    active_tokens,
    mark_active,
    parse_revision,
    parse_sentences,
    read_revision_examples,
    revision_messages,
    sentence_messages,
)
from neuron_explainer.records.neuron import ActivationRecord

GOLDEN = Path(__file__).parent / "golden"
RECORD = ActivationRecord(
    tokens=("We", " rowed", " up", " the", " river", " Rhine", "\n", "2*3", "  ", "."),
    activations=(0.0, 0.29, -0.5, None, 0.3, 2.0, 0.0, 0.9, 0.5, None),
)


def as_text(messages: Sequence[Message]) -> str:
    return "".join(f"[{message.role}]\n{message.content}\n" for message in messages)


def test_the_whole_prompt_for_test_sentences() -> None:
    messages = sentence_messages("names of rivers", 10)
    assert as_text(messages) == (GOLDEN / "test_sentences.txt").read_text("utf-8")


def test_the_whole_prompt_for_a_revision() -> None:
    quiet = "The river is high."
    messages = revision_messages(
        "names of rivers", [mark_active(RECORD, 1.0)], [quiet], NewTexts.WRITTEN
    )
    assert as_text(messages) == (GOLDEN / "revision.txt").read_text("utf-8")


def test_prompts_of_different_units_begin_alike_up_to_the_last_message() -> None:
    assert sentence_messages("a", 3)[:-1] == sentence_messages("b", 10)[:-1]
    one = revision_messages("a", ["x"], ["y"], NewTexts.WRITTEN)
    assert one[:-1] == revision_messages("b", ["z"], [], NewTexts.RANDOM)[:-1]


def test_the_heading_says_where_the_new_texts_come_from() -> None:
    for source in NewTexts:
        *_, last = revision_messages("a", ["x"], ["y"], source)
        assert [s for s in NewTexts if s in last.content] == [source]


def test_a_window_is_one_line_with_its_active_runs_between_marks() -> None:
    assert mark_active(RECORD, 1.0) == r"We rowed up the **river Rhine**\n**2\*3**  ."


def test_active_white_space_is_marked_too() -> None:
    record = ActivationRecord(("if", "   ", "\n", " x"), (0.0, 1.0, 0.0, 0.0))
    assert mark_active(record, 1.0) == r"if**   **\n x"


def test_a_token_is_marked_from_three_tenths_of_the_units_maximum_on() -> None:
    record = ActivationRecord(("a", "b", "c"), (0.59, 0.6, 20.0))
    assert active_tokens(record, 2.0) == (False, True, True)
    assert active_tokens(record, 2.0, mark_from=10) == (False, False, True)


def test_a_position_that_does_not_count_is_never_marked() -> None:
    record = ActivationRecord((" a", " b"), (None, 1.0))
    assert mark_active(record, 1.0) == "a **b**"


def test_a_unit_that_is_never_positive_marks_nothing() -> None:
    record = ActivationRecord((" a", " b"), (-1.0, 0.0))
    assert active_tokens(record, 0.0) == (False, False)


def test_asterisks_of_the_text_are_not_taken_for_marks() -> None:
    record = ActivationRecord(("**", "kwargs", "**"), (0.0, 0.0, 1.0))
    assert mark_active(record, 1.0) == r"\*\*kwargs**\*\***"


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("<answer>One.</answer>\n<answer>Two.</answer>", ("One.", "Two.")),
        ("Sure!\n1. <answer>One.</answer>\n2. <answer>Two.</answer>\nDone.", ("One.", "Two.")),
        ("<ANSWER> One. </Answer>", ("One.",)),
        ("<answer>One.\n<answer>Two.\n", ("One.", "Two.")),
        ("<answer>One.<answer>Two.<answer>", ("One.", "Two.")),
        ("<answer>\nOne,\n two.\n</answer>", ("One, two.",)),
        ("<answer>“One.”</answer><answer>“One,” he said, “two.”</answer>",
         ("One.", "“One,” he said, “two.”")),
        ("<answer>1. One.</answer><answer>2 is one.</answer>", ("One.", "2 is one.")),
        ("<answer>One.</answer><answer></answer><answer>one.</answer>", ("One.",)),
        ("<think><answer>Or so?</answer></think><answer>One.</answer>", ("One.",)),
        ("<answer>a < b</answer>", ("a < b",)),
        ("<answer>1</answer><answer>2</answer><answer>3</answer><answer>4</answer>",
         ("1", "2", "3")),
    ],
)  # fmt: skip
def test_sentences_are_read_however_they_are_framed(text: str, sentences: tuple[str, ...]) -> None:
    assert parse_sentences(text, 3) == sentences


def test_a_sentence_that_was_cut_off_is_left_out() -> None:
    text = "<answer>One.</answer>\n<answer>Two and"
    assert parse_sentences(text, 3) == ("One.", "Two and")
    assert parse_sentences(text, 3, is_cut=True) == ("One.",)
    with pytest.raises(ParseError):
        parse_sentences("<answer>One and", 3, is_cut=True)


@pytest.mark.parametrize("text", ["", "One. Two.", "<answer> </answer>", "I cannot do that."])
def test_an_answer_without_a_sentence_is_an_error(text: str) -> None:
    with pytest.raises(ParseError, match="no sentence"):
        parse_sentences(text, 3)


@pytest.mark.parametrize(
    "text",
    [
        "<answer>names of rivers</answer>",
        "<answer>“names of rivers.”</answer>",
        "The new texts show that…\n<answer>**names of rivers**</answer>",
        "<answer>rivers</answer> No, better:\n<answer>names of rivers</answer>",
        "<answer>names of\nrivers</answer>",
        "<answer>names of rivers",
        "names of rivers",
        "names of rivers</answer>",
        "<think>Is it <answer>seas</answer>?</think>\nnames of rivers.",
    ],
)
def test_a_revision_is_read_however_it_is_framed(text: str) -> None:
    assert parse_revision(text) == "names of rivers"


@pytest.mark.parametrize(
    "text", ["", "<answer></answer>", "<answer>?</answer>", "I cannot say.", "<think>Hm"]
)
def test_an_answer_without_a_description_is_an_error(text: str) -> None:
    with pytest.raises(ParseError):
        parse_revision(text)


def test_a_description_that_was_cut_off_is_an_error() -> None:
    with pytest.raises(ParseError):
        parse_revision("<answer>names of rivers in", is_cut=True)


def test_the_examples_are_answered_in_the_form_that_is_parsed() -> None:
    answers = [m.content for m in sentence_messages("x", 1) if m.role == "assistant"]
    for answer, example in zip(answers, read_revision_examples().tests, strict=True):
        assert parse_sentences(answer, len(example.sentences)) == example.sentences
    revisions = revision_messages("x", [], [], NewTexts.WRITTEN)
    answers = [m.content for m in revisions if m.role == "assistant"]
    assert [parse_revision(answer) for answer in answers] == [
        example.revised for example in read_revision_examples().revisions
    ]


def test_the_examples_teach_to_narrow_and_to_leave_alone() -> None:
    revisions = read_revision_examples().revisions
    kept = [example.revised == example.explanation for example in revisions]
    assert True in kept and False in kept
    for example, is_kept in zip(revisions, kept, strict=True):
        assert all("**" in text for text in example.evidence)
        assert all("**" in text for text in example.tests) == is_kept
