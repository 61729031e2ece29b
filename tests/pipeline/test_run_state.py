"""Every state of a run folder is told, damage is named with a way out, and nothing is changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from neuron_explainer.collector.plans import Shard
from neuron_explainer.pipeline.check import Check
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.run_state import check_run
from neuron_explainer.pipeline.shard_status import SHARD_MANIFEST
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import Score, ScoredSimulation
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.stores.results import Results
from neuron_explainer.subject.tokens import SubjectTokenizer
from tests.fakes import ScriptedSource
from tests.tiny_models import byte_tokenizer
from tests.tiny_stores import collect_into, files_digest

CHOICES = {"model": "scripted", "n_tokens": 10_000}
HOLD_THE_LOCK = """
import sys
from pathlib import Path
from neuron_explainer.pipeline.folder import RunFolder
with RunFolder(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two layers of five neurons, three of them explained."""
    folder = RunFolder(tmp_path_factory.mktemp("finished") / "run")
    with folder.locked():
        folder.claim(CHOICES)
        tokenizer = SubjectTokenizer(byte_tokenizer())
        collect_into(folder.store, ScriptedSource(2, 5), tokenizer, n_documents=40)
        with Results(folder.results) as results:
            results.use_method("f", {})
            explain(results, 0, Score("m", 0.5, 20))
            explain(results, 1, Score("m", None, 20, reason="constant prediction: zero"))
            results.add_unexplained("f", NeuronId(0, 2), "token_lookup", "dead unit")
    folder.report.write_text("<html>…</html>\n")
    return folder.path


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return shutil.copytree(finished, tmp_path / "run")


def explain(results: Results, unit: int, score: Score) -> None:
    explanation = Explanation(NeuronId(0, unit), "commas", "token_lookup")
    scored = ScoredSimulation("simulation", "token_lookup", {"all": score}, (), "all")
    results.add_explained("f", explanation, scored)


def checks(path: Path) -> dict[str, Check]:
    """By name; the folder is as it was before."""
    before = everything_in(path)
    found = list(check_run(RunFolder(path)))
    assert everything_in(path) == before
    assert len({check.name for check in found}) == len(found)
    assert all((check.todo is None) == (check.status == "ok") for check in found)
    return {check.name: check for check in found}


def everything_in(path: Path) -> object:
    if not path.is_dir():
        return path.exists()
    times = {p: p.stat().st_mtime_ns for p in [path, *path.rglob("*")]}
    return times, files_digest(path)


def statuses(found: dict[str, Check]) -> dict[str, str]:
    return {name: check.status for name, check in found.items()}


@pytest.mark.parametrize("make", [lambda _: None, Path.mkdir], ids=["missing", "empty"])
def test_where_there_is_nothing_the_command_that_begins_is_named(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "a run")
    found = checks(tmp_path / "a run")
    assert statuses(found) == {"run folder": "note"}
    todo = f"begin one: neuron-explainer run --run '{tmp_path}/a run'"
    assert found["run folder"].todo == todo


def test_a_run_that_is_a_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        assert statuses(checks(path)) == {"run folder": "problem"}


def test_a_finished_run_is_ok_with_all_that_it_holds(run: Path) -> None:
    found = checks(run)
    assert statuses(found) == {
        "run folder": "ok", "collection": "ok", "results": "ok", "report": "ok"
    }  # fmt: skip
    manifest = NeuronStore(run / "store").manifest
    for part in ("scripted on scripted", f"{manifest.n_tokens:,} tokens", "layers 0-1 of 5 neurons",
                 f"{manifest.coverage:.1%}"):  # fmt: skip
        assert part in found["collection"].found
    assert found["results"].found == (
        "2 of 10 neurons explained; 1 neurons scored, mean score 0.500; "
        "2 not scored (constant prediction 1, dead unit 1)"
    )


def test_an_unfinished_collection_says_what_was_begun(run: Path) -> None:
    shutil.rmtree(run / "store")
    check = checks(run)["collection"]
    assert (check.status, check.found) == ("note", "scripted, 10,000 tokens: begun, not finished")
    (run / "run.json").unlink()
    check = checks(run)["collection"]
    assert (check.status, check.found) == ("note", "none")


def test_shards_are_counted_until_they_are_merged(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    shards = [folder.shard(Shard(number, 2)) for number in (1, 2)]
    for shard in shards:
        shard.store.mkdir(parents=True)
    (shards[1].store / SHARD_MANIFEST).touch()
    check = checks(folder.path)["collection"]
    assert (check.status, check.found) == ("note", "2 shards: 1 done, 1 stopped; not merged")
    with shards[0].locked():
        assert "a process is writing to it" in checks(folder.path)["run folder"].found
    shards[0].progress.write_text("nonsense")
    assert "progress.json is damaged" in checks(folder.path)["collection"].found
    shards[0].progress.unlink()
    (shards[0].store / SHARD_MANIFEST).touch()
    assert checks(folder.path)["collection"].todo == (
        f"merge them: neuron-explainer merge --run {folder.path}"
    )


def test_what_is_missing_comes_with_the_command_that_makes_it(run: Path) -> None:
    (run / "report.html").unlink()
    assert checks(run)["report"].todo == f"write it: neuron-explainer report --run {run}"
    (run / "results.sqlite").unlink()
    found = checks(run)
    assert found["results"].todo == f"explain them: neuron-explainer explain --run {run}"
    assert "report" not in found
    Results(run / "results.sqlite").__exit__(None, None, None)
    assert checks(run)["results"] == found["results"]


def test_a_report_that_is_older_than_the_results_or_cut_off_is_a_note(run: Path) -> None:
    os.utime(run / "report.html", (1, 1))
    assert "older" in checks(run)["report"].found
    (run / "report.html").write_text("<html>")
    assert "not whole" in checks(run)["report"].found


def test_a_collection_without_its_choices_is_a_problem(run: Path) -> None:
    (run / "run.json").unlink()
    found = checks(run)
    assert found["choices"].status == "problem"
    assert found["collection"].status == "ok"


@pytest.mark.parametrize("text", ["", "{", "[]", "\udcff", "{}"])
@pytest.mark.parametrize("is_collected", [True, False])
def test_damaged_choices_are_a_problem_and_nothing_else_is(
    run: Path, text: str, is_collected: bool
) -> None:
    (run / "run.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    if not is_collected:
        shutil.rmtree(run / "store")
    found = checks(run)
    assert found["choices"].status == "problem"
    assert "--fresh" in (found["choices"].todo or "")
    assert "problem" not in (c.status for name, c in found.items() if name != "choices")


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite(path: Path) -> None:
    path.write_bytes(b"\xff" * path.stat().st_size)


@pytest.mark.parametrize("damage", [cut_off, overwrite, Path.unlink])
@pytest.mark.parametrize(
    "name",
    ["vocabulary.json", "token_means.safetensors", "windows/windows.bin",
     "layer_001/records.safetensors", "layer_001/means.safetensors"],
)  # fmt: skip
def test_a_damaged_collection_is_a_problem_with_a_way_out(
    run: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(run / "store" / name)
    check = checks(run)["collection"]
    assert check.status == "problem"
    assert "--fresh" in (check.todo or "")


@pytest.mark.parametrize("damage", [cut_off, overwrite])
def test_a_damaged_manifest_is_a_problem(run: Path, damage: Callable[[Path], None]) -> None:
    damage(run / "store/store.json")
    assert checks(run)["collection"].status == "problem"


@pytest.mark.parametrize("damage", [cut_off, overwrite, lambda path: path.write_bytes(b"odd")])
def test_damaged_results_are_a_problem_with_a_way_out(
    run: Path, damage: Callable[[Path], None]
) -> None:
    damage(run / "results.sqlite")
    check = checks(run)["results"]
    assert check.status == "problem"
    assert "results.sqlite" in check.found
    assert check.todo is not None
    assert check.todo.startswith("remove it, then explain them: neuron-explainer explain")


def test_a_running_process_is_told_and_what_it_has_done_so_far(run: Path) -> None:
    (run / "report.html").unlink()
    command = [sys.executable, "-c", HOLD_THE_LOCK, str(run)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "locked\n"
            found = {check.name: check for check in check_run(RunFolder(run))}
            assert "a process is writing to it" in found["run folder"].found
            assert statuses(found) == {"run folder": "note", "collection": "ok", "results": "ok"}
            (run / "store/store.json").unlink()
            found = {check.name: check for check in check_run(RunFolder(run))}
            assert found["collection"].found == "scripted, 10,000 tokens: being made"
        finally:
            other.kill()
    assert checks(run)["run folder"].status == "ok"


def test_a_run_that_goes_on_is_not_kept_from_it(run: Path) -> None:
    found = check_run(RunFolder(run))
    next(found)
    with RunFolder(run).locked():
        list(found)
