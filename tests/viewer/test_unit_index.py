"""The viewer's index follows the results: the same whether it was made at once or bit by bit."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from neuron_explainer.errors import StoreError
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.result_rows import ResultRows
from neuron_explainer.stores.results import BASELINE, Results
from neuron_explainer.viewer.selection import Selection
from neuron_explainer.viewer.unit_index import UnitIndex
from neuron_explainer.viewer.unit_rows import UnitRow, UnitRows
from tests.viewer.served_fakes import FakeRecords
from tests.viewer.viewed_runs import METRIC, UNITS, scored, write_method, write_run


def update(index: Path, results: Path) -> bool:
    with ResultRows(results) as feed, UnitIndex(index) as opened:
        return opened.update(feed, FakeRecords().read_density)


def contents(index: Path) -> dict[str, list[UnitRow]]:
    """By method."""
    with UnitRows(index) as rows:
        return {m.fingerprint: list(rows.all(m, Selection())) for m in rows.methods()}


def words_of(index: Path) -> list[tuple[object, ...]]:
    """What the full-text index says of every row and it is ranked by, by the row's unit."""
    with sqlite3.connect(index) as connection:
        found = connection.execute(
            "SELECT method, layer_index, neuron_index, n_spaces, ranks.score FROM words "
            "JOIN explanations ON explanations.id = words.rowid LEFT JOIN ranks USING (id) "
            "WHERE words MATCH 'time OR colour OR verbs' ORDER BY 1, 2, 3"
        ).fetchall()
        ((n_ranks,),) = connection.execute("SELECT count(*) FROM ranks")
    connection.close()
    assert n_ranks == len(found)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_an_index_that_followed_the_results_is_the_one_that_is_made_at_once(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    results_path = tmp_path / "results.sqlite"
    failing: list[NeuronId] = []
    with Results(results_path) as results:
        results.use_method("0a", {})
        results.use_method("0b", {BASELINE: "0a"})
        todo = [(method, unit) for method in ("0a", "0b") for unit in UNITS]
        rng.shuffle(todo)
        while todo:
            for _ in range(rng.randrange(1, 9)):
                if not todo:
                    break
                method, unit = todo.pop()
                if rng.random() < 0.3:  # tried again later: the row gives way
                    results.add_unexplained(method, unit, "e", "timed out", is_final=False)
                    failing.append(unit)
                    todo.insert(rng.randrange(len(todo) + 1), (method, unit))
                else:
                    text = f"{rng.choice(['time', 'colour', 'verbs'])} {unit}"
                    value = rng.choice([None, 0.1, 0.5, 0.9])
                    results.add_explained(method, Explanation(unit, text, "e"), scored(value))
            update(tmp_path / "followed.sqlite", results_path)
    update(tmp_path / "made.sqlite", results_path)
    assert failing
    assert contents(tmp_path / "followed.sqlite") == contents(tmp_path / "made.sqlite")
    assert words_of(tmp_path / "followed.sqlite") == words_of(tmp_path / "made.sqlite")


def test_every_unit_of_every_method_has_the_row_that_its_result_says(tmp_path: Path) -> None:
    results_path = write_run(tmp_path)
    update(tmp_path / "i.sqlite", results_path)
    found = contents(tmp_path / "i.sqlite")
    with Results(results_path, read_only=True) as results:
        for method in ("0a", "0b"):
            units = list(results.units(method))
            assert [row.neuron_id for row in found[method]] == [unit.neuron_id for unit in units]
            for row, unit in zip(found[method], units, strict=True):
                assert row.text == unit.text
                assert row.reason == unit.unscored_reason
                assert row.score == (None if unit.score is None else unit.score.value)
                assert row.density == 0.125
        before = {unit.neuron_id: unit.score for unit in results.units("0a")}
    for row in found["0b"]:
        beside = before[row.neuron_id]
        is_comparable = row.score is not None and beside is not None
        if is_comparable and beside is not None and beside.value is not None:
            assert row.gain == pytest.approx(row.score - beside.value)  # type: ignore[operator]
        else:
            assert row.gain is None
    assert all(row.baseline is None for row in found["0a"])


def test_a_baseline_of_another_metric_is_not_compared(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    with Results(path) as results:
        write_method(results, "0a", metric="rank_correlation")
        write_method(results, "0b", choices={BASELINE: "0a"}, metric=METRIC)
    update(tmp_path / "i.sqlite", path)
    assert all(row.baseline is None for row in contents(tmp_path / "i.sqlite")["0b"])


def test_nothing_new_changes_nothing(tmp_path: Path) -> None:
    results_path = write_run(tmp_path)
    assert update(tmp_path / "i.sqlite", results_path)
    assert not update(tmp_path / "i.sqlite", results_path)


def test_other_results_at_the_same_place_are_read_anew(tmp_path: Path) -> None:
    results_path = write_run(tmp_path)
    update(tmp_path / "i.sqlite", results_path)
    for path in tmp_path.glob("results.sqlite*"):
        path.unlink()
    with Results(results_path) as results:
        write_method(results, "0c", units=UNITS[:3])
    update(tmp_path / "i.sqlite", results_path)
    found = contents(tmp_path / "i.sqlite")
    assert {method: len(rows) for method, rows in found.items()} == {"0c": 3}


def test_an_index_of_another_version_is_made_anew(tmp_path: Path) -> None:
    results_path = write_run(tmp_path)
    update(tmp_path / "i.sqlite", results_path)
    before = contents(tmp_path / "i.sqlite")
    with sqlite3.connect(tmp_path / "i.sqlite") as connection:
        connection.execute("UPDATE about SET value = 'old' WHERE name = 'version'")
        connection.execute("UPDATE explanations SET score = 7")
    connection.close()
    with UnitRows(tmp_path / "i.sqlite") as rows:
        assert not rows.is_made
    update(tmp_path / "i.sqlite", results_path)
    assert contents(tmp_path / "i.sqlite") == before


def test_progress_is_told_and_ends_with_all(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    results_path = write_run(tmp_path)
    with ResultRows(results_path) as feed, UnitIndex(tmp_path / "i.sqlite") as index:
        index.update(feed, FakeRecords().read_density, lambda n, of: told.append((n, of)))
    assert told[-1] == (2 * len(UNITS), 2 * len(UNITS))


def test_a_file_that_is_no_index_is_named(tmp_path: Path) -> None:
    (tmp_path / "i.sqlite").write_bytes(b"no database, but long enough for a header" * 40)
    with pytest.raises(StoreError, match=r"i\.sqlite"):
        UnitIndex(tmp_path / "i.sqlite")
