"""The simulators' prompts: every word of each, and the places that are asked for."""

from __future__ import annotations

import json

import pytest

from neuron_explainer.llm.messages import Message
from neuron_explainer.prompts import (
    simulate,
    simulate_distilled,
    simulate_json,
    simulate_lines,
    simulate_one,
)
from neuron_explainer.prompts.few_shot import read_few_shot_set
from neuron_explainer.prompts.simulate import TASK, prefix_pieces, window_pieces
from neuron_explainer.prompts.simulate_distilled import description_piece
from neuron_explainer.prompts.simulate_json import SCHEMA, structured_messages
from neuron_explainer.prompts.simulate_lines import parse_lines, streaming_messages
from neuron_explainer.prompts.simulate_one import messages_for_token
from tests.simulators.examples import EXPLANATION, FEW_SHOT, NASTY

ALL_AT_ONCE = """\
Each neuron of a language model looks for one thing in a text and becomes active on the tokens \
where it finds it. Of every neuron below there is an explanation of what it looks for, then texts \
with one token a line: the token, a tab, and how active the neuron is on it, a whole number from 0 \
(not at all) to 10 (as much as ever). Most tokens have 0. Where nobody has looked up the number, \
it says unknown. Line breaks and tabs inside a token are written \\n and \\t.

Neuron 1
Explanation of neuron 1: vowels
Activations:
<start>
a→10
b→0
c→0
<end>
<start>
d→unknown
e→10
\\n→0
<end>

Neuron 2
Explanation of neuron 2: the end of a song
Activations:
<start>
 la→unknown
 la→7
<end>

Neuron 3
Explanation of neuron 3: numbers and nothing else
Activations:
<start>
0→unknown
 1→unknown
\\n→unknown"""

ONE_AT_A_TIME = """\
[system]
Each neuron of a language model looks for one thing in a text and becomes active on the tokens \
where it finds it. You are given the explanation of a neuron, a text, and the last token of that \
text. Predict how active the neuron is on this last token, as a whole number from 0 (not at all) \
to 10 (as much as ever). Most tokens have 0. The text before it is there for its meaning alone. \
Answer with the number and nothing else.
[user]
Neuron 1
Explanation of neuron 1: vowels
Text:
a
Last token of the text:
a
[assistant]
10
[user]
Neuron 1
Explanation of neuron 1: vowels
Text:
abc
Last token of the text:
c
[assistant]
0
[user]
Neuron 2
Explanation of neuron 2: the end of a song
Text:
 la
Last token of the text:
 la
[assistant]
0
[user]
Neuron 2
Explanation of neuron 2: the end of a song
Text:
 la la
Last token of the text:
 la
[assistant]
7
[user]
Neuron 3
Explanation of neuron 3: numbers and nothing else
Text:
0 1

Last token of the text:
\\n"""

ROLE = """\
[system]
Each neuron of a language model looks for one thing in a text and becomes active on the tokens \
where it finds it. You are given the explanation of a neuron and a text, one token a line with its \
number before it. Line breaks and tabs inside a token are written \\n and \\t. Predict how active \
the neuron is on every token, as a whole number from 0 (not at all) to 10 (as much as ever). Most \
tokens have 0. """
QUESTIONS = """
[user]
Neuron 1
Explanation of neuron 1: vowels
Tokens:
1→a
2→b
3→c
[assistant]
{}
[user]
Neuron 2
Explanation of neuron 2: the end of a song
Tokens:
1→ la
2→ la
[assistant]
{}
[user]
Neuron 3
Explanation of neuron 3: numbers and nothing else
Tokens:
1→0
2→ 1
3→\\n"""
STREAMING = ROLE + (
    "Answer with one line a token, in order and for all of them: its number, a tab, and the "
    "activation. Write nothing else."
) + QUESTIONS.format("1→10\n2→0\n3→0", "1→0\n2→7")  # fmt: skip
STRUCTURED = ROLE + (
    "Answer in JSON, with one entry a token, in order and for all of them: its number as n, the "
    "token as it is written here, and the activation. Write nothing else."
) + QUESTIONS.format(
    '{"activations":[{"n":1,"token":"a","activation":10},{"n":2,"token":"b","activation":0},'
    '{"n":3,"token":"c","activation":0}]}',
    '{"activations":[{"n":1,"token":" la","activation":0},{"n":2,"token":" la","activation":7}]}',
)  # fmt: skip
TOKENS = ("0", " 1", "\n")


def shown(messages: tuple[Message, ...]) -> str:
    return "\n".join(f"[{m.role}]\n{m.content}" for m in messages).replace("\t", "→")


def test_the_whole_all_at_once_prompt() -> None:
    text = "".join([*prefix_pieces(FEW_SHOT), *window_pieces(EXPLANATION, TOKENS).pieces])
    assert text.replace("\t", "→") == ALL_AT_ONCE


def test_the_whole_one_at_a_time_prompt() -> None:
    assert shown(messages_for_token(FEW_SHOT, EXPLANATION, TOKENS)) == ONE_AT_A_TIME


def test_the_whole_streaming_prompt() -> None:
    assert shown(streaming_messages(FEW_SHOT, EXPLANATION, TOKENS)) == STREAMING


def test_the_whole_structured_prompt() -> None:
    assert shown(structured_messages(FEW_SHOT, EXPLANATION, TOKENS)) == STRUCTURED


def test_the_whole_distilled_prompt() -> None:
    assert description_piece(" vowels ") == "## Neuron Description: vowels\n\n ## Input: "


def test_the_pieces_that_are_asked_for_are_the_unknowns_of_the_window() -> None:
    pieces, asked = window_pieces("the word unknown", NASTY)
    assert len(asked) == len(NASTY)
    assert all(pieces[i] == "unknown" and pieces[i - 1] == "\t" for i in asked)
    lines = "".join(pieces).split("<start>\n")[1].splitlines()
    assert len(lines) == len(NASTY)  # no token breaks its line
    assert all(line.count("\t") == 1 and line.endswith("\tunknown") for line in lines)


def test_the_prefix_is_the_same_for_all_units_and_begins_each_prompt() -> None:
    prefix = prefix_pieces(FEW_SHOT)
    assert prefix[0] == TASK
    assert prefix[-1].endswith("neuron 3:")


@pytest.mark.parametrize("messages_of", [streaming_messages, structured_messages])
def test_only_the_last_message_differs_from_unit_to_unit(messages_of) -> None:
    one, other = messages_of(FEW_SHOT, "x", ("a",)), messages_of(FEW_SHOT, "y", ("b", "c"))
    assert one[:-1] == other[:-1]
    assert one[-1] != other[-1]


def test_a_question_about_a_token_begins_as_the_one_about_the_token_before() -> None:
    before = messages_for_token(FEW_SHOT, EXPLANATION, TOKENS[:2])
    after = messages_for_token(FEW_SHOT, EXPLANATION, TOKENS)
    assert before[:-1] == after[:-1]
    common = before[-1].content.partition("\nLast token")[0]
    assert after[-1].content.startswith(common)
    assert common.endswith("0 1")


def test_the_single_token_examples_have_their_own_explanation() -> None:
    *examples, _ = messages_for_token(FEW_SHOT, EXPLANATION, ("x",))
    assert not any(EXPLANATION in message.content for message in examples)
    users = [message.content for message in examples if message.role == "user"]
    for neuron in FEW_SHOT:
        assert any(f": {neuron.explanation}\n" in text for text in users)


def test_the_examples_of_the_package_show_both_high_and_zero_activations() -> None:
    few_shot = read_few_shot_set()
    answers = [
        int(m.content) for m in messages_for_token(few_shot, "x", ("x",)) if m.role == "assistant"
    ]
    assert 0 in answers
    assert max(answers) >= 7


def test_the_schema_is_strict_and_the_examples_follow_it() -> None:
    entry = json.loads(SCHEMA)["properties"]["activations"]["items"]
    assert entry["additionalProperties"] is False
    assert entry["required"] == list(entry["properties"])
    for message in structured_messages(read_few_shot_set(), "x", ("x",)):
        if message.role == "assistant":
            for found in json.loads(message.content)["activations"]:
                assert list(found) == entry["required"]


def values_of(text: str, n_tokens: int = 3, *, is_cut: bool = False) -> dict[int, int]:
    return {i: line.value for i, line in parse_lines(text, n_tokens, is_cut=is_cut).items()}


LINES = {
    "as asked": ("1\t0\n2\t10\n3\t7", {0: 0, 1: 10, 2: 7}),
    "words around": ("Here it is:\n1\t0\n2\t3\n3\t7\nDone.", {0: 0, 1: 3, 2: 7}),
    "other separators": ("1. 0\n2:  3\n3) 7 \r\n", {0: 0, 1: 3, 2: 7}),
    "a line is missing": ("1\t0\n3\t7\n", {0: 0, 2: 7}),
    "a number twice": ("1\t0\n2\t3\n2\t4\n3\t7\n", {0: 0, 2: 7}),
    "a number no token has": ("0\t3\n1\t0\n4\t9\n", {0: 0}),
    "above ten": ("1\t11\n2\t100\n3\t7", {2: 7}),
    "below zero, a fraction, a word": ("1\t-1\n2\t3.5\n3\tunknown", {}),
    "nothing": ("I cannot do that.", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
def test_lines_that_are_not_as_asked_are_left_out(name: str) -> None:
    text, expected = LINES[name]
    assert values_of(text) == expected


def test_the_last_line_of_an_answer_that_was_cut_off_may_lack_a_digit() -> None:
    assert values_of("1\t0\n2\t1", is_cut=True) == {0: 0}
    assert values_of("1\t0\n2\t1\n", is_cut=True) == {0: 0, 1: 1}
    assert values_of("1\t0\n2\t1", is_cut=False) == {0: 0, 1: 1}


def test_a_line_knows_where_its_value_stands() -> None:
    text = "Look:\n1\t0\n2\t10\n"
    lines = parse_lines(text, 2, is_cut=False)
    assert [text[line.start :].split("\n")[0] for line in lines.values()] == ["0", "10"]


def test_every_prompt_has_a_version_of_its_own() -> None:
    modules = (simulate, simulate_one, simulate_lines, simulate_json, simulate_distilled)
    assert len({module.PROMPT_VERSION for module in modules}) == len(modules)
