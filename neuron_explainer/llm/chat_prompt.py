"""Messages to the token ids of a local model: its chat template, or plain text without one.

Text in a message never becomes a special token: a neuron may well respond to `<|endoftext|>`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import jinja2
from transformers import PreTrainedTokenizerBase

from neuron_explainer.errors import BadRequest
from neuron_explainer.llm.messages import Message
from neuron_explainer.llm.pieces import HfPieceTokenizer

_OPEN, _CLOSE = "\ue001", "\ue002"
_MARK = re.compile(f"{_OPEN}(\\d+){_CLOSE}")
_BETWEEN_MESSAGES = "\n\n"
# Some templates tell the model the date. Here it stays the same, and so do the answers.
_FIXED_DATE = (
    "{%- macro strftime_now(format) -%}"
    "{{ '2024-07-26' if format == '%Y-%m-%d' else '26 Jul 2024' }}"
    "{%- endmacro %}\n"
)


class PromptEncoder:
    """The prompt that a model's tokenizer makes of messages, with the answer to follow."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self.pieces = HfPieceTokenizer(tokenizer)
        added = tokenizer.backend_tokenizer.get_added_tokens_decoder()
        self._special = {t.content: i for i, t in added.items() if t.special}
        longest_first = sorted(self._special, key=len, reverse=True)
        self._special_in_text = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._always_adds_space = self._adds_space_after_special()

    @property
    def is_chat(self) -> bool:
        """Whether there is a chat template."""
        return bool(self._tokenizer.chat_template)

    def encode(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """BadRequest when the template does not take the messages."""
        if not self.is_chat:
            text = _BETWEEN_MESSAGES.join(message.content for message in messages)
            return self.pieces.start + self.pieces.encode_text(text)
        return self._encode_rendered(self._render_marked(messages), messages)

    def _render_marked(self, messages: Sequence[Message]) -> str:
        """The chat with a mark in the place of each content."""
        marked = [
            replace(message, content=f"{_OPEN}{i}{_CLOSE}") for i, message in enumerate(messages)
        ]
        try:
            return self._render(marked)
        except jinja2.TemplateError as error:
            if marked[0].role != "system" or len(marked) == 1:
                raise _refused(error) from error
        try:
            return self._render(_without_system(marked))
        except jinja2.TemplateError as error:
            raise _refused(error) from error

    def _render(self, messages: Sequence[Message]) -> str:
        template = self._tokenizer.get_chat_template()
        return str(
            self._tokenizer.apply_chat_template(
                [{"role": m.role, "content": m.content} for m in messages],
                chat_template=(_FIXED_DATE if "strftime_now" in template else "") + template,
                tokenize=False,
                add_generation_prompt=True,
            )
        )

    def _encode_rendered(self, chat: str, messages: Sequence[Message]) -> tuple[int, ...]:
        """Special tokens are those of the template; the text between two is encoded as one."""
        if sorted(int(i) for i in _MARK.findall(chat)) != list(range(len(messages))):
            raise BadRequest(
                "the chat template does not show each message once; take another model"
            )
        ids: list[int] = []
        begin = 0
        for special in self._special_in_text.finditer(chat):
            ids += self._encode_between(chat[begin : special.start()], messages, is_first=not ids)
            ids.append(self._special[special.group()])
            begin = special.end()
        return (*ids, *self._encode_between(chat[begin:], messages, is_first=not ids))

    def _encode_between(
        self, marked: str, messages: Sequence[Message], *, is_first: bool
    ) -> tuple[int, ...]:
        text = _MARK.sub(lambda mark: messages[int(mark.group(1))].content, marked)
        if not text:
            return ()
        if is_first or self._always_adds_space:
            return self.pieces.encode_text(text)
        return self.pieces.encode([text])[0]

    def _adds_space_after_special(self) -> bool:
        """Whether text gets a space put before it after a special token too, as Llama's does."""
        special = next(iter(self._special), None)
        if special is None:
            return False
        backend = self._tokenizer.backend_tokenizer
        ids = backend.encode(f"{special}a", add_special_tokens=False).ids
        return bool(ids == [self._special[special], *self.pieces.encode_text("a")])


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """The system message as the beginning of the message after it, for templates that have none."""
    system, first, *rest = messages
    content = f"{system.content}{_BETWEEN_MESSAGES}{first.content}"
    return [replace(first, content=content), *rest]


def _refused(error: jinja2.TemplateError) -> BadRequest:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return BadRequest(f"the model's chat template does not take the messages: {reason}")
