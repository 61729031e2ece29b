"""Text to token ids, and token ids to strings that a person can read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from neuron_explainer.errors import SubjectError

SENTENCEPIECE_SPACE = "▁"
"""What stands for a space in the pieces of a sentencepiece model."""


class SubjectTokenizer:
    """The subject's tokenizer, as the collector needs it: no padding, no truncation.

    Text never becomes a special token: a document that holds the characters `<|endoftext|>` is
    encoded as those characters.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise SubjectError(
                f"{type(tokenizer).__name__} has no tokenizer.json; only such tokenizers are read"
            )
        if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
            raise SubjectError("the tokenizer names no token that separates documents")
        self._backend = backend
        self._backend.encode_special_tokens = True
        self._backend.no_padding()
        self._backend.no_truncation()
        bos = tokenizer.bos_token_id
        self.separator_id: int = bos if bos is not None else tokenizer.eos_token_id
        """Stands before every document, as in the text the subject was trained on."""

    @property
    def n_tokens(self) -> int:
        """One more than the largest token id; there may be ids that no token has."""
        return max(self._backend.get_vocab(with_added_tokens=True).values()) + 1

    def serialized(self) -> str:
        """Everything that decides how text becomes ids."""
        return f"{self.separator_id} {self._backend.to_str()}"

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without the separator."""
        encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    @cached_property
    def display(self) -> tuple[str, ...]:
        """A different string for every token id; incomplete UTF-8 shows its bytes, `<0xE2>`."""
        is_byte_level = "ByteLevel" in str(self._backend.decoder)
        alphabet = _byte_level_alphabet() if is_byte_level else []
        byte_of = {char: byte for byte, char in enumerate(alphabet)}
        special = {
            token_id
            for token_id, token in self._backend.get_added_tokens_decoder().items()
            if token.special
        }
        strings: list[str] = []
        seen: set[str] = set()
        for token_id in range(self.n_tokens):
            piece = self._backend.id_to_token(token_id) or f"<unused {token_id}>"
            string = piece if token_id in special else _display_piece(piece, byte_of)
            while string in seen:
                string = f"{string}<{token_id}>"
            seen.add(string)
            strings.append(string)
        return tuple(strings)


def _display_piece(piece: str, byte_of: dict[str, int]) -> str:
    """A byte-level BPE piece as text; of another tokenizer's piece, only the space is replaced."""
    if any(char not in byte_of for char in piece):
        return piece.replace(SENTENCEPIECE_SPACE, " ")
    raw = bytes(byte_of[char] for char in piece)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(chr(byte) if byte < 0x80 else f"<0x{byte:02X}>" for byte in raw)


def _byte_level_alphabet() -> list[str]:
    """The character that stands for each byte 0..255 in GPT-2's byte-level BPE.

    Printable Latin-1 bytes stand for themselves; the others are moved to 256 and up, in order.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    moved = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(moved)) for byte in range(256)]
