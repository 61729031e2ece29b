"""The streaming simulator's prompt: numbered tokens in, one `number<tab>activation` line each out.

After Bills et al. 2023, for servers that give the alternatives of each token they write but none
of the prompt's: the whole window is predicted in one answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from neuron_explainer.llm.messages import Message
from neuron_explainer.prompts.activations import show_token
from neuron_explainer.prompts.few_shot import FewShotNeuron
from neuron_explainer.prompts.simulate import explanation_line
from neuron_explainer.records.scale import MAX_NORMALIZED_ACTIVATION

PROMPT_VERSION = "streaming/1"
ROLE = (
    "Each neuron of a language model looks for one thing in a text and becomes active on the "
    "tokens where it finds it. You are given the explanation of a neuron and a text, one token a "
    "line with its number before it. Line breaks and tabs inside a token are written \\n and \\t. "
    "Predict how active the neuron is on every token, as a whole number from 0 (not at all) to 10 "
    "(as much as ever). Most tokens have 0. "
)
TASK = ROLE + (
    "Answer with one line a token, in order and for all of them: its number, a tab, and the "
    "activation. Write nothing else."
)
_LINE = re.compile(r"^[ \t]*(\d+)[.:)]?[ \t]+(\d+)[ \t]*\r?$", re.MULTILINE)


class WrittenActivation(NamedTuple):
    """An activation in the text of an answer."""

    value: int
    start: int
    """Offset of its first character."""


def streaming_messages(
    few_shot: Sequence[FewShotNeuron], explanation: str, tokens: Sequence[str]
) -> tuple[Message, ...]:
    """One example a few-shot neuron: its first window."""
    messages = [Message("system", TASK)]
    for number, neuron in enumerate(few_shot, start=1):
        record = neuron.records[0]
        answer = "\n".join(f"{n}\t{a}" for n, a in enumerate(record.activations, start=1))
        messages += [
            Message("user", numbered_question(number, neuron.explanation, record.tokens)),
            Message("assistant", answer),
        ]
    last = Message("user", numbered_question(len(few_shot) + 1, explanation, tokens))
    return (*messages, last)


def numbered_question(number: int, explanation: str, tokens: Sequence[str]) -> str:
    """A neuron and a window whose tokens are numbered from 1."""
    lines = "\n".join(f"{n}\t{show_token(token)}" for n, token in enumerate(tokens, start=1))
    return f"Neuron {number}\n{explanation_line(number, explanation)}\nTokens:\n{lines}"


def parse_lines(text: str, n_tokens: int, *, is_cut: bool) -> dict[int, WrittenActivation]:
    """Token index, from 0 -> what was written for it.

    Lines that are no line of the answer, numbers that no token has, numbers that occur twice, and
    values above 10 are left out. is_cut: the answer stopped at its limit, so its last line may
    lack a digit and is left out too, unless a line break ends it.
    """
    whole = text[: text.rfind("\n") + 1] if is_cut else text
    found = [
        (int(match[1]) - 1, WrittenActivation(int(match[2]), match.start(2)))
        for match in _LINE.finditer(whole)
    ]
    times = Counter(index for index, _ in found)
    return {
        index: written
        for index, written in found
        if index in range(n_tokens)
        and times[index] == 1
        and written.value <= MAX_NORMALIZED_ACTIVATION
    }
