"""A run's bundle holds all that the run says, and is there whole or not at all."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from neuron_explainer.errors import StoreError, UsageError
from neuron_explainer.formats.bundle import PATTERNS, open_bundle
from neuron_explainer.pipeline.export import Exported, ExportFormat, export_run
from neuron_explainer.pipeline.export_bundle import export_bundle
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.import_files import Kind, import_files
from neuron_explainer.pipeline.kept_patterns import open_kept_patterns
from neuron_explainer.records.bundle import BundledPatterns, ScoredText
from neuron_explainer.records.cost import UnitCost
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.score import Candidate, Score, ScoredSimulation
from neuron_explainer.stores.library import Library
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.stores.results import Results
from tests.e2e.command_lines import Call, assert_one_line
from tests.e2e.processes import run_to_its_end

OTHER = "another method"
UNSCORED = Score("ev_correlation_score", None, 0, reason="constant prediction")


@pytest.fixture(scope="module")
def run(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a second method that explained one unit, and could not explain another."""
    path = tmp_path_factory.mktemp("runs") / "mine"
    shutil.copytree(finished_run, path)
    with Results(path / "results.sqlite") as results:
        first, second, *_ = results.neuron_ids()
        windows = results.windows(results.current_method(), first)
        explanation = Explanation(first, "rivers\u2028 and “seas”", "summary", "gpt-4o", "2")
        scored = ScoredSimulation(
            "simulation", "gpt-4o", {"top_and_random": UNSCORED}, windows, "top_and_random"
        )
        results.use_method(OTHER, {"explainer": "openai:gpt-4o"})
        results.add_explained(
            OTHER,
            explanation,
            scored,
            candidates=[Candidate(explanation, Score("ev_correlation_score", 0.5, 10))],
            cost=UnitCost(3, 100, 50, 10, 2**53 + 1),
        )
        results.add_unexplained(OTHER, second, "summary", "refused: no", cost=UnitCost(1))
    return path


def export(run: Path, target: Path, *, with_windows: bool = True) -> Exported:
    return export_run(RunFolder(run), target, ExportFormat.BUNDLE, with_windows=with_windows)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["bundle", "bundle.zip"])
def test_all_that_the_run_says_reads_back_equal(run: Path, tmp_path: Path, name: str) -> None:
    exported = export(run, tmp_path / name)
    store = NeuronStore(run / "store")
    with open_bundle(tmp_path / name) as bundle, Results(run / "results.sqlite") as results:
        content = bundle.manifest.content
        assert {m.fingerprint: m.choices for m in content.methods} == {
            m.fingerprint: m.choices for m in results.method_uses()
        }
        assert [m.fingerprint for m in content.methods if m.is_current] == [OTHER]
        assert content.choices == RunFolder(run).read_choices()
        explanations = list(bundle.explanations())
        for method in content.methods:
            of_method = [e for e in explanations if e.method == method.fingerprint]
            assert [e.result for e in of_method] == list(results.units(method.fingerprint))
            is_said = [e.result.text is not None for e in of_method]
            assert (method.n_explained, method.n_unexplained) == (
                is_said.count(True), is_said.count(False),
            )  # fmt: skip
        for said in explanations:
            kept = results.candidates(said.method, said.result.neuron_id)
            assert said.candidates == tuple(ScoredText(*one) for one in kept)
        simulated = {(s.method, s.neuron_id): s.windows for s in bundle.simulations()}
        keys = [(e.method, e.result.neuron_id) for e in explanations if e.result.text is not None]
        assert {key: simulated.get(key, ()) for key in keys} == {
            key: results.windows(*key) for key in keys
        }
        assert simulated.keys() <= set(keys)
        assert () not in simulated.values()
        assert list(bundle.windows()) == [store.read_neuron(i) for i in results.neuron_ids()]
        assert PATTERNS in bundle.manifest.files
        ((method, choices),) = (
            (m.fingerprint, m.choices) for m in content.methods if "patterns" in (m.choices or {})
        )
        with open_kept_patterns(RunFolder(run), choices or {}) as kept:
            assert kept is not None
            assert list(bundle.patterns()) == [
                BundledPatterns(method, unit.neuron_id, kept.read_patterns(unit.neuron_id))
                for unit in results.units(method)
            ]
    assert exported.n_explanations == len(keys) > 1


def test_patterns_that_are_gone_are_counted(run: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(run, tmp_path / "run")
    (bare / "patterns.sqlite").unlink()
    exported = export(bare, tmp_path / "b")
    assert exported.left_out["patterns of a unit: patterns.sqlite is gone"] == 6
    with open_bundle(tmp_path / "b") as bundle:
        assert list(bundle.patterns()) == []


def test_an_importer_gets_the_explanations_of_every_method(run: Path, tmp_path: Path) -> None:
    exported = export(run, tmp_path / "b.zip", with_windows=False)
    with Library(tmp_path / "library.sqlite") as library:
        (imported,) = import_files([tmp_path / "b.zip"], library)
        assert (imported.kind, imported.refused) == (Kind.BUNDLE, None)
        assert imported.added.n_added == exported.n_explanations
        assert imported.left_out["unit without an explanation: refused"] == 1
        assert library.sources() == {"mine": exported.n_explanations}
        (rivers,) = [one for one in library.all() if one.explainer == "summary"]
        assert (rivers.text, rivers.model) == ("rivers\u2028 and “seas”", "./model")
        (tmp_path / "b.zip").write_bytes((tmp_path / "b.zip").read_bytes()[:-9])
        (refused,) = import_files([tmp_path / "b.zip"], library)
        assert "b.zip: cannot be read" in (refused.refused or "")


def test_the_table_has_a_row_an_explanation(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "b")
    frame = pd.read_parquet(tmp_path / "b/explanations.parquet")
    with open_bundle(tmp_path / "b") as bundle:
        units = [said.result for said in bundle.explanations()]
    assert len(frame) == len(units)
    values = [unit.score.value if unit.score else None for unit in units]
    assert frame.top_and_random.astype(object).where(frame.top_and_random.notna(), None).tolist() \
        == values  # fmt: skip


def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        export(run, tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_newer_bundle_takes_the_place_of_an_older_one_and_of_nothing_else(
    run: Path, tmp_path: Path
) -> None:
    export(run, tmp_path / "b", with_windows=False)
    export(run, tmp_path / "b")
    assert (tmp_path / "b/windows.jsonl").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").touch()
    (tmp_path / "file").touch()
    for name in ("mine", "file"):
        with pytest.raises(UsageError, match=r"holds something else|is a file"):
            export(run, tmp_path / name)
    assert {p.name for p in tmp_path.iterdir()} == {"b", "mine", "file"}


@pytest.mark.parametrize(
    ("kind", "name"),
    [(ExportFormat.BUNDLE, "b"), (ExportFormat.BUNDLE, "b.zip"), (ExportFormat.OPENAI, "b")],
)
def test_a_store_that_fails_midway_leaves_what_was_there(
    finished_run: Path, tmp_path: Path, kind: ExportFormat, name: str
) -> None:
    damaged, target = tmp_path / "damaged", tmp_path / "out" / name
    shutil.copytree(finished_run, damaged)
    with Results(damaged / "results.sqlite") as results:
        first = results.neuron_ids()[0]
    (other,) = (p for p in damaged.glob("store/layer_*") if int(p.name[-3:]) != first.layer_index)
    os.truncate(other / "records.safetensors", 100)
    with pytest.raises(StoreError, match="damaged"):
        export_run(RunFolder(damaged), target, kind)
    assert list(target.parent.iterdir()) == []
    if kind is ExportFormat.BUNDLE:
        export(finished_run, target)
        before = target.read_bytes() if target.is_file() else bytes_of(target)
        with pytest.raises(StoreError, match="damaged"):
            export_run(RunFolder(damaged), target, kind)
        assert before == (target.read_bytes() if target.is_file() else bytes_of(target))
        assert list(target.parent.iterdir()) == [target]


def test_neuronpedia_s_layout_without_a_model_s_name_leaves_nothing(
    run: Path, tmp_path: Path
) -> None:
    nameless = tmp_path / "nameless"
    shutil.copytree(run, nameless)
    (nameless / "run.json").unlink()
    with pytest.raises(UsageError, match="needs the model's name"):
        export_run(RunFolder(nameless), tmp_path / "n", ExportFormat.NEURONPEDIA)
    assert list(tmp_path.iterdir()) == [nameless]


class Deadly(Results):
    """Its second reading of windows kills the process."""

    n_read = 0

    def windows(self, *unit: Any) -> Any:
        self.n_read += 1
        if self.n_read == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().windows(*unit)


def export_midway(run: Path, target: Path) -> None:
    folder = RunFolder(run)
    with Deadly(folder.results) as results:
        export_bundle(folder, results, target, with_windows=True)


@pytest.mark.parametrize("name", ["b", "b.zip"])
def test_a_kill_midway_leaves_the_older_bundle_and_the_next_export_tidies_up(
    run: Path, tmp_path: Path, name: str
) -> None:
    target = tmp_path / name
    export(run, target, with_windows=False)
    child = run_to_its_end(export_midway, run, target)
    assert child.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    with open_bundle(target) as bundle:
        assert not bundle.has_windows
    export(run, target)
    assert list(tmp_path.iterdir()) == [target]


def test_the_command_writes_and_imports_it(run: Path, tmp_path: Path, call: Call) -> None:
    of_run = ["--run", str(run)]
    bundle = str(tmp_path / "b.zip")
    assert call("export", bundle, "--format", "bundle", "--no-windows", *of_run).code == 0
    assert call("import", bundle, "--run", str(tmp_path / "other")).code == 0
    with open_bundle(tmp_path / "b.zip") as opened:
        assert not opened.has_windows
    wrong = call("export", str(tmp_path / "a.csv"), "--no-windows", *of_run)
    assert_one_line(wrong, 2, "--no-windows is for --format bundle")
