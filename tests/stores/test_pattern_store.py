"""What was found of a unit reads back as it was, and a group of units is whole or absent."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_explainer.errors import StoreError
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.patterns import (
    Before,
    ContextMeans,
    FoundPatterns,
    Lack,
    Pattern,
)
from neuron_explainer.stores.pattern_store import PatternStore, StoredContexts

REPEATABLE = settings(derandomize=True, database=None, deadline=None, max_examples=60)
UNIT, OTHER, THIRD = NeuronId(0, 7), NeuronId(0, 8), NeuronId(3, 0)
DISPLAY = ("a", " b", "\n", "<0xC6>", "\udcff")
TOKENS = np.array(
    [[-1, 0, 1], [-1, 3, 4], [0, 1, 2], [4, 4, 4], [-1, 2, -1], [-1, 0, -1]], np.int32
)
"""Two pairs, two triples, two tokens before any other."""
PATTERN = Pattern(
    sets=(frozenset(["a", "\udcff"]), None, frozenset(["\n"])), activation=1 / 3, n_matches=2,
    share=0.1, precision=1.0, seed=("a", " b", "\n"), seed_activations=(None, 0.0, 5.0),
    peak_share=0.25, lack=Lack.BUDGET, strongest=("\n",), word_starts=frozenset(["a", "\udcff"]),
)  # fmt: skip
FOUND = FoundPatterns((PATTERN,), 991, is_cut_short=True, before=Before("\udcff", 0.7))
NOTHING = FoundPatterns((), 0, is_cut_short=False)


def contexts(values: Mapping[int, float], by_place: tuple[float, ...] = ()) -> StoredContexts:
    """values: by row of TOKENS."""
    return StoredContexts(
        np.array(sorted(values), np.int32),
        np.array([values[row] for row in sorted(values)], np.float32),
        np.array(by_place, np.float32),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "patterns.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[PatternStore]:
    with PatternStore(path, "choices", "means") as opened:
        opened.write_contexts(TOKENS)
        yield opened


def test_context_means_read_back_by_the_tokens_of_their_rows(store: PatternStore) -> None:
    values = {0: 1.5, 1: -2.0, 2: 0.25, 3: 8.0, 4: 0.5, 5: -0.5}
    store.write_unit_contexts([(UNIT, contexts(values, (1.0, -1.0)))])
    assert store.read_contexts(UNIT, DISPLAY) == ContextMeans(
        by_suffix={
            ("a", " b"): 1.5,
            ("<0xC6>", "\udcff"): -2.0,
            ("a", " b", "\n"): 0.25,
            ("\udcff", "\udcff", "\udcff"): 8.0,
        },
        by_previous={"\n": 0.5, "a": -0.5},
        by_place=(1.0, -1.0),
    )


@REPEATABLE
@given(
    st.dictionaries(st.integers(0, len(TOKENS) - 1), st.floats(width=32, allow_nan=False)),
    st.lists(st.floats(width=32, allow_nan=False), max_size=4).map(tuple),
)
def test_any_context_means_read_back_unchanged(
    values: dict[int, float], by_place: tuple[float, ...]
) -> None:
    with TemporaryDirectory() as folder, PatternStore(Path(folder, "p.sqlite"), "f", "c") as opened:
        opened.write_contexts(TOKENS)
        opened.write_unit_contexts([(UNIT, contexts(values, by_place))])
        read = opened.read_contexts(UNIT, DISPLAY)
    assert read.by_place == by_place
    assert [*read.by_suffix.values(), *read.by_previous.values()] == [
        values[row] for row in sorted(values)
    ]


numbers = st.floats(allow_nan=False, allow_infinity=False)
strings = st.text(max_size=5) | st.sampled_from(DISPLAY)
patterns_drawn = st.builds(
    Pattern,
    sets=st.tuples(
        st.frozensets(strings, min_size=1),
        st.lists(st.none() | st.frozensets(strings, min_size=1), max_size=3),
    ).map(lambda drawn: (drawn[0], *drawn[1])),
    activation=numbers,
    n_matches=st.integers(1, 10**9),
    share=st.floats(0, 1),
    precision=st.floats(0, 1),
    seed=st.lists(strings, max_size=4).map(tuple),
    seed_activations=st.lists(st.none() | numbers, max_size=4).map(tuple),
    at_start=st.booleans(),
    lack=st.none() | st.sampled_from(Lack),
    strongest=st.lists(strings, max_size=4).map(tuple),
    word_starts=st.frozensets(strings),
)
found_drawn = st.builds(
    FoundPatterns,
    patterns=st.lists(patterns_drawn, max_size=4).map(tuple),
    n_tokens=st.integers(0, 10**9),
    is_cut_short=st.booleans(),
    before=st.none() | st.builds(Before, strings, st.floats(0, 1)),
)


@REPEATABLE
@given(found_drawn, found_drawn)
def test_any_patterns_read_back_unchanged(one: FoundPatterns, other: FoundPatterns) -> None:
    with TemporaryDirectory() as folder, PatternStore(Path(folder, "p.sqlite"), "f", "c") as opened:
        opened.write_contexts(TOKENS)
        opened.write_unit_contexts((unit, contexts({})) for unit in (UNIT, OTHER))
        opened.write_patterns([(UNIT, one), (OTHER, other)])
        assert opened.read_patterns(UNIT) == one
        assert opened.read_patterns(OTHER) == other


def test_units_are_known_from_their_contexts_on_and_then_with_their_patterns(
    store: PatternStore,
) -> None:
    assert store.units_with_contexts() == set()
    store.write_unit_contexts((unit, contexts({0: 1.0})) for unit in (UNIT, OTHER, THIRD))
    store.write_patterns([(OTHER, NOTHING)])
    assert store.units_with_contexts() == {UNIT, OTHER, THIRD}
    assert store.units_with_patterns() == {OTHER}
    assert store.read_patterns(OTHER) == NOTHING


@pytest.mark.parametrize("has_contexts", [False, True])
def test_a_unit_that_is_not_there_is_told(store: PatternStore, has_contexts: bool) -> None:
    if has_contexts:
        store.write_unit_contexts([(UNIT, contexts({}))])
    with pytest.raises(StoreError, match=r"neuron 0:7 has no patterns yet; run `explain`"):
        store.read_patterns(UNIT)
    with pytest.raises(StoreError, match=r"neuron 0:8 has no patterns yet"):
        store.read_contexts(OTHER, DISPLAY)


def test_patterns_of_several_budgets_share_their_context_means(
    store: PatternStore, path: Path
) -> None:
    store.write_unit_contexts([(UNIT, contexts({0: 1.0}))])
    store.write_patterns([(UNIT, FOUND)])
    with PatternStore(path, "a larger budget", "means") as other:
        assert other.units_with_contexts() == {UNIT}
        assert other.units_with_patterns() == set()
        other.write_patterns([(UNIT, NOTHING)])
        assert other.read_contexts(UNIT, DISPLAY) == store.read_contexts(UNIT, DISPLAY)
    assert store.read_patterns(UNIT) == FOUND


def test_contexts_that_are_there_stay(store: PatternStore) -> None:
    store.write_unit_contexts([(UNIT, contexts({0: 1.0}))])
    store.write_unit_contexts([(UNIT, contexts({0: 2.0})), (OTHER, contexts({0: 3.0}))])
    store.write_contexts(TOKENS[::-1])
    assert store.read_contexts(UNIT, DISPLAY).by_suffix == {("a", " b"): 1.0}
    assert store.read_contexts(OTHER, DISPLAY).by_suffix == {("a", " b"): 3.0}


def test_an_end_in_the_middle_of_a_group_leaves_none_of_it(store: PatternStore) -> None:
    def units() -> Iterator[tuple[NeuronId, StoredContexts]]:
        yield UNIT, contexts({0: 1.0})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write_unit_contexts(units())
    assert store.units_with_contexts() == set()
    store.write_unit_contexts((unit, contexts({})) for unit in (UNIT, OTHER))

    def found() -> Iterator[tuple[NeuronId, FoundPatterns]]:
        yield UNIT, FOUND
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write_patterns(found())
    assert store.units_with_patterns() == set()


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.stores.test_pattern_store import FOUND, OTHER, TOKENS, UNIT, contexts
from neuron_explainer.stores.pattern_store import PatternStore
store = PatternStore(Path(sys.argv[1]), "choices", "means")
store.write_contexts(TOKENS)
store.write_unit_contexts((unit, contexts({0: 1.0})) for unit in (UNIT, OTHER))
def found():
    yield UNIT, FOUND
    os.kill(os.getpid(), signal.SIGKILL)
store.write_patterns(found())
"""


def test_a_killed_process_leaves_whole_groups_alone(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert done.returncode == -9
    with PatternStore(path, "choices", "means") as opened:
        assert opened.units_with_contexts() == {UNIT, OTHER}
        assert opened.units_with_patterns() == set()
        opened.write_patterns([(UNIT, FOUND), (OTHER, NOTHING)])
        assert opened.read_patterns(UNIT) == FOUND


def test_a_value_that_is_no_number_is_not_written(store: PatternStore) -> None:
    store.write_unit_contexts([(UNIT, contexts({}))])
    before = Before("a", float("nan"))
    with pytest.raises(ValueError, match="JSON compliant"):
        store.write_patterns([(UNIT, FoundPatterns((), 0, False, before))])
    assert store.units_with_patterns() == set()


def test_other_choices_have_patterns_of_their_own(store: PatternStore, path: Path) -> None:
    store.write_unit_contexts([(UNIT, contexts({0: 1.0}))])
    store.write_patterns([(UNIT, FOUND)])
    with PatternStore(path, "other choices", "other means") as other:
        assert other.units_with_contexts() == set()
        with pytest.raises(StoreError, match="has no patterns yet"):
            other.read_patterns(UNIT)
        other.write_contexts(TOKENS[::-1])
        other.write_unit_contexts([(UNIT, contexts({5: 2.0}))])
        other.write_patterns([(UNIT, NOTHING)])
        assert other.read_contexts(UNIT, DISPLAY).by_suffix == {("a", " b"): 2.0}
    assert store.read_patterns(UNIT) == FOUND
    assert store.read_contexts(UNIT, DISPLAY).by_suffix == {("a", " b"): 1.0}


def test_a_reader_sees_what_is_written_and_writes_nothing(store: PatternStore, path: Path) -> None:
    with PatternStore(path, "choices", "means", read_only=True) as reader:
        assert reader.units_with_contexts() == set()
        store.write_unit_contexts([(UNIT, contexts({0: 1.0}))])
        store.write_patterns([(UNIT, FOUND)])
        assert reader.read_patterns(UNIT) == FOUND
        with pytest.raises(StoreError, match="readonly"):
            reader.write_patterns([(UNIT, NOTHING)])
    assert store.read_patterns(UNIT) == FOUND


def test_a_reader_makes_no_file(path: Path) -> None:
    with pytest.raises(StoreError, match=r"patterns\.sqlite"):
        PatternStore(path, "choices", "means", read_only=True)
    assert not path.parent.exists()


@pytest.mark.parametrize("damage", ["x'00'", "substr(found, 1, 9)", "zeroblob(20)"])
def test_a_damaged_row_is_told_in_one_line(store: PatternStore, path: Path, damage: str) -> None:
    store.write_unit_contexts([(UNIT, contexts({0: 1.0}))])
    store.write_patterns([(UNIT, FOUND)])
    connection = sqlite3.connect(path)
    for table in ("unit_contexts", "unit_patterns"):
        connection.execute(f"UPDATE {table} SET found = {damage}")
    connection.commit()
    connection.close()
    for read in (lambda: store.read_patterns(UNIT), lambda: store.read_contexts(UNIT, DISPLAY)):
        with pytest.raises(StoreError, match=r"patterns\.sqlite is damaged .*remove it") as raised:
            read()
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("tokens", [None, TOKENS[:1], np.full((9, 3), 100)])
def test_contexts_that_do_not_fit_their_tokens_are_told(
    path: Path, tokens: np.ndarray[tuple[int, int], np.dtype[np.int32]] | None
) -> None:
    with PatternStore(path, "choices", "means") as opened:
        if tokens is not None:
            opened.write_contexts(tokens)
        opened.write_unit_contexts([(UNIT, contexts({5: 1.0}))])
        with pytest.raises(StoreError, match="is damaged"):
            opened.read_contexts(UNIT, DISPLAY)


def test_a_file_that_is_no_database_is_refused_in_one_line(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database, but long enough to be taken for the head of one" * 20)
    with pytest.raises(StoreError, match=r"patterns\.sqlite: file is not a database"):
        PatternStore(path, "choices", "means")
