"""Two methods beside each other: as the paired scores of the report have it, the slow way."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuron_explainer.stores.comparison import PairedScores
from neuron_explainer.stores.result_rows import ResultRows
from neuron_explainer.stores.results import Results
from neuron_explainer.viewer.compare import Side, compare
from neuron_explainer.viewer.unit_index import UnitIndex
from neuron_explainer.viewer.unit_rows import UnitRows
from tests.viewer.served_fakes import FakeRecords
from tests.viewer.viewed_runs import UNITS, write_method, write_run


def index_of(folder: Path) -> Path:
    path = folder / "i.sqlite"
    with ResultRows(folder / "results.sqlite") as feed, UnitIndex(path) as index:
        index.update(feed, FakeRecords().read_density)
    return path


def side(rows: UnitRows, fingerprint: str, key: str = "a") -> Side:
    method = rows.method(fingerprint)
    assert method is not None
    return Side(key, f"run {key}", method)


def test_two_methods_of_a_run_are_compared_as_in_the_report(tmp_path: Path) -> None:
    write_run(tmp_path)
    with UnitRows(index_of(tmp_path)) as rows:
        found = compare(rows, side(rows, "0b"), rows, side(rows, "0a"))
    with Results(tmp_path / "results.sqlite", read_only=True) as results:
        paired = PairedScores.of(results.units("0b"), results.units("0a"))
    expected = paired.compare()
    assert expected is not None
    assert found.overall is not None
    for name in ("n_units", "n_better", "n_same", "n_worse"):
        assert getattr(found.overall, name) == getattr(expected, name)
    for name in ("mean", "baseline_mean", "difference"):
        assert getattr(found.overall, name) == pytest.approx(getattr(expected, name))
    assert found.overall.low < found.overall.difference < found.overall.high
    assert found.dots == paired.movers
    assert [m.mover for m in found.gains] == list(paired.gains(10))
    assert [m.mover for m in found.losses] == list(paired.losses(10))
    assert {row.layer_index for row in found.rows} == {None, *paired.by_layer()}
    assert sum(found.left_out.values()) + expected.n_units == len(UNITS)


def test_two_runs_are_compared_unit_by_unit_and_back(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for seed, folder in enumerate(folders):
        folder.mkdir()
        write_run(folder, seed)
    one, two = map(index_of, folders)
    with UnitRows(one) as this, UnitRows(two) as other:
        found = compare(this, side(this, "0b"), other, side(other, "0b", "b"))
    with UnitRows(two) as this, UnitRows(one) as other:
        back = compare(this, side(this, "0b", "b"), other, side(other, "0b"))
    assert found.overall is not None
    assert back.overall is not None
    assert found.overall.difference == pytest.approx(-back.overall.difference)
    assert (found.overall.n_better, found.overall.n_worse) == (
        back.overall.n_worse,
        back.overall.n_better,
    )
    assert {m.mover.neuron_id for m in found.gains} == {m.mover.neuron_id for m in back.losses}
    for moved in found.gains:
        assert moved.this.score == moved.mover.value
        assert moved.other.score == moved.mover.baseline_value


def test_units_without_a_common_score_are_counted_by_reason(tmp_path: Path) -> None:
    with Results(tmp_path / "results.sqlite") as results:
        write_method(results, "0a", units=UNITS[:4], metric="rank")
        write_method(results, "0b")
    with UnitRows(index_of(tmp_path)) as rows:
        found = compare(rows, side(rows, "0b"), rows, side(rows, "0a"))
    assert found.overall is None
    assert found.rows == found.gains == found.losses == ()
    assert found.left_out["scored by another metric there"] == 4
    assert sum(found.left_out.values()) == len(UNITS)
