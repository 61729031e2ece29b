"""A trie predicts by the longest pattern or context that fits, then by the table."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_explainer.records.explanation import TokenLookupTable
from neuron_explainer.records.patterns import (
    SHRINKAGE,
    ContextMeans,
    Pattern,
    PatternTrie,
    TokenSet,
)
from tests.scoring.builders import lookup_table

REPEATABLE = settings(derandomize=True, database=None, deadline=None, max_examples=300)
MANY = 10**9
"""Matches: nothing is drawn towards the table."""
TABLE = lookup_table({"a": 1.0, "b": 2.0, "c": 3.0}, default=-1.0)


def pattern(
    *sets: str | None, activation: float = 10.0, n_matches: int = MANY, at_start: bool = False
) -> Pattern:
    """sets: the members of each in one string, a character a token; None: any token."""
    return Pattern(
        sets=tuple(None if one is None else frozenset(one) for one in sets),
        activation=activation,
        n_matches=n_matches,
        share=0.5,
        precision=1.0,
        seed=tuple("x" if one is None else one[0] for one in sets),
        at_start=at_start,
    )


def last(trie: PatternTrie, text: str) -> float:
    """What is expected at the last token, a character each."""
    return trie.expected_activation(text, len(text) - 1)


def close(value: float) -> object:
    return pytest.approx(value, rel=1e-6)


def test_a_pattern_predicts_where_it_fits_and_the_table_elsewhere() -> None:
    trie = PatternTrie(TABLE, (pattern("ab", "c"),))
    assert trie.expected_activations("acbcccx") == (
        1.0, close(10.0), 2.0, close(10.0), 3.0, 3.0, -1.0
    )  # fmt: skip


def test_of_several_that_fit_the_one_with_most_tokens_wins() -> None:
    patterns = (
        pattern("b", "c", activation=10),
        pattern("a", "b", "c", activation=20),
        pattern("a", None, None, "c", activation=30),
        pattern("a", None, "c", activation=40),
    )
    trie = PatternTrie(TABLE, patterns)
    assert last(trie, "abc") == close(20)  # three tokens had to fit
    assert last(trie, "aabc") == close(20)
    assert last(trie, "axbc") == close(30)  # two, but it is longer than “bc”
    assert last(trie, "axc") == close(40)
    assert last(trie, "xbc") == close(10)


def test_of_equally_long_ones_the_one_that_fixes_nearer_tokens_wins() -> None:
    near = pattern("a", None, "b", "c", activation=-5)
    far = pattern("a", "b", None, "c", activation=50)
    for patterns in [(near, far), (far, near)]:
        assert last(PatternTrie(TABLE, patterns), "abbc") == close(-5)


def test_of_two_that_fit_equally_well_the_first_one_stays() -> None:
    one, other = pattern("a", "c", activation=10), pattern("ab", "c", activation=20)
    assert last(PatternTrie(TABLE, (one, other)), "ac") == close(10)
    assert last(PatternTrie(TABLE, (other, one)), "ac") == close(20)
    assert last(PatternTrie(TABLE, (one, other)), "bc") == close(20)


def test_contexts_are_looked_up_longest_first_and_then_the_table() -> None:
    contexts = ContextMeans(
        by_suffix={("b", "c"): 5.0, ("a", "b", "c"): 6.0}, by_previous={"b": 0.25}
    )
    trie = PatternTrie(TABLE, contexts=contexts)
    assert last(trie, "abc") == 6.0
    assert last(trie, "xbc") == 5.0
    assert last(trie, "c") == 3.0
    assert last(trie, "ba") == 1.25  # the table, with what the token before adds
    assert last(trie, "bx") == -0.75
    assert last(trie, "ca") == 1.0


def test_what_the_fit_text_says_of_a_context_comes_before_a_pattern_of_the_same_tokens() -> None:
    contexts = ContextMeans(by_suffix={("b", "c"): 5.0}, by_previous={})
    trie = PatternTrie(TABLE, (pattern("ab", "c"), pattern("a", "b", "c", activation=7)), contexts)
    assert last(trie, "bc") == 5.0
    assert last(trie, "ac") == close(10)
    assert last(trie, "abc") == close(7)  # longer


def test_the_place_adds_to_whatever_predicts() -> None:
    contexts = ContextMeans({("a", "b"): 5.0}, {"c": 0.5}, by_place=(1.0, 100.0))
    trie = PatternTrie(TABLE, (), contexts)
    assert trie.expected_activations("abab") == (2.0, 105.0, 1.0, 5.0)
    assert trie.expected_activations("ca") == (4.0, 101.5)


def test_a_pattern_of_the_current_token_alone_adds_only_tokens_the_table_lacks() -> None:
    trie = PatternTrie(TABLE, (pattern("ax", n_matches=2),))
    assert last(trie, "a") == 1.0
    assert last(trie, "x") == (2 * 10 + SHRINKAGE * -1) / (2 + SHRINKAGE)


def test_a_rare_pattern_is_drawn_towards_the_table() -> None:
    contexts = [pattern("a", "bc", n_matches=n) for n in (1, 2, 100)]
    for found in contexts:
        trie, n = PatternTrie(TABLE, (found,)), found.n_matches
        assert last(trie, "ab") == close((n * 10 + SHRINKAGE * 2) / (n + SHRINKAGE))
        assert last(trie, "ac") == close((n * 10 + SHRINKAGE * 3) / (n + SHRINKAGE))


def test_a_pattern_whose_last_token_may_be_any_is_drawn_towards_the_default() -> None:
    trie = PatternTrie(TABLE, (pattern("a", None, n_matches=2),))
    expected = (2 * 10 + SHRINKAGE * -1) / (2 + SHRINKAGE)
    assert trie.expected_activations("axac") == (1.0, expected, 1.0, close(expected))


def test_a_pattern_of_a_windows_start_is_left_to_what_the_place_adds() -> None:
    patterns = (pattern("a", at_start=True), pattern(None, "b", at_start=True))
    trie = PatternTrie(TABLE, patterns, ContextMeans({}, {}, (5.0,)))
    assert trie.expected_activations("aba") == (6.0, 2.0, 1.0)


@pytest.mark.parametrize("sets", [(), (None, frozenset("a")), (None, None)])
def test_a_pattern_begins_with_tokens_that_say_something(sets: tuple[TokenSet, ...]) -> None:
    with pytest.raises(ValueError, match="begins with a token set"):
        Pattern(sets, 1.0, 1, 1.0, 1.0, ("x",) * len(sets))


token_sets = st.frozensets(st.sampled_from("abc"), min_size=1, max_size=2)
patterns_drawn = st.builds(
    Pattern,
    sets=st.tuples(token_sets, st.lists(st.none() | token_sets, max_size=3)).map(
        lambda drawn: (drawn[0], *drawn[1])
    ),
    activation=st.integers(-20, 20).map(float),
    n_matches=st.integers(1, 5),
    share=st.just(0.5),
    precision=st.just(1.0),
    seed=st.just(("x",)),
    at_start=st.booleans(),
)
contexts_drawn = st.builds(
    ContextMeans,
    by_suffix=st.dictionaries(
        st.lists(st.sampled_from("abcd"), min_size=2, max_size=3).map(tuple),
        st.integers(-20, 20).map(float),
        max_size=6,
    ),
    by_previous=st.dictionaries(st.sampled_from("abc"), st.just(0.5)),
    by_place=st.lists(st.just(0.25), max_size=2).map(tuple),
)


def fits_at(one: Pattern, tokens: Sequence[str], place: int) -> bool:
    start = place + 1 - len(one.sets)
    return start >= 0 and all(
        fits is None or tokens[start + i] in fits for i, fits in enumerate(one.sets)
    )


def slow_expected(
    table: TokenLookupTable,
    patterns: Sequence[Pattern],
    contexts: ContextMeans,
    tokens: Sequence[str],
    place: int,
) -> float:
    """By looking at every pattern and context, the best last."""
    current = tokens[place]
    found: list[tuple[tuple[object, ...], float]] = []
    for number, one in enumerate(patterns):
        is_left_to_table = len(one.sets) == 1 and current in table.mean_by_token
        if one.at_start or is_left_to_table or not fits_at(one, tokens, place):
            continue
        base = table.default
        if one.sets[-1] is not None:
            base = table.mean_by_token.get(current, table.default)
        n = one.n_matches
        value = (n * one.activation + SHRINKAGE * base) / (n + SHRINKAGE)
        fixed = [fits is not None for fits in reversed(one.sets)]
        found.append(((sum(fixed), len(fixed), fixed, False, -number), value))
    for suffix, value in contexts.by_suffix.items():
        n = len(suffix)
        if place + 1 >= n and tuple(tokens[place + 1 - n : place + 1]) == suffix:
            found.append(((n, n, [True] * n, True, 0), value))
    if found:
        value = max(found)[1]
    else:
        value = table.mean_by_token.get(current, table.default)
        if place > 0:
            value += contexts.by_previous.get(tokens[place - 1], 0.0)
    return value + (contexts.by_place[place] if place < len(contexts.by_place) else 0.0)


@REPEATABLE
@given(st.lists(patterns_drawn, max_size=6), contexts_drawn, st.text("abcd", max_size=12))
def test_the_trie_does_as_a_slow_look_at_every_pattern_and_context(
    patterns: list[Pattern], contexts: ContextMeans, text: str
) -> None:
    table = lookup_table({"a": 1.0, "b": 2.0}, default=-1.0)
    expected = [slow_expected(table, patterns, contexts, text, i) for i in range(len(text))]
    trie = PatternTrie(table, tuple(patterns), contexts)
    assert list(trie.expected_activations(text)) == expected
