"""The structured simulator's prompt: numbered tokens in, JSON out; for servers without logprobs.

After the logprob-free simulator of Bills et al. 2023's code.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from neuron_explainer.llm.messages import Message
from neuron_explainer.prompts.activations import show_token
from neuron_explainer.prompts.few_shot import FewShotNeuron
from neuron_explainer.prompts.simulate_lines import ROLE, numbered_question

PROMPT_VERSION = "structured/1"
TASK = ROLE + (
    "Answer in JSON, with one entry a token, in order and for all of them: its number as n, the "
    "token as it is written here, and the activation. Write nothing else."
)
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "activations": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "n": {"type": "integer"},
                        "token": {"type": "string"},
                        "activation": {"type": "integer"},
                    },
                    "required": ["n", "token", "activation"],
                    "additionalProperties": False,
                },
            }
        },
        "required": ["activations"],
        "additionalProperties": False,
    }
)
"""Strict, in the part of JSON Schema that every provider takes: no bounds, no lengths."""


def structured_messages(
    few_shot: Sequence[FewShotNeuron], explanation: str, tokens: Sequence[str]
) -> tuple[Message, ...]:
    """One example a few-shot neuron: its first window."""
    messages = [Message("system", TASK)]
    for number, neuron in enumerate(few_shot, start=1):
        record = neuron.records[0]
        messages += [
            Message("user", numbered_question(number, neuron.explanation, record.tokens)),
            Message("assistant", _answer(record.tokens, record.activations)),
        ]
    last = Message("user", numbered_question(len(few_shot) + 1, explanation, tokens))
    return (*messages, last)


def _answer(tokens: Sequence[str], activations: Sequence[int]) -> str:
    both = zip(tokens, activations, strict=True)
    entries = [
        {"n": n, "token": show_token(token), "activation": activation}
        for n, (token, activation) in enumerate(both, start=1)
    ]
    return json.dumps({"activations": entries}, ensure_ascii=False, separators=(",", ":"))
