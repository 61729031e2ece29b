"""Token ids as strings that a person can read and that never lie about the bytes.

byte-level BPE (GPT-2, NeoX, OPT, Phi, Qwen)     `Ġword` -> " word", half a character -> "<0xE2>"
sentencepiece (Llama, Mistral, Gemma; Unigram)   `▁word` -> " word", `<0x0A>` -> "\\n"
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer


def display_strings(backend: Tokenizer) -> tuple[str, ...]:
    """A different string for each id, and for ids in between that no token has.

    The strings of a text's tokens, one after the other and with `<0xE2>` read as a byte, are the
    text in UTF-8. Where two tokens mean the same bytes, the one that text is never encoded as
    shows all its bytes in that way.
    """
    notation = _read_notation(backend)
    pieces = {
        token_id: piece for piece, token_id in backend.get_vocab(with_added_tokens=True).items()
    }
    strings: dict[int, str] = {}
    taken: set[str] = set()
    for token_id in sorted(pieces, key=lambda i: (notation.rank(i, pieces[i]), i)):
        raw = notation.bytes_of(token_id, pieces[token_id])
        string = _readable(raw)
        if string in taken:
            string = _as_hex(raw)
        while string in taken:
            string = f"{string}<{token_id}>"
        strings[token_id] = string
        taken.add(string)
    return tuple(strings.get(i, f"<unused {i}>") for i in range(max(pieces) + 1))


@dataclass(frozen=True, slots=True)
class _Notation:
    """How a tokenizer writes bytes in its pieces."""

    literal: frozenset[int]
    """Ids of added tokens, which are found in the text as they are written."""
    byte_of: dict[str, int] | None
    """Character of a piece -> byte, in byte-level BPE."""
    space: str | None
    """What stands for a space in sentencepiece."""
    has_byte_tokens: bool
    """Whether `<0x0A>` is one byte, of a character that has no piece."""

    def bytes_of(self, token_id: int, piece: str) -> bytes:
        if token_id in self.literal:
            return piece.encode()
        if self.byte_of is not None:
            if all(char in self.byte_of for char in piece):
                return bytes(self.byte_of[char] for char in piece)
            return piece.encode()
        if self._is_byte_token(piece):
            return bytes([int(piece[3:5], 16)])
        return (piece if self.space is None else piece.replace(self.space, " ")).encode()

    def rank(self, token_id: int, piece: str) -> int:
        """In this order a text is searched for tokens, so the first keeps a string for itself."""
        if token_id in self.literal:
            return 0
        return 2 if self._is_byte_token(piece) else 1

    def _is_byte_token(self, piece: str) -> bool:
        return self.has_byte_tokens and len(piece) == 6 and piece in _BYTE_TOKENS


def _read_notation(backend: Tokenizer) -> _Notation:
    state = json.loads(backend.to_str())
    normalizers = list(_steps(state["normalizer"]))
    pre_tokenizers = list(_steps(state["pre_tokenizer"]))
    decoders = list(_steps(state["decoder"]))
    kinds = {step["type"] for step in (*normalizers, *pre_tokenizers, *decoders)}
    is_byte_level = "ByteLevel" in kinds
    spaces = [
        *(step["replacement"] for step in pre_tokenizers + decoders if step["type"] == "Metaspace"),
        *(step["content"] for step in normalizers if _replaced(step) == " "),
        *(_replaced(step) for step in decoders if step.get("content") == " "),
    ]
    space = None if is_byte_level else next(filter(None, spaces), None)
    in_model = backend.get_vocab(with_added_tokens=False)
    added = backend.get_added_tokens_decoder().items()
    return _Notation(
        literal=frozenset(
            # Gemma lists its pieces for runs of spaces, `▁▁`, among the added tokens.
            token_id
            for token_id, token in added
            if token.special or space is None or token.content not in in_model
        ),
        byte_of=_byte_level_alphabet() if is_byte_level else None,
        space=space,
        has_byte_tokens="ByteFallback" in kinds or bool(state["model"].get("byte_fallback")),
    )


def _steps(component: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """A normalizer, pre-tokenizer or decoder, or those of a sequence."""
    if component is None:
        return
    for kind in ("normalizers", "pretokenizers", "decoders"):
        for step in component.get(kind, ()):
            yield from _steps(step)
    if component["type"] != "Sequence":
        yield component


def _replaced(step: dict[str, Any]) -> str | None:
    """The string that a step replaces; None when it is another kind of step, or a pattern."""
    if step["type"] != "Replace":
        return None
    string: str | None = step["pattern"].get("String")
    return string


def _readable(raw: bytes) -> str:
    """UTF-8 as text; bytes that are no whole character as `<0xE2>`."""
    escaped = raw.decode("utf-8", "surrogateescape")  # a stray byte b becomes U+DC00 + b
    return "".join(
        f"<0x{ord(char) - 0xDC00:02X}>" if "\udc80" <= char <= "\udcff" else char
        for char in escaped
    )


def _as_hex(raw: bytes) -> str:
    return "".join(f"<0x{byte:02X}>" for byte in raw)


def _byte_level_alphabet() -> dict[str, int]:
    """The byte that each character stands for in GPT-2's byte-level BPE.

    Printable Latin-1 bytes stand for themselves; the others are moved to 256 and up, in order.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    moved = iter(range(256, 512))
    return {chr(byte if byte in printable else next(moved)): byte for byte in range(256)}


_BYTE_TOKENS = frozenset(f"<0x{byte:02X}>" for byte in range(256))
