"""The one-at-a-time simulator's prompt: a text up to one token, and that token's activation.

Bills et al. 2023, `simulator.py`. The paper's code shows its single-token example under the
explanation of the neuron that is asked about; here every example has its own. The text stands
last, so that the question about a token begins with the question about the token before it.
"""

from __future__ import annotations

from collections.abc import Sequence

from neuron_explainer.llm.messages import Message
from neuron_explainer.prompts.activations import show_token
from neuron_explainer.prompts.few_shot import FewShotNeuron, FewShotRecord
from neuron_explainer.prompts.simulate import explanation_line

PROMPT_VERSION = "one_at_a_time/1"
TASK = (
    "Each neuron of a language model looks for one thing in a text and becomes active on the "
    "tokens where it finds it. You are given the explanation of a neuron, a text, and the last "
    "token of that text. Predict how active the neuron is on this last token, as a whole number "
    "from 0 (not at all) to 10 (as much as ever). Most tokens have 0. The text before it is there "
    "for its meaning alone. Answer with the number and nothing else."
)


def messages_for_token(
    few_shot: Sequence[FewShotNeuron], explanation: str, tokens: Sequence[str]
) -> tuple[Message, ...]:
    """tokens: up to the one that is asked about, at least one.

    The examples are two tokens of each neuron's first window: its most active one, and the last
    one with activation 0.
    """
    messages = [Message("system", TASK)]
    for number, neuron in enumerate(few_shot, start=1):
        record = neuron.records[0]
        for index in _shown_tokens(record):
            shown = record.tokens[: index + 1]
            messages += [
                Message("user", _question(number, neuron.explanation, shown)),
                Message("assistant", str(record.activations[index])),
            ]
    last = Message("user", _question(len(few_shot) + 1, explanation, tokens))
    return (*messages, last)


def _shown_tokens(record: FewShotRecord) -> list[int]:
    """In the order of the text; one when no token has activation 0."""
    activations = record.activations
    peak = activations.index(max(activations))
    silent = [i for i, activation in enumerate(activations) if activation == 0]
    return sorted({peak, *silent[-1:]})


def _question(number: int, explanation: str, tokens: Sequence[str]) -> str:
    return (
        f"Neuron {number}\n{explanation_line(number, explanation)}\nText:\n{''.join(tokens)}\n"
        f"Last token of the text:\n{show_token(tokens[-1])}"
    )
