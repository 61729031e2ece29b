"""Results are followed by number: each row in short, as it was written."""

from __future__ import annotations

from pathlib import Path

from neuron_explainer.records.cost import UnitCost
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.result_rows import ResultRow, ResultRows
from neuron_explainer.stores.results import Results
from tests.viewer.viewed_runs import UNITS, scored, write_method


def rows_after(path: Path, number: int = 0) -> list[ResultRow]:
    with ResultRows(path) as rows:
        return list(rows.after(number))


def test_rows_say_what_the_results_say(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    with Results(path) as results:
        write_method(results, "f")
        units = {unit.neuron_id: unit for unit in results.units("f")}
        cost = results.tally("f").cost
    found = rows_after(path)
    assert [row.neuron_id for row in found] == list(UNITS)
    for row in found:
        unit = units[row.neuron_id]
        assert (row.text, row.reason, row.model) == (unit.text, unit.reason, unit.model)
        assert row.values == {n: s.value for n, s in unit.scores.items() if s.value is not None}
        if unit.score is None:
            assert row.headline is None
        else:
            assert row.headline is not None
            assert row.headline[:5] == (
                unit.score.value, unit.score.low, unit.score.high, unit.score.reason,
                unit.score.metric,
            )  # fmt: skip
    with ResultRows(path) as rows:
        assert rows.cost("f") == cost
        assert rows.cost("other") is None


def test_every_row_comes_once_wherever_one_begins(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    with Results(path) as results:
        write_method(results, "f")
    whole = rows_after(path)
    for number in range(len(whole) + 1):
        assert rows_after(path, number) == whole[number:]
    with ResultRows(path) as rows:
        assert rows.last_number == whole[-1].number
        assert list(rows.of_numbers([3, 1, 999])) == [whole[0], whole[2]]
        assert list(rows.of_numbers([])) == []


def test_methods_come_in_the_order_of_their_last_use(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    with Results(path) as results:
        results.add_explained("baseline", Explanation(UNITS[0], "a", "e"), scored(0.5))
        for method in ("f", "g", "f"):
            results.use_method(method, {"explainer": method})
    with ResultRows(path) as rows:
        assert [use.fingerprint for use in rows.methods()] == ["baseline", "g", "f"]
        assert rows.methods()[0].choices is None


def test_a_file_is_known_by_its_first_use_of_a_method(tmp_path: Path) -> None:
    births = []
    for choices in ({"a": 1}, {"a": 2}):
        path = tmp_path / f"{choices['a']}.sqlite"
        with Results(path) as results, ResultRows(path) as rows:
            assert rows.birth() is None
            results.use_method("f", choices)
            births.append(rows.birth())
            results.use_method("g", {})
            results.add_unexplained("g", NeuronId(0, 0), "e", "no", cost=UnitCost())
            assert rows.birth() == births[-1]
    assert births[0] != births[1]
