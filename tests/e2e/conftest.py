"""A user's folder, a finished run, and the command line called in this process."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from neuron_explainer.cli import main
from tests.e2e.browser import browser, open_page
from tests.e2e.command_lines import RUN, Answer, Call, write_lines
from tests.e2e.viewer_runs import viewer, viewer_runs
from tests.tiny_models import save_tiny_model

__all__ = [
    "browser",
    "open_page",
    "viewer",
    "viewer_runs",
]  # fixtures that are kept in a file of their own


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and a corpus."""
    folder = tmp_path_factory.mktemp("inputs")
    save_tiny_model(folder / "model", n_embd=8)
    texts = (" ".join(f"word{i * j % 37}" for j in range(3 + i % 20)) for i in range(250))
    write_lines(folder / "corpus.jsonl", *({"text": text} for text in texts))
    return folder


@pytest.fixture(scope="module")
def finished_run(inputs: Path) -> Path:
    """A finished run; it is never written to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(inputs)
        patch.setattr(sys, "argv", ["neuron-explainer", *RUN, "--neurons", "6", "--run", "run"])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 0
    for suffix in ("-wal", "-shm"):
        Path(f"{inputs / 'run/results.sqlite'}{suffix}").unlink(missing_ok=True)
    return inputs / "run"


@pytest.fixture
def user(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's current folder, with a model and a corpus of its own."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(inputs / "model", "model")
    shutil.copy(inputs / "corpus.jsonl", "corpus.jsonl")
    return tmp_path


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    def call_main(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["neuron-explainer", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return Answer(int(ended.value.code or 0), capsys.readouterr().err)

    return call_main
