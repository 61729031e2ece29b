"""What a run exports reads back as what it says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from neuron_explainer import open_run
from neuron_explainer.errors import UsageError
from neuron_explainer.formats.openai import read_record
from neuron_explainer.formats.openai_results import read_results
from neuron_explainer.formats.tables import read_table
from neuron_explainer.pipeline.export import ExportFormat, export_run
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.import_files import import_files
from neuron_explainer.stores.library import Library
from tests.e2e.command_lines import Call, assert_one_line
from tests.listed import FULL, PLAIN


@pytest.mark.parametrize(
    "name", ["a.csv", "a.jsonl", "a.parquet", "neuronpedia", "openai", "bundle"]
)
def test_every_export_is_imported_with_its_texts_and_scores(
    finished_run: Path, tmp_path: Path, name: str
) -> None:
    kind = ExportFormat(name) if "." not in name else ExportFormat.TABLE
    exported = export_run(RunFolder(finished_run), tmp_path / name, kind)
    units = {u.neuron_id: u for u in open_run(finished_run).results() if u.text is not None}
    n_methods = 2 if name == "bundle" else 1  # with the token lookup table, which is beside them
    assert exported.n_explanations == n_methods * len(units) > 0
    with Library(tmp_path / "library.sqlite") as library:
        (*imported,) = import_files([tmp_path / name], library)
        assert [result.refused for result in imported] == [None] * len(imported)
        own = [one for one in library.all() if one.explainer in (None, "patterns")]
        listed = {one.neuron_id: one for one in own}
    assert listed.keys() == units.keys()
    for neuron_id, one in listed.items():
        score = units[neuron_id].score
        assert one.text == units[neuron_id].text
        assert (one.score and one.score.value) == (score and score.value)


@pytest.mark.parametrize("name", ["a.csv", "neuronpedia"])
def test_what_a_list_has_no_place_for_is_counted(
    finished_run: Path, tmp_path: Path, name: str
) -> None:
    kind = ExportFormat(name) if "." not in name else ExportFormat.TABLE
    exported = export_run(RunFolder(finished_run), tmp_path / name, kind)
    units = list(open_run(finished_run).results())
    scores = [score for unit in units if unit.text for score in unit.scores.values()]
    assert exported.left_out == +Counter({
        "neuron without an explanation": sum(unit.text is None for unit in units),
        "interval of a score": sum(score.low is not None for score in scores),
        "reason of a missing score": sum(score.reason is not None for score in scores),
    })  # fmt: skip
    assert exported.left_out["interval of a score"] > 0


def test_what_a_published_file_has_no_place_for_is_counted(
    finished_run: Path, tmp_path: Path
) -> None:
    exported = export_run(RunFolder(finished_run), tmp_path / "openai", ExportFormat.OPENAI)
    for what in ("name of the model", "name of the run", "Explanation.explainer"):
        assert exported.left_out[what] == exported.n_explanations
    assert all(exported.left_out.values())


def test_a_folder_with_imported_explanations_alone_is_exported_as_a_list(
    tmp_path: Path, call: Call
) -> None:
    with Library(tmp_path / "library.sqlite") as library:
        library.add([FULL, PLAIN])
    run = ["--run", str(tmp_path)]
    assert call("export", str(tmp_path / "a.jsonl"), *run).code == 0
    assert list(read_table(tmp_path / "a.jsonl", Counter())) == [FULL, PLAIN]
    for kind in ("openai", "bundle"):
        answer = call("export", str(tmp_path / kind), "--format", kind, *run)
        assert_one_line(answer, 2, "holds imported explanations alone")


def test_a_table_is_what_pandas_reads(finished_run: Path, tmp_path: Path) -> None:
    export_run(RunFolder(finished_run), tmp_path / "a.parquet", ExportFormat.TABLE)
    frame = pd.read_parquet(tmp_path / "a.parquet")
    scores = open_run(finished_run).scores()
    explained = scores[scores.explanation.notna()]
    assert frame.explanation.tolist() == explained.explanation.tolist()


def test_published_files_hold_the_record_and_the_simulations(
    finished_run: Path, tmp_path: Path
) -> None:
    export_run(RunFolder(finished_run), tmp_path / "mirror", ExportFormat.OPENAI)
    run = open_run(finished_run)
    unit = next(unit for unit in run.results() if unit.text is not None)
    place = f"{unit.neuron_id.layer_index}/{unit.neuron_id.neuron_index}"
    neuron = run.neuron(unit.neuron_id.layer_index, unit.neuron_id.neuron_index)
    path = tmp_path / "mirror/data/collated-activations" / f"{place}.json"
    record = read_record(path.read_bytes(), path).value
    assert (record.top, record.random) == (neuron.record.top, neuron.record.random)
    path = tmp_path / "mirror/data/explanations" / f"{place}.jsonl"
    (explanation,) = read_results(path.read_bytes(), path).value.explanations
    assert [w.true_activations for w in explanation.windows] == [
        window.true_activations for window in neuron.scored_windows
    ]
    with pytest.raises(UsageError, match="holds something already"):
        export_run(RunFolder(finished_run), tmp_path / "mirror", ExportFormat.OPENAI)


def test_what_cannot_be_meant_is_one_line(finished_run: Path, tmp_path: Path, call: Call) -> None:
    run = ["--run", str(finished_run)]
    assert_one_line(call("export", str(tmp_path / "a.txt"), *run), 2, "name a .csv")
    assert_one_line(call("export", "x", "--format", "zorp", *run), 2, "--format 'zorp'")
    assert_one_line(call("export", "x.csv", "--run", str(tmp_path / "none")), 1, "no results in")
