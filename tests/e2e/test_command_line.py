"""The command line as a person or a program uses it, on the bundled model and a small corpus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.command_lines import Call, assert_one_line
from tests.e2e.processes import neuron_explainer

SENTENCES = [
    "The river runs past the old mill and under {n} bridges.",
    "She walked to the station on Tuesday, {n} minutes late.",
    "def total(values): return sum(values) + {n}",
    "In {n} the university opened a school of medicine in the north of the city.",
    '"I do not know," he said, "but {n} of them came back."',
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus and a finished run at runs/default."""
    folder = tmp_path_factory.mktemp("user")
    documents = [
        {"text": " ".join(s.format(n=number + i) for i, s in enumerate(SENTENCES))}
        for number in range(400)
    ]
    lines = "\n".join(json.dumps(document) for document in documents)
    (folder / "mine.jsonl").write_text(lines, encoding="utf-8")
    run = ("run", "--corpus", "mine.jsonl", "--tokens", "20000", "--neurons", "30",
           "--max-overlap", "1")  # fmt: skip
    done = neuron_explainer(*run, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "runs/default/report.html" in done.stdout
    assert done.stderr == ""
    return folder


def test_run_scores_every_neuron_that_was_asked_for(finished: Path) -> None:
    answer = json.loads(neuron_explainer("scores", "--json", cwd=finished).stdout)
    assert answer["overall"]["n_units"] == 30
    assert answer["overall"]["n_scored"] + sum(answer["unscored"].values()) == 30


def test_the_report_is_one_file_without_a_network(finished: Path) -> None:
    page = (finished / "runs/default/report.html").read_text(encoding="utf-8")
    assert page.count("<html") == 1
    assert "src=" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert not (finished / "runs/default/preview").exists()


def test_show_prints_a_neuron_for_people_and_for_programs(finished: Path) -> None:
    shown = neuron_explainer("show", "1:7", cwd=finished)
    assert shown.returncode == 0, shown.stderr
    assert "Top windows" in shown.stdout
    answer = json.loads(neuron_explainer("show", "1:7", "--json", cwd=finished).stdout)
    assert answer["record"]["neuron_id"] == {"layer_index": 1, "neuron_index": 7}
    assert len(answer["record"]["top"]) == 20


def test_stages_apart_give_the_scores_of_one_run(finished: Path) -> None:
    flags = ("--corpus", "mine.jsonl", "--tokens", "20000", "--max-overlap", "1")
    collect = ("collect", *flags, "--run", "apart")
    for command in (collect, ("explain", "--neurons", "30", "--run", "apart")):
        done = neuron_explainer(*command, cwd=finished)
        assert done.returncode == 0, done.stderr
    (finished / "apart/report.html").unlink()
    assert neuron_explainer("report", "--run", "apart", cwd=finished).returncode == 0
    assert (finished / "apart/report.html").exists()
    both = [
        neuron_explainer("scores", "--json", "--run", run, cwd=finished).stdout
        for run in ("runs/default", "apart")
    ]
    assert both[0] == both[1]


def test_the_same_command_again_changes_nothing(finished: Path) -> None:
    store = finished / "runs/default/store"
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    scores = neuron_explainer("scores", "--json", cwd=finished).stdout
    run = ("run", "--corpus", "mine.jsonl", "--tokens", "20000", "--neurons", "30",
           "--max-overlap", "1")  # fmt: skip
    assert neuron_explainer(*run, cwd=finished).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before
    assert neuron_explainer("scores", "--json", cwd=finished).stdout == scores


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["show", "seven"], 2, "'seven' is not a neuron; write LAYER:NEURON, such as 2:417"),
        (["show", "1:99999"], 1, "no neuron 1:99999: a layer has neurons 0.."),
        (["show", "1:7", "--run", "nowhere"], 1, "no collection in nowhere; run `collect` first"),
        (["scores", "--run", "nowhere"], 1, "no results in nowhere; run `explain` first"),
        (["run", "--corpus", "absent.txt", "--run", "new"], 1, "absent.txt"),
        (["run", "--layers", "7", "--run", "new"], 2, "the model has layers 0-"),
        (["run", "--model", "./absent", "--run", "new"], 1, "no model folder at ./absent"),
        (["run", "--tokens", "0", "--run", "new"], 2, "--tokens must be at least 1, not 0"),
        (["run", "--corpus", "mine.jsonl", "--seed", "5"], 1, "seed was 0, now 5"),
    ],
)
def test_a_mistake_is_one_clear_line(
    finished: Path, arguments: list[str], code: int, says: str
) -> None:
    done = neuron_explainer(*arguments, cwd=finished)
    assert done.returncode == code
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_a_dry_run_of_a_revision_takes_no_key_and_changes_nothing(
    finished_run: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    command = ("revise", "--run", str(finished_run), "--explainer", "openai:gpt-4o-mini")
    before = times_of(finished_run)
    assert call(*command, "--dry-run").code == 0
    assert times_of(finished_run) == before
    assert_one_line(call(*command), 2, "OPENAI_API_KEY is not set")
    assert_one_line(call(*command[:3], "--dry-run"), 2, "revising takes a language model")


def times_of(folder: Path) -> dict[str, int]:
    """When each file was changed, but for those that sqlite makes beside its own to read it."""
    files = (path for path in folder.iterdir() if not path.name.endswith(("-wal", "-shm")))
    return {path.name: path.stat().st_mtime_ns for path in files}
