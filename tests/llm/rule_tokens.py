"""The rule server's tokenizer: texts to ids, ids to bytes, and how it writes the values 0 to 10."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer

import neuron_explainer.subject
from neuron_explainer.subject.token_display import display_strings

BUNDLED = Path(neuron_explainer.subject.__file__).parent / "bundled" / "tokenizer.json"
LARGEST = 10
_BYTE = re.compile("<0x([0-9A-F]{2})>")


class RuleTokenizer:
    """Any tokenizer.json; no special tokens, as the server's prompts have none of its own."""

    def __init__(self, backend: Tokenizer) -> None:
        self._backend = backend
        self._backend.no_padding()
        self._backend.no_truncation()
        shown = display_strings(backend)
        self.bytes_of: tuple[bytes, ...] = tuple(map(_bytes, shown))
        self.text_of: tuple[str, ...] = tuple(
            piece.decode("utf-8", "replace") for piece in self.bytes_of
        )
        self._by_text = {text: i for i, text in reversed([*enumerate(self.text_of)])}
        self._anchor = "" if self.decode(self._ids("a")) == "a" else "\n"
        """Stands before a text where the tokenizer would put a space."""
        self.splits_ten = "10" not in map(self.text_of.__getitem__, self.encode("\t10\n"))
        """10 is the tokens `1`, `0`."""
        self.encode = lru_cache(4096)(self.encode)  # type: ignore[method-assign]

    @classmethod
    def from_file(cls, path: Path = BUNDLED) -> RuleTokenizer:
        return cls(Tokenizer.from_file(str(path)))

    def encode(self, text: str) -> tuple[int, ...]:
        return self._ids(self._anchor + text)[len(self._ids(self._anchor)) :]

    def id_of(self, text: str) -> int:
        """Of a token; KeyError when no token reads so."""
        return self._by_text[text]

    def decode(self, ids: tuple[int, ...]) -> str:
        return b"".join(map(self.bytes_of.__getitem__, ids)).decode("utf-8", "replace")

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._backend.encode(text, add_special_tokens=False).ids)


def _bytes(shown: str) -> bytes:
    """`<0xE2>` read as a byte, as it is in a display string."""
    parts = _BYTE.split(shown)  # text, hex, text, hex, …
    return b"".join(
        bytes([int(part, 16)]) if i % 2 else part.encode() for i, part in enumerate(parts)
    )
