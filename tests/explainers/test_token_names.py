"""Tokens and sets of tokens have names that a reader understands, whatever the tokens are."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_explainer.explainers.token_names import MOST_CHARS, name_token, name_tokens

REPEATABLE = settings(derandomize=True, database=None, deadline=None, max_examples=300)


@pytest.mark.parametrize(
    ("token", "name"),
    [
        (" two", "“two”"),
        ("ites", "“…ites”"),
        ("Will", "“Will”"),
        (" (", "“(”"),
        (" ", "a space"),
        ("   ", "several spaces"),
        ("\t", "a tab"),
        ("\n", "a line break"),
        ("\r\n", "a line break"),
        ("\r", "a line break"),
        ("\n\n", "an empty line"),
        ("\n \n", "an empty line"),
        ("\n    ", "a line break and indentation"),
        ("\n\n\t", "an empty line and indentation"),
        ("<0xC6>", "the byte 0xC6"),
        (" <0xE2><0x80>", "the bytes 0xE2 0x80"),
        ("", "an empty token"),
        ("\x10", r"“\x10”"),
        (" \x1b[", r"“\x1b[”"),
        ("\xa0", r"“\xa0”"),
        ("\u200b", r"“\u200b”"),
        ("\ud800", r"“\ud800”"),
        (";\n", "“;”"),
        ("a\nb", r"“…a\nb”"),
        ("<|endoftext|>", "the beginning of a document"),
        ("的", "“的”"),
        ("-" * 64, f"“{'-' * (MOST_CHARS - 1)}…”"),
    ],
)
def test_a_token_has_a_name(token: str, name: str) -> None:
    assert name_token(token) == name
    assert name_tokens([token]) == name


@pytest.mark.parametrize(
    ("tokens", "name"),
    [
        (["a", " a"], "“a”"),
        ([" b", " a"], "“a” or “b”"),
        ([" d", " c", " b", " a"], "“a”, “b”, “c” or “d”"),
        ([" 1", " 2", "10", "3", "5"], "numbers"),
        ([" 1", "1", " 2"], "“1” or “2”"),
        ([" The", " House", " Of", " Commons", "Lords"],
         "capitalised words such as “Commons”, “House”, “Lords”, “Of”"),
        ([" The", "In", "Wh", "An", "Th"],
         "capitalised words or their beginnings such as “An”, “In”, “Th”, “The”"),
        (["NASA", " USA", " UK", " EU", "UN"],
         "words in capitals such as “EU”, “NASA”, “UK”, “UN”"),
        ([" A", "B", "C", " D", "E"], "capital letters such as “A”, “B”, “C”, “D”"),
        ([" a", " B", " c", " D", " e"], "single letters such as “B”, “D”, “a”, “c”"),
        (["!", ".", "?", ";", ":"], "punctuation such as “!”, “.”, “:”, “;”"),
        (["(", " (", "[", '("', "{", "(("], 'opening brackets such as “(”, ‘("’, “((”, “[”'),
        ([")", ")]", "]", "}", ").", "),"], "closing brackets such as “)”, “),”, “).”, “)]”"),
        (['"', " '", "`"], "quotation marks"),
        (["walking", " running", "seeing", "being", " sing"],
         "words ending in “-ing” such as “…being”, “running”, “…seeing”, “sing”"),
        ([" return", " yield", "import", " while", " class"],
         "code keywords such as “class”, “…import”, “return”, “while”"),
        (["\n", "\n\n"], "line breaks"),
        (["\n", "\n  "], "line breaks"),
        (["\n  ", "\n\t"], "line breaks and indentation"),
        ([" ", "  ", "\t"], "spaces"),
        (["\t", "\t\t"], "tabs"),
        ([" with", " from", " while", " else", " pass"],
         "tokens such as “else”, “from”, “pass”, “while”"),
        (["的", "人", "不", "了", "在"], "tokens such as “不”, “了”, “人”, “在”"),
        ([" ", "\n"], "white space"),
        (["\n", ".", ";", ":", "(", "\n\n"],
         "line breaks or punctuation such as “(”, “.”, “:”, “;”"),
        (["\n", "\n\n", "."], "line breaks or “.”"),
        (["\n", "<|endoftext|>"], "the beginning of a document or a line break"),
        (["<0xC6>", "<0xC7>", "<0xC8>", "<0xC9>", "<0xCA>"],
         "parts of rare characters such as the byte 0xC6, the byte 0xC7, the byte 0xC8, "
         "the byte 0xC9"),
        (["\x01", "\x02", "\x03", "\x04", "\x05"],
         r"control characters such as “\x01”, “\x02”, “\x03”, “\x04”"),
        ([" cat", " dog", " and", " of", "1", "!"], "tokens such as “1”, “and”, “cat”, “dog”"),
        ([" A", " B", " C", " D", " the"],
         "mostly capital letters such as “A”, “B”, “C”, “D”"),
        ([" 1", " 2", " 3", " 4", " the"], "mostly numbers"),
        (["=", "!=", "==", " import", " x", "+", " <0xC6>"], "tokens such as “!=”, “+”, “=”, “==”"),
    ],
)  # fmt: skip
def test_a_set_has_the_name_of_its_kind_or_of_its_members(tokens: list[str], name: str) -> None:
    for seed in range(5):  # whatever their order
        assert name_tokens(random.Random(seed).sample(tokens, len(tokens))) == name


def test_the_tokens_that_matter_most_are_named_first() -> None:
    tokens = [f" w{i}x" for i in range(9)]
    assert name_tokens(tokens, [" w7x", " other", " w3x"]) == (
        "tokens such as “w7x”, “w3x”, “w0x”, “w1x”"
    )
    assert name_tokens([" b", " a"], [" b"]) == "“b” or “a”"


def test_a_piece_that_is_known_to_begin_a_word_shows_as_one() -> None:
    assert name_tokens(["python", "ing"], starts=frozenset(["python"])) == "“…ing” or “python”"


def test_what_has_double_quotation_marks_stands_in_single_ones() -> None:
    assert name_tokens(["”", '."', "x"]) == '‘."’, ‘”’ or “…x”'


def test_an_ellipsis_is_told_from_what_is_left_out() -> None:
    assert name_token("…") == name_token(" …") == "‘…’"


@pytest.mark.parametrize("most_named", [1, 2, 3, 4])
def test_fewer_members_are_named_when_told_so(most_named: int) -> None:
    name = name_tokens([" cat1", " dog2", " of3", " and4", " w5"], most_named=most_named)
    assert name.startswith("tokens such as ")
    assert name.count("“") == most_named


def test_a_piece_that_stands_alone_too_is_a_word() -> None:
    assert name_tokens([" not", "not"]) == "“not”"
    assert name_tokens(["not"]) == "“…not”"


ODD = ["", " ", "\n", "\x00", "\x7f", " \x85", "\u2028", "\u200d", "\ud801", "<0xFF>", "\U000e0001"]
any_token = st.one_of(
    st.sampled_from(ODD), st.text(max_size=4), st.text(" \n\tab1.(", max_size=3),
    st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zs", "Zl"]), max_size=3),
)  # fmt: skip


def assert_readable(name: str, *tokens: str) -> None:
    assert name.isprintable()
    assert name.strip() == name != ""
    if not {*"“”"} & {*"".join(tokens)}:  # a token of its own may look like one of these
        assert "“”" not in name
        assert "“…”" not in name
        assert "“ ”" not in name
    name.encode()  # no half of a character


@REPEATABLE
@given(any_token)
def test_no_token_shows_as_nothing_or_breaks_a_sentence(token: str) -> None:
    assert_readable(name_token(token), token)
    assert_readable(name_token(token, is_word=True), token)


@REPEATABLE
@given(st.lists(any_token, min_size=1, max_size=12), st.integers(1, 4))
def test_no_set_shows_as_nothing_or_breaks_a_sentence(
    tokens: Sequence[str], most_named: int
) -> None:
    name = name_tokens(tokens, tokens[:1], most_named)
    assert_readable(name, *tokens)
    assert not name.endswith(("such as", "such as "))
    assert name == name_tokens(tokens[::-1], tokens[:1], most_named)
