"""Patterns become one readable sentence: its clauses by share, none too long, none empty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_explainer.errors import CannotExplain
from neuron_explainer.explainers.pattern_words import (
    LEAST_SHARE,
    MOST_CLAUSE_CHARS,
    MOST_CLAUSES,
    describe_pattern,
    describe_patterns,
)
from neuron_explainer.records.patterns import Before, FoundPatterns, Lack, Pattern, TokenSet

REPEATABLE = settings(derandomize=True, database=None, deadline=None, max_examples=300)
Members = str | Sequence[str] | None


def pattern(
    *sets: Members,
    share: float = 1.0,
    precision: float = 1.0,
    at_start: bool = False,
    lack: Lack | None = None,
    strongest: Sequence[str] = (),
    word_starts: Sequence[str] = (),
    peak_share: float = 0.0,
) -> Pattern:
    """sets: one token, several with the seed's first, or None for any."""
    members = [(one,) if isinstance(one, str) else one for one in sets]
    return Pattern(
        sets=tuple(None if one is None else frozenset(one) for one in members),
        activation=1.0,
        n_matches=1,
        share=share,
        precision=precision,
        seed=tuple(" seed" if one is None else one[0] for one in members),
        at_start=at_start,
        lack=lack,
        strongest=tuple(strongest),
        word_starts=frozenset(word_starts),
        peak_share=peak_share,
    )


def found(*patterns: Pattern, before: Before | None = None) -> FoundPatterns:
    return FoundPatterns(patterns, 100, is_cut_short=False, before=before)


NUMBERS = [" 1", " 2", " 3", " 4", " 5"]


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (pattern([" University", " Institute"], " of"), "“of” after “University” or “Institute”"),
        (pattern(" not", " possible", " to"), "“to” after “not possible”"),
        (pattern(" the", None, " of", " a"), "“a” after “the … of”"),
        (pattern(" PEP", NUMBERS), "numbers after “PEP”"),
        (pattern(NUMBERS, "%", [" of", " off"]), "“of” or “off” after numbers and then “%”"),
        (pattern(NUMBERS, None, " of", " a"), "“a” after numbers and later “of”"),
        (pattern(" if", None, [" x", " y"], " a"), "“a” after “if” and later “x” or “y”"),
        (pattern("\n", None, " ri"), "“ri” some tokens after a line break"),
        (pattern(" array", None, None, None, " co"), "“co” some tokens after “array”"),
        (pattern(NUMBERS, None, None, " co"), "“co” some tokens after numbers"),
        (pattern(" a", None, " b", None, " c"), "“c” some tokens after “a … b”"),
        (pattern("\n", "\n", " The"), "“The” after an empty line"),
        (pattern("\n", "#", " The"), "“The” after a line break and then “#”"),
        (pattern(" x", "\n", " The"), "“The” after “x” and then a line break"),
        (pattern(" a", " ", " b"), "“b” after “a” and then a space"),
        (pattern(" the", "\n"), "a line break after “the”"),
        (pattern(" squ", "are"), "“…are” in “square”"),
        (pattern("qu", "ival", "ent"), "“…ent” in “…quivalent”"),
        (pattern(" this", " r", "andom"), "“…andom” in “random” after “this”"),
        (pattern("\n", "R", "et"), "“…et” in “Ret” after a line break"),
        (pattern([" bl", " gr"], "ow"), "“…ow” after “bl” or “gr”"),
        (pattern(" (", "x"), "“…x” after “(”"),
        (pattern(" squ", None, "are"), "“…are” some tokens after “squ”"),
        (pattern(" not", None), "anything after “not”"),
        (pattern(" two"), "“two”"),
        (pattern(" two", precision=0.2), "sometimes “two”"),
        (pattern(" two", precision=0.2, lack=Lack.LONGER), "“two” in some contexts"),
        (pattern(" two", precision=0.2, lack=Lack.BUDGET), "sometimes “two”"),
        (pattern(" two", lack=Lack.BUDGET), "“two”"),
        (pattern("`", "torch", word_starts=["torch"]), "“torch” after “`”"),
        (pattern("torch", " .", word_starts=["torch"]), "“.” after “torch”"),
        (pattern("tor", "ch", word_starts=["tor"]), "“…ch” in “torch”"),
        (pattern([f" w{i}" for i in range(9)], strongest=[" w7", " w5"]),
         "tokens such as “w0”, “w7”, “w5”, “w1”"),
        (pattern(" two", at_start=True), "“two” at the start of a window"),
        (pattern(None, at_start=True), "anything at the start of a window"),
        (pattern(None, " two", at_start=True), "“two” as the 2nd token of a window"),
        (pattern(None, None, None, at_start=True), "anything as the 3rd token of a window"),
        (pattern(*[None] * 11, " a", at_start=True), "“a” as the 12th token of a window"),
        (pattern(" Dear", " two", at_start=True), "“two” after “Dear” at the start of a window"),
        (pattern(None, " Dear", None, " two", at_start=True),
         "“two” some tokens after “Dear” at the start of a window"),
        (pattern(" {", "0", " }"), "“}” after “{0”"),
    ],
)  # fmt: skip
def test_a_pattern_is_said_in_words(one: Pattern, words: str) -> None:
    assert describe_pattern(one) == words


def test_of_a_long_quoted_text_the_end_is_kept() -> None:
    context = [" lorem", " ipsum", " dolor", " sit", " amet", ",", " elit", " sed", " tempor"]
    assert describe_pattern(pattern(*context, " et")) == (
        "“et” after “…ipsum dolor sit amet, elit sed tempor”"
    )
    in_one_piece = ["x" * 8 + "."] * 9
    words = describe_pattern(pattern(*in_one_piece, " et"))
    assert words.endswith("xxxxxxxx.xxxxxxxx.”")
    assert len(words) < 60


def test_a_clause_that_gets_too_long_says_less_of_each_set_and_then_of_the_far_ones() -> None:
    near = [" between", " through", " against", " without", " beyond"]
    far = [" something", " everyone", " anybody", " nothing", " others"]
    farther = [" yesterday", " tomorrow", " afterwards", " sometimes", " never"]
    assert describe_pattern(pattern(far, near, " of")) == (
        "“of” after tokens such as “something”, “anybody”, “everyone” and then tokens such as "
        "“between”, “against”, “beyond”"
    )
    assert describe_pattern(pattern(farther, far, near, " of")) == (
        "“of” after tokens such as “yesterday” and then tokens such as “something” "
        "and then tokens such as “between”"
    )
    assert describe_pattern(pattern(near, farther, farther, far, near, " of")) == (
        "“of” after … and then tokens such as “yesterday” and then tokens such as “something” "
        "and then tokens such as “between”"
    )
    assert describe_pattern(pattern(["x" * 99, *near], ["y" * 99, *far], ["z" * 99, *near])) == (
        f"tokens such as “…{'z' * 39}…” in some contexts"
    )


def test_clauses_stand_by_share_and_small_ones_are_left_out() -> None:
    text = describe_patterns(
        found(
            pattern(" a", " b", share=0.1),
            pattern(" c", " d", share=0.7),
            pattern(" e", " f", share=LEAST_SHARE / 2),
            pattern(" g", " h", share=0.15),
        )
    )
    assert text == "“d” after “c” (70%); “h” after “g” (15%); “b” after “a” (10%)"


def test_the_first_clause_stays_however_small() -> None:
    assert describe_patterns(found(pattern(" a", share=0.004))) == "“a” (< 1%)"


def test_no_more_than_a_few_clauses_are_said() -> None:
    patterns = [pattern(f" a{i}", f" b{i}", share=0.15) for i in range(6)]
    text = describe_patterns(found(*patterns))
    assert text.count("%") == MOST_CLAUSES


@pytest.mark.parametrize(
    ("shares", "is_several"),
    [((0.5, 0.4), True), ((0.7, 0.2), False), ((0.5, 0.1), False), ((0.3, 0.1, 0.1), False)],
)
def test_a_unit_does_several_things_when_none_is_most_and_others_are_much(
    shares: tuple[float, ...], is_several: bool
) -> None:
    patterns = [pattern(f" a{i}", f" b{i}", share=share) for i, share in enumerate(shares)]
    text = describe_patterns(found(*patterns))
    assert text.startswith("several things: ") == is_several


def test_clauses_about_the_same_tokens_are_one_thing() -> None:
    one = pattern(" wiki", "/", share=0.5)
    same, other = pattern(" i", [" /", "/"], share=0.4), pattern(" i", " the", share=0.4)
    assert not describe_patterns(found(one, same)).startswith("several")
    assert describe_patterns(found(one, other)).startswith("several")


def test_what_was_not_found_is_no_thing_of_its_own() -> None:
    lost = pattern(" the", share=0.4, lack=Lack.LONGER)
    text = describe_patterns(found(pattern(" a", " b", share=0.5), lost))
    assert text == "“b” after “a” (50%); “the” in some contexts (40%)"


@pytest.mark.parametrize(
    ("lacks", "told"),
    [([Lack.LONGER], Lack.LONGER), ([Lack.LONGER, Lack.BUDGET], Lack.BUDGET)],
)
def test_where_nothing_holds_the_reason_stands_behind_the_tokens(
    lacks: list[Lack], told: Lack
) -> None:
    patterns = [pattern(f" w{i}", share=0.5, lack=lack) for i, lack in enumerate(lacks)]
    text = describe_patterns(found(*patterns))
    assert text.startswith("“w0”")
    assert text.endswith(f"; no pattern found: {told.reason}")


def test_patterns_that_read_alike_are_one_clause() -> None:
    one, other = pattern(" a", NUMBERS, share=0.3), pattern(" a", [" 7", *NUMBERS], share=0.4)
    assert describe_patterns(found(one, other)) == "numbers after “a” (70%)"


def test_patterns_of_a_few_tokens_wherever_they_stand_are_one_clause() -> None:
    patterns = [
        pattern(" cat", share=0.3),
        pattern([" dog", " dogs"], share=0.2),
        pattern(" ox", share=0.1, lack=Lack.LONGER),
        pattern(" cow", share=0.05, lack=Lack.LONGER),
        pattern(" hen", share=0.2, precision=0.1),
        pattern(NUMBERS, share=0.1),
    ]
    assert describe_patterns(found(*patterns)) == (
        "several things: “cat”, “dog” or “dogs” (50%); sometimes “hen” (20%); "
        "“ox” or “cow” in some contexts (15%); numbers (10%)"
    )


def test_what_mostly_follows_ends_the_sentence() -> None:
    before = Before(" Al", 0.708)
    assert describe_patterns(found(pattern(" a"), before=before)) == (
        "“a” (100%); mostly before “Al” (71%)"
    )


def test_without_a_pattern_there_is_a_reason_and_no_text() -> None:
    with pytest.raises(CannotExplain, match="no pattern found: it is not active") as raised:
        describe_patterns(found())
    assert raised.value.reason == str(raised.value)


def test_the_words_do_not_depend_on_the_order_of_a_set() -> None:
    tokens = [" x1", " x2", " x3", " x4", " x5", " x6"]
    one, other = pattern(tokens, " a"), pattern([" x1", *reversed(tokens[1:])], " a")
    assert describe_pattern(one) == describe_pattern(other)


tokens = st.one_of(
    st.text(" abcXYZ019.(\n", min_size=1, max_size=12),
    st.sampled_from(["", "\x00", "\u200b", "\ud800", "<0xC6>", "<|endoftext|>", "\t", "的"]),
)
token_sets = st.none() | st.frozensets(tokens, min_size=1, max_size=9)


@st.composite
def patterns_drawn(draw: st.DrawFn) -> Pattern:
    sets: list[TokenSet] = draw(st.lists(token_sets, min_size=1, max_size=12))
    at_start = draw(st.booleans()) or (len(sets) > 1 and sets[0] is None)
    return Pattern(
        sets=tuple(sets),
        activation=1.0,
        n_matches=1,
        share=draw(st.floats(0, 0.25)),
        precision=draw(st.floats(0, 1)),
        seed=tuple(draw(tokens) if fits is None else min(fits) for fits in sets),
        at_start=at_start,
        lack=None if at_start or len(sets) > 1 else draw(st.sampled_from([None, *Lack])),
    )


def assert_readable(text: str) -> None:
    assert text.isprintable()
    assert text == text.strip()
    for empty in ("“”", "“…”", "such as ;", "such as ("):
        assert empty not in text
    text.encode()


@REPEATABLE
@given(patterns_drawn())
def test_any_pattern_reads_as_one_clause_that_is_not_too_long(one: Pattern) -> None:
    words = describe_pattern(one)
    assert_readable(words)
    assert len(words) <= MOST_CLAUSE_CHARS


@REPEATABLE
@given(st.lists(patterns_drawn(), min_size=1, max_size=6))
def test_any_patterns_read_as_one_sentence(patterns: list[Pattern]) -> None:
    text = describe_patterns(found(*patterns))
    assert "“”" not in text
    assert text.isprintable()
    assert 1 <= text.count("%)") <= MOST_CLAUSES
    without_words = describe_patterns(found(*(replace(p, share=0.001) for p in patterns)))
    assert without_words.count("< 1%") == 1


def test_what_most_strong_windows_show_is_said_however_rare_it_is() -> None:
    many = [pattern(f" word{i}", f" x{i}", share=0.2) for i in range(MOST_CLAUSES)]
    rare = pattern(" in", " peak", share=0.001, peak_share=0.6)
    said = "“peak” after “in” in the strongest windows (< 1%)"
    assert describe_patterns(found(*many, rare)).endswith(said)
    assert describe_patterns(found(*many, rare)).count(";") == MOST_CLAUSES - 1
    few = replace(rare, peak_share=0.4)
    assert "peak" not in describe_patterns(found(*many, few))
    usual = replace(rare, share=0.5)
    assert "strongest windows" not in describe_patterns(found(usual))
