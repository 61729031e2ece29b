"""Pieces of a prompt have the ids that they have within a text, whatever the tokenizer."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, processors
from transformers import PreTrainedTokenizerFast

from neuron_explainer.errors import UsageError
from neuron_explainer.llm.pieces import HfPieceTokenizer, read_value_tokens
from tests.tiny_models import byte_tokenizer
from tests.tiny_tokenizers import BYTE_LEVEL, KINDS, SENTENCEPIECE, wrapped

PIECES = ["the", " quick", "\t", "10", "\n", "fox", "é", "数", " ", "  dog", "\n\n", "", "😀", "'s"]


def decoded(tokenizer: PreTrainedTokenizerFast, ids: tuple[int, ...]) -> str:
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_joined_are_the_text_and_no_space_more(kind: str) -> None:
    tokenizer = wrapped(kind)
    encoded = HfPieceTokenizer(tokenizer).encode(["x", *PIECES])
    together = tuple(i for ids in encoded for i in ids)
    shown = decoded(tokenizer, together)
    assert shown == "x" + "".join(PIECES)
    assert len(encoded) == 1 + len(PIECES)
    assert encoded[1 + PIECES.index("")] == ()


@pytest.mark.parametrize("kind", KINDS)
def test_a_piece_has_the_same_ids_wherever_it_stands(kind: str) -> None:
    pieces = HfPieceTokenizer(wrapped(kind))
    together = pieces.encode(PIECES)
    assert together == [ids for piece in PIECES for ids in pieces.encode([piece])]


@pytest.mark.parametrize("kind", KINDS)
def test_text_never_becomes_a_special_token(kind: str) -> None:
    tokenizer = wrapped(kind)
    special = set(tokenizer.all_special_ids) | {tokenizer.convert_tokens_to_ids("<|im_end|>")}
    for text in (tokenizer.bos_token, "<|im_end|>", f"a{tokenizer.bos_token}b"):
        (ids,) = HfPieceTokenizer(tokenizer).encode([text])
        assert special.isdisjoint(ids)
        assert special.isdisjoint(HfPieceTokenizer(tokenizer).encode_text(text))
    assert tokenizer.bos_token_id in tokenizer(tokenizer.bos_token).input_ids


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokenizer_that_was_given_is_left_as_it_was(kind: str) -> None:
    tokenizer = wrapped(kind)
    before = tokenizer.backend_tokenizer.to_str()
    HfPieceTokenizer(tokenizer).encode(["a"])
    assert tokenizer.backend_tokenizer.to_str() == before
    assert not tokenizer.backend_tokenizer.encode_special_tokens


@pytest.mark.parametrize("kind", SENTENCEPIECE)
def test_a_text_alone_begins_as_the_tokenizer_begins_it(kind: str) -> None:
    tokenizer = wrapped(kind)
    found = HfPieceTokenizer(tokenizer).encode_text("the fox")
    assert list(found) == tokenizer("the fox", add_special_tokens=False).input_ids


def test_the_start_is_what_the_tokenizer_itself_puts_first() -> None:
    tokenizer = wrapped("llama")
    assert HfPieceTokenizer(tokenizer).start == ()
    with_bos = PreTrainedTokenizerFast(
        tokenizer_object=_with_bos(tokenizer), bos_token="<s>", eos_token="</s>"
    )
    assert HfPieceTokenizer(with_bos).start == (with_bos.bos_token_id,)


def _with_bos(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    return backend


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_what_follows_a_tab(kind: str) -> None:
    tokenizer = wrapped(kind)
    pieces = HfPieceTokenizer(tokenizer)
    values, end = read_value_tokens(pieces)
    tab, line_break = pieces.encode(["\t", "\n"])
    for number, value in enumerate(values):
        (line,) = pieces.encode([f"x\t{number}\n"])
        assert line == (*pieces.encode(["x"])[0], *tab, *value, *line_break)
    assert end == line_break[0]
    assert len(values[10]) == (1 if kind in ("gpt2", "neox") else 2)
    assert values[10] in {(values[10][0],), values[1] + values[0]}


class ScriptedPieces:
    """A tokenizer by table; a character a token otherwise."""

    start = ()

    def __init__(self, table: dict[str, tuple[int, ...]]) -> None:
        self._table = table

    def encode(self, pieces: list[str]) -> list[tuple[int, ...]]:
        return [self._table.get(piece) or tuple(map(ord, piece)) for piece in pieces]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"\t7": (500,)}, "does not keep the value 7 after a tab apart"),
        ({"\t3": (9, 1, 2)}, "does not keep the value 3 after a tab apart"),
        ({"\t10": (9, 1, 2)}, "does not keep the value 10 after a tab apart"),
        ({"\t3": (9, ord("2"))}, "one token for two values"),
    ],
)
def test_a_tokenizer_that_mixes_values_up_is_refused(
    table: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read_value_tokens(ScriptedPieces(table))
    assert read_value_tokens(ScriptedPieces({})).values[10] == (ord("1"), ord("0"))


def test_a_tokenizer_without_a_file_is_refused() -> None:
    class Slow:
        backend_tokenizer = None

    with pytest.raises(UsageError, match=r"Slow has no tokenizer\.json"):
        HfPieceTokenizer(Slow())  # type: ignore[arg-type]


def test_bytes_alone_are_a_tokenizer_too() -> None:
    pieces = HfPieceTokenizer(byte_tokenizer())
    assert [len(ids) for ids in pieces.encode(["é", "ab", ""])] == [2, 2, 0]
    assert set(BYTE_LEVEL) <= set(KINDS)
