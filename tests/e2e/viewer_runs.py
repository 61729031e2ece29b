"""Runs to view: a real collection of hostile text, and methods that say hostile things of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from jobs.viewer_process import ViewerProcess, viewing
from neuron_explainer.pipeline.events import ignore
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.run import report, run, run_explain
from neuron_explainer.pipeline.spec import RunSpec
from tests.e2e.hostile import add_hostile_method, save_model, write_corpus
from tests.llm.rule_options import ServerOptions
from tests.llm.rule_server import rule_server

MODEL = "openai:rule-1"
PRICES = {"models": {"rule-1": {"input": "2.50", "output": "10"}}}


@dataclass(frozen=True)
class ViewerRuns:
    """Over one collection; nobody but viewers writes into them."""

    hostile: Path
    """12 neurons by patterns, by the lookup table, and by a method that says what is hostile."""
    words: Path
    """3 of them by a language model, which `arguments` name."""
    arguments: tuple[str, ...]
    """Of `view`, to ask that model."""


@pytest.fixture(scope="session")
def viewer_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ViewerRuns]:
    folder = tmp_path_factory.mktemp("viewed")
    with ExitStack() as opened, ThreadPoolExecutor(1) as thread:
        base_url = opened.enter_context(rule_server(ServerOptions())).base_url
        # In a thread: in this one a browser may be open, beside which no asyncio loop runs.
        yield thread.submit(_make_runs, folder, base_url).result()


def _make_runs(folder: Path, base_url: str) -> ViewerRuns:
    spec = RunSpec(
        model=str(save_model(folder / "model")),
        corpus=str(write_corpus(folder / "corpus.jsonl")),
        n_tokens=8000, n_ctx=32, n_boundary_windows=60, max_overlap=1, n_resamples=5,
        device="cpu", neurons="12",
    )  # fmt: skip
    runs = ViewerRuns(
        folder / "hostile", folder / "words",
        ("--base-url", base_url, "--prices", str(folder / "prices.json"), "--budget-usd", "9"),
    )  # fmt: skip
    run(spec, RunFolder(runs.hostile), ignore)
    shutil.copytree(runs.hostile, runs.words)
    (folder / "prices.json").write_text(json.dumps(PRICES))
    asked = replace(
        spec, explainer=MODEL, simulator="auto", simulation="structured", base_url=base_url,
        prices=str(folder / "prices.json"), neurons="3", requests_a_minute=1_000_000,
    )  # fmt: skip
    run_explain(asked, RunFolder(runs.words), ignore)
    add_hostile_method(runs.hostile / "results.sqlite")
    report(RunFolder(runs.hostile))
    return runs


@pytest.fixture(scope="module")
def viewer(viewer_runs: ViewerRuns) -> Iterator[ViewerProcess]:
    """Both runs, by the real command; the first is the hostile one."""
    folders = ("--run", str(viewer_runs.hostile), "--run", str(viewer_runs.words))
    with viewing(*folders, *viewer_runs.arguments) as process:
        for key in ("a", "b"):
            process.wait_for_index(key)
        yield process
