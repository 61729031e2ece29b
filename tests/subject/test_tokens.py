"""Text to ids as the subject's tokenizer does it, whatever its family and the text's length."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from neuron_explainer.errors import SubjectError
from neuron_explainer.subject import tokens
from neuron_explainer.subject.tokens import SubjectTokenizer
from tests.tiny_models import SEPARATOR, byte_tokenizer
from tests.tiny_tokenizers import BYTE_LEVEL, KINDS, SENTENCES, wrapped

TEXTS = ["Hello world", " two  spaces\n\ttabs", "é “quoted” 😀 数", "x" * 2000, "a\x00b\u2028c", ""]


@pytest.fixture(scope="module")
def tokenizer() -> SubjectTokenizer:
    return SubjectTokenizer(byte_tokenizer())


@pytest.fixture(scope="module")
def gpt2(shared_data: Path) -> SubjectTokenizer:
    return SubjectTokenizer(AutoTokenizer.from_pretrained(shared_data / "tokenizer" / "gpt2"))


def ids_of(tokenizer: SubjectTokenizer, text: str) -> list[int]:
    (ids,) = tokenizer.encode([text])
    assert ids.dtype == np.int32
    listed: list[int] = ids.tolist()
    return listed


def shown(tokenizer: SubjectTokenizer, text: str) -> str:
    return "".join(tokenizer.display[i] for i in ids_of(tokenizer, text))


@pytest.mark.parametrize("text", [SEPARATOR, f"a{SEPARATOR}b", f"{SEPARATOR}\n{SEPARATOR}"])
def test_text_never_becomes_the_special_token(tokenizer: SubjectTokenizer, text: str) -> None:
    assert tokenizer.separator_id not in ids_of(tokenizer, text)
    assert shown(tokenizer, text) == text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["<s>", "a</s>b", "<|im_end|>", SEPARATOR, "<unk>"])
def test_text_never_becomes_a_special_token_of_any_family(kind: str, text: str) -> None:
    tokenizer = SubjectTokenizer(wrapped(kind))
    names = {"<s>", "</s>", "<unk>", "<|im_end|>", SEPARATOR}
    special = {i for i, string in enumerate(tokenizer.display) if string in names}
    assert not special & set(ids_of(tokenizer, text))
    assert shown(tokenizer, text).removeprefix(" ") == text


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_is_encoded_alike_alone_and_among_others(kind: str) -> None:
    tokenizer = SubjectTokenizer(wrapped(kind))
    together = [ids.tolist() for ids in tokenizer.encode(TEXTS)]
    assert together == [ids_of(tokenizer, text) for text in TEXTS]


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_text_has_the_ids_that_it_has_in_one_piece(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = SubjectTokenizer(wrapped(kind))
    rng = random.Random(0)
    text = "".join(rng.choice(SENTENCES) + rng.choice(["\n", "  ", " "]) for _ in range(200))
    whole = [ids_of(tokenizer, text), ids_of(tokenizer, "A short one.")]
    monkeypatch.setattr(tokens, "MAX_PIECE_CHARS", 100)
    monkeypatch.setattr(tokens, "MAX_BATCH_CHARS", 300)
    monkeypatch.setattr(tokens, "_CUT_WITHIN", 200)
    pieces = list(tokenizer._cut(text))
    assert 30 < len(pieces) < 200
    assert max(map(len, pieces)) <= 300
    cut = tokenizer.encode([text, "A short one."])
    assert [ids.tolist() for ids in cut] == whole


@pytest.mark.parametrize("kind", BYTE_LEVEL)
@pytest.mark.parametrize("blank", ["\n", "\t\t", ""])
def test_a_long_text_without_single_spaces_is_cut_and_nothing_is_lost(
    kind: str, blank: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = SubjectTokenizer(wrapped(kind))
    text = blank.join(["fox", "dog"] * 500)
    monkeypatch.setattr(tokens, "MAX_PIECE_CHARS", 100)
    monkeypatch.setattr(tokens, "_CUT_WITHIN", 10)
    assert shown(tokenizer, text) == text


def test_nothing_is_cut_or_padded_whatever_the_tokenizer_was_set_to() -> None:
    wrapped = byte_tokenizer()
    wrapped.backend_tokenizer.enable_truncation(3)
    wrapped.backend_tokenizer.enable_padding(length=8)
    assert list(map(len, SubjectTokenizer(wrapped).encode(["a", "abcde"]))) == [1, 5]


def test_a_tokenizer_without_a_separator_is_refused() -> None:
    backend = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    with pytest.raises(SubjectError, match="no token that separates documents"):
        SubjectTokenizer(PreTrainedTokenizerFast(tokenizer_object=backend))


@pytest.mark.shared_data
def test_gpt2_text_is_encoded_as_published(gpt2: SubjectTokenizer) -> None:
    assert ids_of(gpt2, "Hello world") == [15496, 995]
    assert gpt2.separator_id == 50256
    assert [gpt2.display[i] for i in (15496, 995, 50256)] == ["Hello", " world", SEPARATOR]


@pytest.mark.shared_data
@pytest.mark.parametrize("text", [SEPARATOR, f"a {SEPARATOR} b"])
def test_gpt2_text_never_becomes_the_special_token(gpt2: SubjectTokenizer, text: str) -> None:
    assert gpt2.separator_id not in ids_of(gpt2, text)
    assert shown(gpt2, text) == text
