"""Two methods beside each other: as the paired scores of the report have it, the slow way."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from markupsafe import escape

from neuron_explainer.records.explanation import Explanation
from neuron_explainer.stores.comparison import PairedScores
from neuron_explainer.stores.result_rows import ResultRows
from neuron_explainer.stores.results import Results
from neuron_explainer.viewer.compare import Side, compare
from neuron_explainer.viewer.unit_index import UnitIndex
from neuron_explainer.viewer.unit_rows import UnitRows
from tests.viewer.served_fakes import FakeManifest, FakeRecords
from tests.viewer.viewed_runs import (
    UNITS,
    open_client,
    run_source,
    scored,
    write_method,
    write_run,
)


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


def test_the_difference_of_a_single_unit_has_no_interval(tmp_path: Path) -> None:
    with Results(tmp_path / "results.sqlite") as results:
        for number, method in enumerate(("0a", "0b")):
            claim = Explanation(UNITS[0], "words", "e")
            results.add_explained(method, claim, scored(0.25 + number / 2))
            results.use_method(method, {"explainer": f"e{number}"})
        paired = PairedScores.of(results.units("0b"), results.units("0a")).compare()
    with open_client(run_source(tmp_path)) as client:
        found = client.get("/compare.json").json()["comparison"]
        page = client.get("/compare").text
    assert paired is not None
    for shown in (found, asdict(paired)):
        assert (shown["difference"], shown["low"], shown["high"]) == (0.5, None, None)
    assert "no interval: one neuron" in page
    assert "[" not in paired.sentence()


class OtherRecords(FakeRecords):
    def __init__(self, manifest: FakeManifest) -> None:
        self.manifest = manifest


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (FakeManifest(), None),
        (FakeManifest(fingerprint="g"), "a difference may be that of the text"),
        (FakeManifest(subject="another"), "of two models: a <b>subject</b> here, another there"),
        (FakeManifest(site="resid_post"), "of two places of the model: mlp_post_act here"),
        (FakeManifest(n_a_layer=99), "of models of two sizes: 8 neurons a layer here, 99 there"),
    ],
)
def test_neurons_that_are_not_the_same_are_not_compared_in_silence(
    tmp_path: Path, manifest: FakeManifest, said: str | None
) -> None:
    sources = []
    for key in "ab":
        (tmp_path / key).mkdir()
        write_run(tmp_path / key)
        sources.append(run_source(tmp_path / key, key))
    sources[1] = replace(sources[1], records=OtherRecords(manifest))
    with open_client(*sources) as client:
        beside = client.get("/compare.json").json()
        default = beside["other"]["source"]
        across = client.get("/compare?a=a:0b&b=b:0b").text
        warning = client.get("/compare.json?a=a:0b&b=b:0b").json()["warning"]
    is_of_same_neurons = replace(manifest, fingerprint="f") == FakeManifest()
    assert default == ("b" if is_of_same_neurons else "a")
    assert (warning is None) == (said is None)
    if said is None:
        assert 'role="note"' not in across
    else:
        assert warning is not None and said in warning
        assert str(escape(said)) in across
