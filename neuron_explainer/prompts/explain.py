"""What an explainer model is asked: a task, worked examples, and the evidence of one unit.

Bills et al. 2023, `explainer.py`: a system message, then per neuron a block that ends in the
opening of a sentence; the explanations of the examples complete it, and so shall the model.
What is equal for all units stands first, so that a server can keep it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from neuron_explainer.llm.messages import Message
from neuron_explainer.prompts.activations import ShownWindow


class Need(StrEnum):
    """A part of the evidence that a prompt cannot do without; the value is the field's name."""

    WINDOWS = "windows"
    QUIET = "quiet"
    TOKENS = "tokens"
    OUTPUT = "promoted"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is shown of one unit; a prompt uses the parts that it needs."""

    windows: tuple[ShownWindow, ...] = ()
    """Of the unit's strongest, in that order."""
    quiet: tuple[ShownWindow, ...] = ()
    """Windows with the unit's strongest tokens in which it does next to nothing."""
    tokens: tuple[str, ...] = ()
    """Tokens with the largest mean activation, largest first."""
    promoted: tuple[str, ...] = ()
    """Tokens whose logits the unit's output weights raise most, most first."""
    suppressed: tuple[str, ...] = ()
    """Tokens whose logits the unit's output weights lower most, most first."""


@dataclass(frozen=True, slots=True)
class Example:
    """A made-up neuron, and what is to be said of it."""

    evidence: Evidence
    explanation: str
    """In the form wanted of the model: no capital, no full stop."""


@dataclass(frozen=True, slots=True)
class ExplainerPrompt:
    """One way to ask; see `explain_kinds.py`."""

    name: str
    revision: int
    """Raised whenever a word of the prompt changes."""
    task: str
    """Text of the system message."""
    show: Callable[[Evidence], str]
    """The evidence as text."""
    opening: str
    """The sentence to complete, with `{number}` for the neuron's number in the prompt."""
    examples: str
    """The few-shot set that is shown when no other is asked for."""
    needs: tuple[Need, ...] = (Need.WINDOWS,)
    stored: str = "{answer}"
    """The explanation, with `{answer}` for what the model wrote; it is read without the opening."""

    @property
    def version(self) -> str:
        return f"{self.name}/{self.revision}"


def build_messages(
    prompt: ExplainerPrompt,
    examples: Sequence[Example],
    evidence: Evidence,
    *,
    is_chat: bool = True,
    n_listed: int = 1,
) -> tuple[Message, ...]:
    """is_chat False: one text for a model that goes on writing, as a single message.

    n_listed > 1: so many explanations are asked for, as a numbered list in one answer.
    """
    blocks = [_block(prompt, i, example.evidence) for i, example in enumerate(examples, start=1)]
    openings = [_opening(prompt, i) for i in range(1, len(examples) + 1)]
    number = len(examples) + 1
    target = _block(prompt, number, evidence) + _request(prompt, number, n_listed)
    if is_chat:
        messages = [Message("system", prompt.task)]
        for block, opening, example in zip(blocks, openings, examples, strict=True):
            messages += [
                Message("user", block + opening),
                Message("assistant", example.explanation),
            ]
        return (*messages, Message("user", target))
    shown = [
        f"{block}{opening} {example.explanation}"
        for block, opening, example in zip(blocks, openings, examples, strict=True)
    ]
    begun = "\n1." if n_listed > 1 else ""
    return (Message("user", "\n\n".join([prompt.task, *shown, target]) + begun),)


def _block(prompt: ExplainerPrompt, number: int, evidence: Evidence) -> str:
    return f"Neuron {number}\n{prompt.show(evidence)}\n\n"


def _opening(prompt: ExplainerPrompt, number: int) -> str:
    return prompt.opening.format(number=number)


def _request(prompt: ExplainerPrompt, number: int, n_listed: int) -> str:
    opening = _opening(prompt, number)
    if n_listed == 1:
        return opening
    return (
        f"This time write {n_listed} explanations that differ, the likeliest first, as a numbered "
        f"list with one on each line. Each of them completes: {opening}"
    )
