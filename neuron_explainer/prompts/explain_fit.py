"""Making a prompt fit the explainer model's context.

Bills et al. 2023, `explainer.py`, drops example records first; here what is left may still be cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from neuron_explainer.errors import CannotExplain
from neuron_explainer.llm.messages import Message
from neuron_explainer.prompts.explain import Evidence, Example, ExplainerPrompt, build_messages

CountTokens = Callable[[str], int]
TOKENS_A_MESSAGE = 6
"""What a chat template puts around a message; Llama 3's takes 5, ChatML 4."""


def fit_messages(
    prompt: ExplainerPrompt,
    examples: Sequence[Example],
    evidence: Evidence,
    n_prompt_tokens: int,
    count_tokens: CountTokens,
    *,
    is_chat: bool = True,
    n_listed: int = 1,
) -> tuple[Message, ...]:
    """The prompt with as much of the examples and of the evidence as `n_prompt_tokens` hold.

    Left out one at a time, until it fits: the examples' windows but one each, the unit's own
    windows but one, whole examples. CannotExplain when even that is too long.
    """
    size = math.inf
    for some_examples, some_evidence in _ever_smaller(examples, evidence):
        messages = build_messages(
            prompt, some_examples, some_evidence, is_chat=is_chat, n_listed=n_listed
        )
        size = sum(count_tokens(message.content) + TOKENS_A_MESSAGE for message in messages)
        if size <= n_prompt_tokens:
            return messages
    raise CannotExplain(
        f"prompt too long: {size} tokens with the least evidence, {n_prompt_tokens} fit the model"
    )


def _ever_smaller(
    examples: Sequence[Example], evidence: Evidence
) -> Iterator[tuple[tuple[Example, ...], Evidence]]:
    """What to show, first all of it; the last examples are the first to lose a window."""
    shown = list(examples)
    yield tuple(shown), evidence
    for i in _ones_to_shorten([example.evidence for example in shown]):
        shown[i] = replace(shown[i], evidence=_shortened(shown[i].evidence))
        yield tuple(shown), evidence
    while _n_windows(evidence) > _n_least(evidence):
        evidence = _shortened(evidence)
        yield tuple(shown), evidence
    while shown:
        shown.pop()
        yield tuple(shown), evidence


def _ones_to_shorten(shown: Sequence[Evidence]) -> Iterator[int]:
    """Indices, one for each window to leave out: always of the longest, the last of these."""
    spare = [_n_windows(evidence) - _n_least(evidence) for evidence in shown]
    while any(spare):
        i = max(range(len(spare)), key=lambda i: (spare[i], i))
        spare[i] -= 1
        yield i


def _n_windows(evidence: Evidence) -> int:
    return len(evidence.windows) + len(evidence.quiet)


def _n_least(evidence: Evidence) -> int:
    return min(1, len(evidence.windows)) + min(1, len(evidence.quiet))


def _shortened(evidence: Evidence) -> Evidence:
    """Without its last window, of those of which there are more."""
    windows, quiet = evidence.windows, evidence.quiet
    if len(quiet) > len(windows):
        return replace(evidence, quiet=quiet[:-1])
    return replace(evidence, windows=windows[:-1])
