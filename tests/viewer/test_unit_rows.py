"""Lists: every unit once, in order, whatever the size of a page; filters let through what fits."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from neuron_explainer.errors import UsageError
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.result_rows import ResultRows
from neuron_explainer.viewer.index_schema import COLUMNS
from neuron_explainer.viewer.list_sql import order_by, passing
from neuron_explainer.viewer.selection import RELEVANCE, SORTS, Selection, parse_selection
from neuron_explainer.viewer.unit_index import UnitIndex
from neuron_explainer.viewer.unit_rows import Method, UnitRow, UnitRows
from tests.viewer.served_fakes import FakeRecords
from tests.viewer.viewed_runs import UNITS, write_run

SORTED_BY = [sort for sort in SORTS if sort != RELEVANCE]


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[UnitRows]:
    results = write_run(tmp_path)
    with ResultRows(results) as feed, UnitIndex(tmp_path / "i.sqlite") as index:
        rng = random.Random(3)
        index.update(feed, lambda i: None if rng.random() < 0.2 else FakeRecords().read_density(i))
    with UnitRows(tmp_path / "i.sqlite") as opened:
        yield opened


def current(rows: UnitRows) -> Method:
    method = rows.method(None)
    assert method is not None
    return method


def pages(rows: UnitRows, selection: Selection, n: int) -> list[UnitRow]:
    """All of a list, n rows at a time."""
    found: list[UnitRow] = []
    cursor: str | None = None
    while True:
        page, cursor = rows.after(current(rows), selection, cursor, n)
        assert len(page) <= n
        found += page
        if cursor is None:
            return found


@pytest.mark.parametrize("desc", [False, True])
@pytest.mark.parametrize("sort", SORTED_BY)
def test_pages_of_any_size_hold_every_unit_once_in_the_same_order(
    rows: UnitRows, sort: str, desc: bool
) -> None:
    selection = Selection(sort=sort, desc=desc)
    whole = rows.at(current(rows), selection, 0, 1000)
    assert sorted(row.neuron_id for row in whole) == list(UNITS)
    for n in (1, 2, 3, 5, len(UNITS), len(UNITS) + 1):
        assert pages(rows, selection, n) == whole
    for place in range(len(UNITS)):
        assert rows.at(current(rows), selection, place, 3) == whole[place : place + 3]


@pytest.mark.parametrize("desc", [False, True])
@pytest.mark.parametrize("sort", COLUMNS)
def test_values_are_in_order_and_what_has_none_comes_last(
    rows: UnitRows, sort: str, desc: bool
) -> None:
    whole = rows.at(current(rows), Selection(sort=sort, desc=desc), 0, 1000)
    values = [getattr(row, COLUMNS[sort]) for row in whole]
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=desc)
    assert all(value is None for value in values[len(known) :])


def fits(selection: Selection) -> Callable[[UnitRow], bool]:
    """The filters, the slow way."""

    def decide(row: UnitRow) -> bool:
        bounds = (
            (row.score, selection.min_score, selection.max_score),
            (row.density, selection.min_density, selection.max_density),
        )
        for value, low, high in bounds:
            if low is not None and (value is None or value < low):
                return False
            if high is not None and (value is None or value > high):
                return False
        is_scored = {"scored": True, "unscored": False}.get(selection.status or "")
        return (
            selection.layer in (None, row.neuron_id.layer_index)
            and selection.model in (None, row.model)
            and is_scored in (None, row.score is not None)
        )

    return decide


@pytest.mark.parametrize(
    "query",
    [
        {"layer": "1"},
        {"layer": "7"},
        {"min_score": "0.2"},
        {"min_score": "0.2", "max_score": "0.5", "layer": "0"},
        {"status": "scored", "model": "m1"},
        {"status": "unscored"},
        {"min_density": "0.1"},
        {"max_density": "0.1"},
        {"model": "nobody"},
    ],
)
@pytest.mark.parametrize("words", ["", "time colour"])
def test_filters_let_through_what_fits_in_lists_and_in_searches(
    rows: UnitRows, query: dict[str, str], words: str
) -> None:
    every = rows.at(current(rows), Selection(q=words), 0, 1000) if words else None
    whole = every or rows.at(current(rows), Selection(), 0, 1000)
    selection = parse_selection({**query, "q": words, "sort": "unit"})
    expected = list(filter(fits(selection), whole))
    found = rows.at(current(rows), selection, 0, 1000)
    if not words:
        assert found == expected
        assert rows.count(current(rows), selection) == len(expected)
    else:  # which words are enough depends on how many have them all
        assert found == list(filter(fits(selection), found))
        assert all("time" in str(row.text) or "colour" in str(row.text) for row in found)


@pytest.mark.parametrize("desc", [False, True])
@pytest.mark.parametrize("sort", SORTED_BY)
def test_a_list_is_read_in_the_order_of_an_index_and_not_sorted_whatever_passes(
    rows: UnitRows, sort: str, desc: bool
) -> None:
    for query in (
        Selection(), Selection(layer=1), Selection(min_score=0.5), Selection(max_density=0.2),
        Selection(layer=1, max_density=0.2, min_score=0.1), Selection(status="unscored"),
        Selection(model="m1"), Selection(model="m1", scorer="s", min_density=0.1, layer=0),
    ):  # fmt: skip
        selection = replace(query, sort=sort, desc=desc)
        where, values = passing(1, selection, None)
        plan = rows.select(
            f"EXPLAIN QUERY PLAN SELECT id FROM explanations WHERE {where} "
            f"{order_by(selection)} LIMIT 50", values,
        )  # fmt: skip
        steps = [step[-1] for step in plan]
        assert not [step for step in steps if "ORDER BY" in step]


def test_a_search_finds_those_with_the_word_and_no_others(rows: UnitRows) -> None:
    everyone = rows.at(current(rows), Selection(), 0, 1000)
    hits = rows.search(current(rows), Selection(q="brackets", sort=RELEVANCE), 0, 1000)
    expected = {row.neuron_id for row in everyone if "brackets" in (row.text or "")}
    assert {row.neuron_id for row in hits.rows} == expected
    assert expected


def test_pages_of_a_search_are_parts_of_one_list(rows: UnitRows) -> None:
    selection = Selection(q="time colour", sort=RELEVANCE)
    whole = rows.search(current(rows), selection, 0, 1000)
    assert len(whole.rows) > 4
    assert not whole.has_more
    for n in (1, 2, 3):
        parts = [rows.search(current(rows), selection, i, n) for i in range(0, len(whole.rows), n)]
        assert tuple(row for part in parts for row in part.rows) == whole.rows
        assert [part.has_more for part in parts] == [True] * (len(parts) - 1) + [False]


def test_rows_that_go_while_a_search_is_read_are_left_out(rows: UnitRows, tmp_path: Path) -> None:
    selection = Selection(q="time", sort=RELEVANCE)
    whole = [row for page in rows.pages(current(rows), selection, 1) for row in page]
    pages_left = rows.pages(current(rows), selection, 1)
    assert next(pages_left) == whole[:1]
    with closing(sqlite3.connect(tmp_path / "i.sqlite")) as file, file:
        file.execute("DELETE FROM explanations")
    assert [row for page in pages_left for row in page] == []
    assert len(whole) > 2


def test_neighbours_lead_through_all_units_and_back(rows: UnitRows) -> None:
    method = current(rows)
    forward = [UNITS[0]]
    while (step := rows.neighbour(method, forward[-1], forward=True)) is not None:
        forward.append(step)
    assert forward == list(UNITS)
    for before, after in pairwise(UNITS):
        assert rows.neighbour(method, after, forward=False) == before
    assert rows.neighbour(method, NeuronId(9, 9), forward=False) == UNITS[-1]


def test_a_random_unit_is_one_of_the_method_s_and_not_always_the_same(rows: UnitRows) -> None:
    found = {rows.random(current(rows)) for _ in range(60)}
    assert found <= set(UNITS)
    assert len(found) > 1


def test_rows_of_units_come_in_their_order_and_unknown_ones_are_left_out(rows: UnitRows) -> None:
    wanted = [UNITS[5], UNITS[1], NeuronId(40, 1)]
    found = rows.of_units(current(rows), wanted)
    assert [row.neuron_id for row in found] == [UNITS[1], UNITS[5]]


@pytest.mark.parametrize("cursor", ["", "x", "1.0@", "@", "zz@1:2", "0x1p99999@1:2", "1:2@"])
def test_a_cursor_that_no_page_gave_is_refused(rows: UnitRows, cursor: str) -> None:
    with pytest.raises(UsageError, match="after="):
        rows.after(current(rows), Selection(sort="score"), cursor, 5)


def test_a_method_that_is_not_there_is_refused(rows: UnitRows) -> None:
    with pytest.raises(UsageError, match="no method"):
        rows.method("0' OR 1=1")
