"""The ways to ask for an explanation, by name.

token_activation    token and activation a line        Bills et al. 2023
summary, highlight  text, and the tokens that count    Lee et al. 2023 (arXiv 2310.06200)
token_space         tokens by mean activation          Bills et al. 2023, lookup table in words
next_token          following token and activation     Bills et al. 2023, "next-token explanation"
contrastive         also windows in which the unit's own tokens leave it quiet
                                                       Bricken et al. 2023, tokens out of context
logits              also what the output weights do    Gur-Arieh et al. 2025 (arXiv 2501.08319)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neuron_explainer.prompts.activations import (
    REPEAT_BELOW,
    ShownWindow,
    escape_marks,
    format_marked,
    format_pairs,
    format_plain,
    format_strongest,
    format_tokens,
    non_zero_share,
    shift_to_next,
)
from neuron_explainer.prompts.explain import Evidence, ExplainerPrompt, Need
from neuron_explainer.prompts.few_shot import DEFAULT_SET

_NEURON = (
    "A neuron of a language model gives every token of a text a number: it is active where the "
    "text holds what it looks for, and quiet elsewhere."
)
_SCALE = "from 0 (quiet) to 10 (the strongest that was seen)"
_MARKS = (
    "Where the neuron is active, the text stands between << and >>; these signs as part of the "
    "text itself are \\<< and \\>>, and line breaks \\n."
)
_SHARED = (
    "Name the most specific thing that the active places share and the other text lacks, with the "
    "context it needs if the tokens alone do not decide."
)
_ANSWER = (
    "Complete the last sentence with one short phrase and write nothing else. Do not list examples."
)
_OPENING = "Neuron {number} is active on"


def _task(*sentences: str, aim: str = _SHARED) -> str:
    return " ".join((_NEURON, *sentences, aim, _ANSWER))


def _show_pairs(evidence: Evidence) -> str:
    return _pairs_twice(evidence.windows)


def _show_next_pairs(evidence: Evidence) -> str:
    return _pairs_twice([shift_to_next(window) for window in evidence.windows])


def _pairs_twice(windows: Sequence[ShownWindow]) -> str:
    """The pairs; once more without those of value 0 when these are so many that they hide it."""
    text = "Activations:\n" + format_pairs(windows)
    if non_zero_share(windows) < REPEAT_BELOW:
        text += "\n\nThe active tokens alone:\n" + format_pairs(windows, with_zeros=False)
    return text


def _show_summary(evidence: Evidence) -> str:
    texts = _numbered([format_plain(window) for window in evidence.windows])
    return f"Texts:\n{texts}\n\nMost active tokens:\n{format_strongest(evidence.windows)}"


def _show_marked(evidence: Evidence) -> str:
    return "Texts:\n" + _numbered([format_marked(window) for window in evidence.windows])


def _show_contrast(evidence: Evidence) -> str:
    quiet = _numbered([escape_marks(format_plain(window)) for window in evidence.quiet])
    none = "(the neuron is active in every text at hand that has one of its tokens)"
    return f"{_show_marked(evidence)}\n\nTexts that leave it quiet:\n{quiet or none}"


def _show_logits(evidence: Evidence) -> str:
    return (
        f"{_show_marked(evidence)}\n\n"
        f"Next tokens it makes likelier:\n{format_tokens(evidence.promoted)}\n\n"
        f"Next tokens it makes unlikelier:\n{format_tokens(evidence.suppressed)}"
    )


def _show_tokens(evidence: Evidence) -> str:
    return "Tokens:\n" + format_tokens(evidence.tokens)


def _numbered(lines: Sequence[str]) -> str:
    return "\n".join(f"{i}. {line}" for i, line in enumerate(lines, start=1))


_KINDS = (
    ExplainerPrompt(
        name="token_activation",
        revision=1,
        task=_task(
            "You see the texts that excite a neuron most, one token a line, followed by a tab and "
            f"the neuron's activation there, {_SCALE}. A token without a number was not measured."
        ),
        show=_show_pairs,
        opening=_OPENING,
        examples=DEFAULT_SET,
    ),
    ExplainerPrompt(
        name="summary",
        revision=1,
        task=_task(
            "You see the texts that excite a neuron most, and below them the tokens on which it "
            f"is active, each with its largest activation, {_SCALE}. Line breaks are \\n."
        ),
        show=_show_summary,
        opening=_OPENING,
        examples=DEFAULT_SET,
    ),
    ExplainerPrompt(
        name="highlight",
        revision=1,
        task=_task("You see the texts that excite a neuron most.", _MARKS),
        show=_show_marked,
        opening=_OPENING,
        examples=DEFAULT_SET,
    ),
    ExplainerPrompt(
        name="token_space",
        revision=1,
        task=_task(
            "You see the tokens on which a neuron is most active on average, the strongest first. "
            "Some may be pieces of words.",
            aim="Name the most specific kind of token that nearly all of them are.",
        ),
        show=_show_tokens,
        opening=_OPENING,
        examples="explain_tokens",
        needs=(Need.TOKENS,),
    ),
    ExplainerPrompt(
        name="next_token",
        revision=1,
        task=_task(
            "Here a neuron may be active because of what it expects to come next. You see texts "
            "that excite it, one token a line, followed by a tab and the neuron's activation on "
            f"the token before that one, {_SCALE}. A token without a number was not measured."
        ),
        show=_show_next_pairs,
        opening="Neuron {number} is active when the next token is one of",
        examples="explain_next_token",
        stored="tokens that come right before {answer}",
    ),
    ExplainerPrompt(
        name="contrastive",
        revision=1,
        task=_task(
            "You see the texts that excite a neuron most.",
            _MARKS,
            "Then come texts with some of the same tokens in which the neuron stays quiet.",
        ),
        show=_show_contrast,
        opening=_OPENING,
        examples="explain_contrastive",
        needs=(Need.WINDOWS, Need.QUIET),
    ),
    ExplainerPrompt(
        name="logits",
        revision=1,
        task=_task(
            "You see the texts that excite a neuron most.",
            _MARKS,
            "Then come the tokens that an active neuron makes likelier and unlikelier to be next, "
            "by its weights. They may say what it is for, or they may be noise.",
        ),
        show=_show_logits,
        opening=_OPENING,
        examples="explain_logits",
        needs=(Need.WINDOWS, Need.OUTPUT),
    ),
)
PROMPTS: Mapping[str, ExplainerPrompt] = {kind.name: kind for kind in _KINDS}
