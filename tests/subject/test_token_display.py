"""A readable string of its own for each id, from which no byte of a text is lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from neuron_explainer.subject.token_display import display_strings
from neuron_explainer.subject.tokens import SubjectTokenizer
from tests.tiny_models import SEPARATOR, byte_tokenizer
from tests.tiny_tokenizers import BYTE_LEVEL, KINDS, SENTENCEPIECE, SPACE, wrapped

TEXTS = [
    "Hello world",
    "It's the quick fox.",
    " two  spaces\n\ttabs\t",
    "a    b             c  ",
    "é “quoted” naïve 😀 数学 文字",
    "👩‍👩‍👧 family, ünï",
    "\n\n\n",
    "the dog\r\nthe fox",
    "x" * 300,
    "a\x00b\u2028c\x7f",
]


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> SubjectTokenizer:
    return SubjectTokenizer(wrapped(request.param))


@pytest.fixture(scope="module", params=BYTE_LEVEL)
def byte_level(request: pytest.FixtureRequest) -> SubjectTokenizer:
    return SubjectTokenizer(wrapped(request.param))


@pytest.fixture(scope="module", params=SENTENCEPIECE)
def sentencepiece(request: pytest.FixtureRequest) -> SubjectTokenizer:
    return SubjectTokenizer(wrapped(request.param))


@pytest.fixture(scope="module")
def gpt2(shared_data: Path) -> SubjectTokenizer:
    return SubjectTokenizer(AutoTokenizer.from_pretrained(shared_data / "tokenizer" / "gpt2"))


def shown(tokenizer: SubjectTokenizer, text: str) -> list[str]:
    (ids,) = tokenizer.encode([text])
    return [tokenizer.display[i] for i in ids]


def as_bytes(strings: list[str]) -> bytes:
    """What the strings stand for, one after the other."""
    joined = "".join(strings).encode()
    return re.sub(rb"<0x([0-9A-F]{2})>", lambda match: bytes([int(match[1], 16)]), joined)


def display_of(vocabulary: list[str], byte_fallback: bool = False) -> list[str]:
    """Of a BPE model of these pieces; byte-level, or of sentencepiece with byte fallback."""
    ids = {piece: i for i, piece in enumerate(vocabulary)}
    backend = Tokenizer(models.BPE(ids, [], byte_fallback=byte_fallback))
    backend.decoder = decoders.Metaspace() if byte_fallback else decoders.ByteLevel()
    return list(display_strings(backend))


def test_each_id_has_a_string_of_its_own(tokenizer: SubjectTokenizer) -> None:
    assert len(tokenizer.display) == len(set(tokenizer.display)) == tokenizer.n_tokens


@pytest.mark.parametrize("text", TEXTS)
def test_no_byte_of_a_text_is_lost(tokenizer: SubjectTokenizer, text: str) -> None:
    assert as_bytes(shown(tokenizer, text)) in (text.encode(), b" " + text.encode())


def test_the_separator_shows_as_itself(tokenizer: SubjectTokenizer) -> None:
    assert tokenizer.display[tokenizer.separator_id] in (SEPARATOR, "<s>")


def test_a_space_mark_in_byte_level_text_is_not_a_space(byte_level: SubjectTokenizer) -> None:
    text = f"{SPACE}a {SPACE}{SPACE} b"
    assert as_bytes(shown(byte_level, text)) == text.encode()


def test_characters_without_a_piece_show_their_bytes(sentencepiece: SubjectTokenizer) -> None:
    assert shown(sentencepiece, "数")[-3:] == ["<0xE6>", "<0x95>", "<0xB0>"]
    assert shown(sentencepiece, "\t")[-1:] == ["\t"]


def test_a_word_shows_the_space_before_it(tokenizer: SubjectTokenizer) -> None:
    assert shown(tokenizer, "The dog and the fox")[-1].startswith((" ", "o", "x"))
    assert not any(SPACE in string or "Ġ" in string for string in shown(tokenizer, "The dog"))


def test_one_byte_a_token_shows_ascii_and_bytes() -> None:
    tokenizer = SubjectTokenizer(byte_tokenizer())
    assert shown(tokenizer, "a b\n") == ["a", " ", "b", "\n"]
    assert shown(tokenizer, "“") == ["<0xE2>", "<0x80>", "<0x9C>"]


def test_whole_characters_show_beside_loose_bytes() -> None:
    # In GPT-2's alphabet Ã© is é, â is the byte 0xE2, Ģľ are 0x80 0x9C, Ġ is a space.
    assert display_of(["aâ", "Ã©â", "Ģľ", "ĠÃ©", "âĢľ"]) == [
        "a<0xE2>",
        "é<0xE2>",
        "<0x80><0x9C>",
        " é",
        "“",
    ]


def test_a_surrogate_in_utf8_shows_its_bytes() -> None:
    assert display_of(["íłĢ"]) == ["<0xED><0xA0><0x80>"]


def test_a_byte_that_has_a_piece_of_its_own_shows_as_a_byte() -> None:
    pieces = ["<0x41>", "<0x42>", "<0xE2>", "<0x20>", "A", SPACE, f"{SPACE}A", "<0x4>"]
    shown = ["<0x41>", "B", "<0xE2>", "<0x20>", "A", " ", " A", "<0x4>"]
    assert display_of(pieces, byte_fallback=True) == shown


def test_without_byte_fallback_a_byte_is_written_as_the_text_it_is() -> None:
    assert display_of(["<0x41>", "A"]) == ["<0x41>", "A"]


def test_runs_of_spaces_among_the_added_tokens_are_spaces() -> None:
    for kind in ("neox", "gemma"):
        strings = shown(SubjectTokenizer(wrapped(kind)), "a   b")
        assert any(string in ("  ", "   ") for string in strings)
        assert "".join(strings) == "a   b"


def test_a_piece_that_an_added_token_keeps_from_text_shows_its_bytes() -> None:
    backend = Tokenizer(models.BPE({"ĠĠ": 0, "a": 1}, []))
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens([AddedToken("  ")])
    assert display_strings(backend) == ("<0x20><0x20>", "a", "  ")


def test_added_tokens_are_no_byte_alphabet() -> None:
    backend = Tokenizer(models.BPE({"a": 0}, []))
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens(["Ġé", "naïve"])
    assert display_strings(backend) == ("a", "Ġé", "naïve")


def test_pieces_that_would_show_alike_are_told_apart() -> None:
    # é stands for the byte 0xE9; `<0xE9>` is written in characters that stand for themselves.
    display = display_of(["é", "<0xE9>", "<0xE9><0>", "<0x3C><0x30><0x78><0x45><0x39><0x3E>"])
    assert len(set(display)) == 4
    assert display[0] == "<0xE9>"


def test_ids_without_a_token_have_a_string_too() -> None:
    backend = Tokenizer(models.BPE({"a": 0, "b": 3}, []))
    assert display_strings(backend) == ("a", "<unused 1>", "<unused 2>", "b")


def test_a_tokenizer_of_whole_words_shows_its_pieces() -> None:
    backend = Tokenizer(models.WordLevel({"dog": 0, "[UNK]": 1, "##s": 2}, unk_token="[UNK]"))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="[UNK]")
    assert SubjectTokenizer(wrapped).display == ("dog", "[UNK]", "##s")


@pytest.mark.shared_data
def test_each_gpt2_id_has_a_string_of_its_own(gpt2: SubjectTokenizer) -> None:
    assert len(gpt2.display) == len(set(gpt2.display)) == 50257


@pytest.mark.shared_data
@pytest.mark.parametrize("text", [*TEXTS, f"{SPACE}a"])
def test_no_byte_of_a_text_is_lost_in_gpt2_tokens(gpt2: SubjectTokenizer, text: str) -> None:
    assert as_bytes(shown(gpt2, text)) == text.encode()
