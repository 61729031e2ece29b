"""Text to ids as the subject's tokenizer does it, and a readable string of its own for each id."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from neuron_explainer.errors import SubjectError
from neuron_explainer.subject.tokens import SubjectTokenizer
from tests.tiny_models import SEPARATOR, byte_tokenizer

TEXTS = ["Hello world", " two  spaces\n\ttabs", "é “quoted” 😀 数", "x" * 2000, "a\x00b\u2028c"]


@pytest.fixture(scope="module")
def tokenizer() -> SubjectTokenizer:
    return SubjectTokenizer(byte_tokenizer())


@pytest.fixture(scope="module")
def gpt2(shared_data: Path) -> SubjectTokenizer:
    return SubjectTokenizer(AutoTokenizer.from_pretrained(shared_data / "tokenizer" / "gpt2"))


def as_bytes(tokenizer: SubjectTokenizer, text: str) -> bytes:
    """The bytes that the display strings of a text's tokens stand for."""
    found = bytearray()
    for token_id in tokenizer.encode([text])[0]:
        string = tokenizer.display[token_id]
        parts = string.split("<0x") if "<0x" in string else [string]
        found += parts[0].encode()
        for part in parts[1:]:
            found += bytes([int(part[:2], 16)]) + part[3:].encode()
    return bytes(found)


def test_each_id_has_a_string_of_its_own(tokenizer: SubjectTokenizer) -> None:
    assert len(tokenizer.display) == tokenizer.n_tokens == 257
    assert len(set(tokenizer.display)) == 257


@pytest.mark.parametrize("text", TEXTS)
def test_no_byte_of_a_text_is_lost_in_display(tokenizer: SubjectTokenizer, text: str) -> None:
    assert as_bytes(tokenizer, text) == text.encode()


def test_incomplete_utf8_shows_its_bytes(tokenizer: SubjectTokenizer) -> None:
    (ids,) = tokenizer.encode(["“"])
    assert [tokenizer.display[i] for i in ids] == ["<0xE2>", "<0x80>", "<0x9C>"]


def test_ascii_shows_as_it_is(tokenizer: SubjectTokenizer) -> None:
    (ids,) = tokenizer.encode(["a b\n"])
    assert [tokenizer.display[i] for i in ids] == ["a", " ", "b", "\n"]


@pytest.mark.parametrize("text", [SEPARATOR, f"a{SEPARATOR}b", f"{SEPARATOR}\n{SEPARATOR}"])
def test_text_never_becomes_the_special_token(tokenizer: SubjectTokenizer, text: str) -> None:
    (ids,) = tokenizer.encode([text])
    assert tokenizer.separator_id not in ids
    assert "".join(tokenizer.display[i] for i in ids) == text


def test_the_separator_shows_as_itself(tokenizer: SubjectTokenizer) -> None:
    assert tokenizer.display[tokenizer.separator_id] == SEPARATOR


def test_a_text_is_encoded_alike_alone_and_among_others(tokenizer: SubjectTokenizer) -> None:
    assert tokenizer.encode(TEXTS) == [tokenizer.encode([text])[0] for text in TEXTS]


def test_nothing_is_cut_or_padded_whatever_the_tokenizer_was_set_to() -> None:
    wrapped = byte_tokenizer()
    wrapped.backend_tokenizer.enable_truncation(3)
    wrapped.backend_tokenizer.enable_padding(length=8)
    assert list(map(len, SubjectTokenizer(wrapped).encode(["a", "abcde"]))) == [1, 5]


def test_pieces_that_would_show_alike_are_told_apart() -> None:
    vocabulary = byte_tokenizer().backend_tokenizer.get_vocab()  # é stands for the byte 0xE9
    extended = {**vocabulary, "<0xE9><258>": 257, "<0xE9>": 258, "<0xE9><258><258>": 259}
    backend = Tokenizer(models.BPE(vocab=extended, merges=[]))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="a")
    display = SubjectTokenizer(wrapped).display
    assert len(set(display)) == len(display) == 260


def test_a_tokenizer_without_a_separator_is_refused() -> None:
    backend = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    with pytest.raises(SubjectError, match="no token that separates documents"):
        SubjectTokenizer(PreTrainedTokenizerFast(tokenizer_object=backend))


@pytest.mark.shared_data
def test_gpt2_text_is_encoded_as_published(gpt2: SubjectTokenizer) -> None:
    assert gpt2.encode(["Hello world"]) == [[15496, 995]]
    assert gpt2.separator_id == 50256
    assert [gpt2.display[i] for i in (15496, 995, 50256)] == ["Hello", " world", SEPARATOR]


@pytest.mark.shared_data
def test_each_gpt2_id_has_a_string_of_its_own(gpt2: SubjectTokenizer) -> None:
    assert len(gpt2.display) == len(set(gpt2.display)) == 50257


@pytest.mark.shared_data
@pytest.mark.parametrize("text", TEXTS)
def test_no_byte_of_a_text_is_lost_in_gpt2_tokens(gpt2: SubjectTokenizer, text: str) -> None:
    assert as_bytes(gpt2, text) == text.encode()


@pytest.mark.shared_data
@pytest.mark.parametrize("text", [SEPARATOR, f"a {SEPARATOR} b"])
def test_gpt2_text_never_becomes_the_special_token(gpt2: SubjectTokenizer, text: str) -> None:
    (ids,) = gpt2.encode([text])
    assert gpt2.separator_id not in ids
    assert "".join(gpt2.display[i] for i in ids) == text
