"""What a tokenizer's chat template puts around the message of a user."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import jinja2
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from neuron_explainer.errors import SubjectError

_MESSAGE = "Zqxjv"
"""Stands for the message while the template is taken apart."""

# Some templates tell the model the date. It stays the same here, or no run could go on tomorrow.
_FIXED_DATE = (
    "{%- macro strftime_now(format) -%}"
    "{{ '2024-07-26' if format == '%Y-%m-%d' else '26 Jul 2024' }}"
    "{%- endmacro %}\n"
)


@dataclass(frozen=True, slots=True)
class ChatFrame:
    """A chat of one message: `before`, `lead` + the message + `trail`, `after`.

    `before` and `after` are ids that end and begin with a special token. The text between them is
    encoded in one piece with the message, as tokens may lie across its edges.
    """

    before: tuple[int, ...]
    lead: str
    trail: str
    after: tuple[int, ...]
    anchor: str
    """Put first and taken away again, where text is encoded otherwise at the very beginning."""
    n_anchor_tokens: int

    def around(self, text: str) -> str:
        """The text to encode for a message."""
        return f"{self.anchor}{self.lead}{text}{self.trail}"

    def complete(self, ids: NDArray[np.int32]) -> NDArray[np.int32]:
        """The chat's ids, given those of `around(text)`."""
        parts = (self.before, ids[self.n_anchor_tokens :], self.after)
        return np.concatenate([np.asarray(part, dtype=np.int32) for part in parts])

    def serialized(self) -> str:
        return json.dumps(
            [self.before, self.lead, self.trail, self.after, self.anchor], ensure_ascii=False
        )


def read_chat_frame(
    tokenizer: PreTrainedTokenizerBase, backend: Tokenizer, separator_id: int
) -> ChatFrame:
    """The frame of the tokenizer's chat template, without the separator if that comes first.

    SubjectError when there is no template, or none that shows a message once and as it is.
    `backend` must recognise special tokens.
    """
    chat = _render(tokenizer)
    if chat.count(_MESSAGE) != 1:
        raise SubjectError(
            "the tokenizer's chat template does not show a message once and as it is; "
            "leave out --chat-template"
        )
    start = chat.index(_MESSAGE)
    encoding = backend.encode(chat, add_special_tokens=False)
    added = backend.get_added_tokens_decoder()
    special = [
        span
        for token_id, span in zip(encoding.ids, encoding.offsets, strict=True)
        if token_id in added and added[token_id].special
    ]
    lead_start = max((end for _, end in special if end <= start), default=0)
    trail_end = min((begin for begin, _ in special if begin > start), default=len(chat))
    before = backend.encode(chat[:lead_start], add_special_tokens=False).ids
    after = backend.encode(chat[trail_end:], add_special_tokens=False).ids
    lead, trail = chat[lead_start:start], chat[start + len(_MESSAGE) : trail_end]
    for anchor in ("", "\n"):
        n_anchor_tokens = len(backend.encode(anchor, add_special_tokens=False).ids)
        frame = ChatFrame(tuple(before), lead, trail, tuple(after), anchor, n_anchor_tokens)
        inner = backend.encode(frame.around(_MESSAGE), add_special_tokens=False).ids
        if frame.complete(np.array(inner, dtype=np.int32)).tolist() == encoding.ids:
            return _without_separator(frame, separator_id)
    raise SubjectError(
        "the tokenizer's chat template cannot be encoded around a document; "
        "leave out --chat-template"
    )


def _render(tokenizer: PreTrainedTokenizerBase) -> str:
    if not tokenizer.chat_template:
        raise SubjectError("the tokenizer has no chat template; leave out --chat-template")
    try:
        template = tokenizer.get_chat_template()
        chat = tokenizer.apply_chat_template(
            [{"role": "user", "content": _MESSAGE}],
            chat_template=(_FIXED_DATE if "strftime_now" in template else "") + template,
            tokenize=False,
        )
    except (jinja2.TemplateError, ValueError, TypeError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise SubjectError(
            f"the tokenizer's chat template does not take a user's message ({reason}); "
            "leave out --chat-template"
        ) from error
    return str(chat)


def _without_separator(frame: ChatFrame, separator_id: int) -> ChatFrame:
    if frame.before[:1] != (separator_id,):
        return frame
    return replace(frame, before=frame.before[1:])
