"""The job downloads layers, says what came of it, and goes on after a kill."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

from typer import Typer
from typer.testing import CliRunner, Result

from jobs.download import download_layers
from neuron_explainer.errors import UsageError
from neuron_explainer.published.archive import Archive
from neuron_explainer.published.locations import Kind
from neuron_explainer.records.neuron import NeuronId
from tests.published.mirror import (
    Reply,
    failing,
    mirror_documents,
    mirror_server,
    which,
    write_mirror,
)

JOB = Path(__file__).resolve().parents[2] / "jobs" / "download.py"
DOCUMENTS = mirror_documents(n_layers=2, n_neurons=60)
CONNECTIONS = 8


def flags(source: str | Path, archive: Path, *more: str) -> list[str]:
    return ["--source", str(source), "--archive", str(archive), "--neurons", "60",
            "--layers", "0-1", "--connections", str(CONNECTIONS), *more]  # fmt: skip


def run(source: str | Path, archive: Path, *more: str) -> Result:
    app = Typer()
    app.command()(download_layers)
    return CliRunner().invoke(app, flags(source, archive, *more))


def last_line(result: Result) -> str:
    return result.output.strip().splitlines()[-1]


def test_layers_are_downloaded_and_counted(tmp_path: Path) -> None:
    gone = which(Kind.EXPLANATIONS, NeuronId(1, 3)).path
    present = {path: body for path, body in DOCUMENTS.items() if path != gone}
    with mirror_server(present, failing(share=0.02)) as mirror:
        result = run(mirror.address, tmp_path / "a.sqlite")
    assert result.exit_code == 0, result.output
    assert "599 got, 1 absent, 0 known before, 0 failed, in" in last_line(result)
    assert "600/600" in result.output


def test_only_the_kinds_that_are_asked_for_are_fetched(tmp_path: Path) -> None:
    write_mirror(tmp_path, DOCUMENTS)
    more = ("--kind", "explanations", "--kind", "tokens-by-weight")
    result = run(tmp_path, tmp_path / "a.sqlite", *more)
    assert last_line(result).startswith("240 got, 0 absent, 0 known before, 0 failed")


def test_the_exit_code_is_1_when_something_failed(tmp_path: Path) -> None:
    bad = which(Kind.ACTIVATIONS, NeuronId(0, 5)).path
    with mirror_server(DOCUMENTS, lambda path, _: Reply(403) if path == bad else None) as mirror:
        result = run(mirror.address, tmp_path / "a.sqlite", "--kind", "activations")
    assert result.exit_code == 1
    assert "119 got, 0 absent, 0 known before, 1 failed (HTTP 403: 1)" in last_line(result)


def test_a_source_that_has_nothing_is_said_to_be_another_place_perhaps(tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    result = run(tmp_path / "mirror", tmp_path / "a.sqlite", "--kind", "activations")
    assert result.exit_code == 0
    assert "120 absent" in result.output
    assert last_line(result).startswith("all of it is absent: is ")
    assert last_line(result).endswith("data/collated-activations/0/0.json")


def test_a_finished_download_run_again_shows_all_as_done(tmp_path: Path) -> None:
    write_mirror(tmp_path, DOCUMENTS)
    for _ in range(2):
        result = run(tmp_path, tmp_path / "a.sqlite", "--kind", "explanations")
        assert "120/120" in result.output


def test_a_kind_that_is_not_published_for_the_model_is_refused(tmp_path: Path) -> None:
    more = ("--dataset", "gpt2-small", "--kind", "related-neurons")
    result = run(tmp_path, tmp_path / "a.sqlite", *more)
    assert isinstance(result.exception, UsageError)
    assert "related-neurons is not published" in str(result.exception)


def test_after_a_kill_it_goes_on_and_fetches_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    enough = threading.Event()

    def hold_the_rest(_path: str, _n_before: int) -> Reply | None:
        if mirror.sent.total() >= 200:
            enough.set()
            return Reply(503)
        return None

    with mirror_server(DOCUMENTS, hold_the_rest) as mirror:
        command = [sys.executable, str(JOB), *flags(mirror.address, path)]
        job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert enough.wait(timeout=60)
        finally:
            job.kill()
            job.wait()
        sent_before = set(mirror.sent)
    with Archive(path, read_only=True) as archive:
        kept = {one.path for one in archive.documents()}
    assert kept <= sent_before
    assert len(sent_before) - len(kept) <= CONNECTIONS  # those that were under way
    with mirror_server(DOCUMENTS) as mirror:
        result = run(mirror.address, path)
    assert result.exit_code == 0, result.output
    assert re.match(f"{600 - len(kept)} got, 0 absent, {len(kept)} known", last_line(result))
    assert set(mirror.asked) == set(DOCUMENTS) - kept
    assert set(mirror.asked.values()) == {1}
