"""What is kept between requests is what would be read anew, and goes with the index it is of."""

from __future__ import annotations

import shutil
from itertools import product
from pathlib import Path

import pytest

from neuron_explainer.errors import StoreError
from neuron_explainer.stores import library_search
from neuron_explainer.stores.results import Results
from neuron_explainer.viewer.keeper import IndexKeeper
from neuron_explainer.viewer.kept_rows import N_IDLE, KeptRows
from neuron_explainer.viewer.selection import RELEVANCE, Selection
from neuron_explainer.viewer.unit_rows import UnitRows
from tests.viewer.viewed_runs import UNITS, WORDS, run_source, write_method, write_run

SELECTIONS = (Selection(), Selection(layer=1), Selection(min_score=0.3), Selection(q="time"))
SEARCHES = (*WORDS, "time verbs", "colour numbers", "bracket", "names verbs time", "nothing")
FILTERS = (
    {}, {"layer": 1}, {"min_score": 0.3}, {"status": "unscored"}, {"max_density": 0.1},
    {"model": "m1", "min_score": 0.1, "layer": 0},
)  # fmt: skip


@pytest.fixture
def keeper(tmp_path: Path) -> IndexKeeper:
    write_run(tmp_path)
    keeper = IndexKeeper(run_source(tmp_path))
    keeper.update()
    return keeper


def assert_nothing_is_old(keeper: IndexKeeper) -> None:
    with UnitRows(keeper.path) as fresh, keeper.rows() as kept:
        assert kept is not None
        for method in fresh.methods():
            for selection in SELECTIONS:
                assert keeper.count(kept, method, selection) == fresh.count(method, selection)
            for words, filters in product(SEARCHES, FILTERS):
                selection = Selection(q=words, sort=RELEVANCE, **filters)  # type: ignore[arg-type]
                expected = fresh.search(method, selection, 0, 50)
                assert kept.search(method, selection, 0, 50) == expected
                assert kept.search_beside(method, selection, 9) == fresh.search_beside(
                    method, selection, 9
                )


@pytest.mark.parametrize("most_few", [2, library_search.MOST_FEW])
def test_what_is_kept_is_what_is_read_anew_after_any_change(
    keeper: IndexKeeper, monkeypatch: pytest.MonkeyPatch, most_few: int
) -> None:
    monkeypatch.setattr(library_search, "MOST_FEW", most_few)
    for number in range(3):
        for _ in range(2):  # the second time it is kept
            assert_nothing_is_old(keeper)
        with Results(keeper.source.watched[0]) as results:
            write_method(results, f"1{number}", units=UNITS[: 3 * number + 2], seed=number)
        keeper.update()
    assert_nothing_is_old(keeper)


def test_two_at_once_have_rows_of_their_own_and_they_are_lent_again(keeper: IndexKeeper) -> None:
    with keeper.rows() as one, keeper.rows() as other:
        assert one is not other
    with keeper.rows() as again:
        assert again in (one, other)


def test_rows_are_closed_when_there_is_an_index_of_its_own_time_no_more(
    keeper: IndexKeeper,
) -> None:
    with keeper.rows() as before, keeper.rows() as under_way:
        assert before is not None and under_way is not None
    with keeper.rows() as under_way:
        keeper.update()
        assert under_way is not None
        assert under_way.methods()
    for rows in (before, under_way):
        with pytest.raises(StoreError):
            rows.methods()


def test_after_the_end_rows_are_lent_and_none_is_kept(keeper: IndexKeeper) -> None:
    keeper.close()
    with keeper.rows() as rows:
        assert rows is not None
        (method, *_) = rows.methods()
        assert keeper.count(rows, method, Selection()) == rows.count(method, Selection())
    with pytest.raises(StoreError):
        rows.methods()


def test_no_more_rows_are_kept_than_a_few(keeper: IndexKeeper) -> None:
    lent = [keeper.rows() for _ in range(N_IDLE + 2)]
    rows = [one.__enter__() for one in lent]
    for one in lent:
        one.__exit__(None, None, None)
    n_closed = 0
    for one in rows:
        assert one is not None
        try:
            one.methods()
        except StoreError:
            n_closed += 1
    assert n_closed == 2


def test_an_index_that_was_moved_away_is_not_read(keeper: IndexKeeper, tmp_path: Path) -> None:
    kept = KeptRows(keeper.path)
    with kept.lend() as rows:
        assert rows is not None
    other = shutil.copy(keeper.path, tmp_path / "other.sqlite")
    keeper.path.unlink()
    with kept.lend() as none:
        assert none is None
    Path(other).rename(keeper.path)
    with kept.lend() as found:
        assert found is not None and found is not rows
        assert found.methods()


def test_rows_that_failed_are_not_lent_again(keeper: IndexKeeper) -> None:
    with keeper.rows() as sound:
        assert sound is not None
    with pytest.raises(StoreError), keeper.rows() as failing:
        assert failing is sound
        failing.select("SELECT no_such_column FROM methods")
    with keeper.rows() as other:
        assert other is not None
        assert other is not sound
        assert other.methods()
