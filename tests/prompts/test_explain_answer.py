"""What models write becomes one clean line, or an error; never a text that claims nothing."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from neuron_explainer.errors import ParseError
from neuron_explainer.prompts.explain_answer import parse_explanation, parse_list
from neuron_explainer.prompts.explain_examples import read_examples
from neuron_explainer.prompts.explain_kinds import PROMPTS

CLAIM = "names of months in dates"

WRAPPED = {
    "as it is": CLAIM,
    "published form": f" {CLAIM}.",
    "line breaks around": f"\n\n{CLAIM}\n",
    "quotes": f'"{CLAIM}."',
    "quotes, full stop outside": f"“{CLAIM}”.",
    "bold": f"**{CLAIM}**",
    "code": f"`{CLAIM}`",
    "label": f"Explanation: {CLAIM}",
    "bold label": f"**Explanation:** {CLAIM}.",
    "long label": f"Explanation of neuron 5: {CLAIM}",
    "opening": f"Neuron 5 is active on {CLAIM}.",
    "opening and quotes": f'Neuron 5 is active on "{CLAIM}".',
    "other opening": f"This neuron responds to {CLAIM}.",
    "reasons first": f"Based on the activations shown, it seems that neuron 5 detects {CLAIM}.",
    "next-token opening": f"Neuron 5 is active when the next token is one of {CLAIM}",
    "dots": f"… {CLAIM}",
    "announced": f"Sure! Here is the phrase:\n\n{CLAIM}.",
    "heading": f"### Explanation\n\n{CLAIM}",
    "bold heading": f"**Explanation**\n{CLAIM}",
    "rule": f"---\n{CLAIM}\n---",
    "fence": f"```\n{CLAIM}\n```",
    "bullet": f"- {CLAIM}\n- something else",
    "numbered": f"1. {CLAIM}\n2. something else",
    "more lines": f"{CLAIM}\n\nThis is because March and May are active.",
    "base model": f" {CLAIM}\n\nNeuron 6\nActivations:\n<start>\nthe\t0",
    "thoughts": f"<think>\nMarch is 10.\nIs it months?\n</think>\n\n{CLAIM}",
    "thoughts opened in the prompt": f"March is 10.\n</think>\n{CLAIM}",
    "two thoughts": f"<think>a</think><think>b</think>{CLAIM}",
    "capital tags": f"<THINK>hm</THINK> {CLAIM}",
}


@pytest.mark.parametrize("text", WRAPPED.values(), ids=WRAPPED)
def test_the_claim_is_read_whatever_is_put_around_it(text: str) -> None:
    assert parse_explanation(text) == CLAIM


@pytest.mark.parametrize(
    "claim",
    [
        "the word “bank” where it is the edge of a river",
        '"run" and "walk"',
        "words such as “sorry” in apologies",
        "sorry and other apologies",
        "countries abbreviated as U.S. or U.K.",
        "phrases such as “I cannot …”",
        "unknown persons, such as “somebody”",
        "the pronoun I",
        "years from 1990 to 1999",
        "数字",
        "words after `if (x > 0)`",
        "snake_case names",
        "2 * x in formulas",
        "closing tags such as </b>",
    ],
)
def test_a_claim_is_left_as_it_is_and_reading_it_again_changes_nothing(claim: str) -> None:
    assert parse_explanation(claim) == claim
    assert parse_explanation(parse_explanation(f"{claim}\n")) == claim


@pytest.mark.shared_data
def test_every_published_explanation_is_a_claim_and_loses_its_full_stop_alone(
    shared_data: Path,
) -> None:
    folder = shared_data / "published"
    published = json.loads((folder / "gpt2xl_explanations_16517.json").read_text("utf-8"))
    texts = [text for _, _, text, _ in published.values()]
    with (folder / "gpt2xl_reexplained_top20_gpt35.csv").open(encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    texts += [text for _, _, *several in rows for text in several if text]
    assert len(texts) > 20_000
    assert [t for t in texts if parse_explanation(t) != t.strip().removesuffix(".")] == []


@pytest.mark.parametrize("name", PROMPTS)
def test_the_examples_are_read_as_they_are(name: str) -> None:
    for example in read_examples(PROMPTS[name]):
        assert parse_explanation(example.explanation) == example.explanation
        opening = PROMPTS[name].opening.format(number=3)
        assert parse_explanation(f"{opening} {example.explanation}.") == example.explanation


@pytest.mark.parametrize(
    "text",
    [
        "", " \n", ".", "…", "---", "**", '""', "<think>months?</think>", "Explanation:",
        "Here is the explanation:", "I'm sorry, but I can't help with that.",
        "I’m sorry, I can’t tell.", "I am unable to determine what it does.", "I cannot say.",
        "Sorry, but I see no pattern.", "Unfortunately, there is no clear pattern.",
        "As an AI language model, I have no access to neurons.", "It is unclear to me.",
        "Not enough information to tell", "No clear pattern", "None", "nothing.", "N/A", "unknown",
        "Neuron 5 is active on I cannot determine it", "**I cannot determine this.**",
    ],
)  # fmt: skip
def test_an_answer_that_claims_nothing_is_an_error(text: str) -> None:
    with pytest.raises(ParseError):
        parse_explanation(text)
    with pytest.raises(ParseError):
        parse_list(f"1. {text}")


def test_thoughts_without_an_end_are_not_an_answer() -> None:
    with pytest.raises(ParseError, match="cut off in its thoughts"):
        parse_explanation(f"<think>\nnames of months? {CLAIM}")


def test_of_an_answer_that_was_cut_off_only_what_is_whole_is_read() -> None:
    with pytest.raises(ParseError, match="cut off before it ended"):
        parse_explanation("names of mon", is_cut=True)
    assert parse_explanation(f"{CLAIM}. It also resp", is_cut=True) == CLAIM
    assert parse_explanation(f"{CLAIM}\n\nNeuron 6\nActivat", is_cut=True) == CLAIM
    assert parse_list("1. one\n2. two\n3. thr", is_cut=True) == ("one", "two")


@pytest.mark.parametrize(
    "text",
    [
        "1. one\n2. two\n3. three",
        "Here are 3:\n\n1) **one**.\n\n2) “two”\n3) Neuron 5 is active on three.\n\nThat is all.",
        "<think>1. wrong</think>\n 1. one\n 2. two\n 3. three",
        "**1.** one\n**2.** two\n**3.** three",
        "1. one\n2. two\n3. one\n4. three",
    ],
)
def test_a_list_is_read_in_its_order_and_equal_entries_once(text: str) -> None:
    assert parse_list(text) == ("one", "two", "three")


def test_a_list_that_the_prompt_began() -> None:
    text = " one\n2. two\n3. three\n\nNeuron 6\nActivations:"
    assert parse_list(text, is_begun=True) == ("one", "two", "three")


def test_entries_that_claim_nothing_are_left_out() -> None:
    assert parse_list("1. one\n2. \n3. I cannot find more.\n4. two") == ("one", "two")
    with pytest.raises(ParseError, match="no numbered explanation"):
        parse_list("one, two and three")
