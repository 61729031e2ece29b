"""The page of a run that goes on, while a writer holds the run's lock and adds to it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jobs.viewer_process import ViewerProcess, viewing
from neuron_explainer.pipeline.events import StageAdvanced, StageStarted, ignore
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.progress import ProgressFile
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import Score, ScoredSimulation
from neuron_explainer.stores.results import Results
from tests.e2e.browser import TIMEOUT_MS, OpenPage, assert_is_for_everyone
from tests.e2e.hostile import SCRIPT, TEXT
from tests.e2e.viewer_runs import ViewerRuns

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright").expect
expect.set_options(timeout=TIMEOUT_MS)
N_UNITS = 4


@pytest.fixture
def folder(viewer_runs: ViewerRuns, tmp_path: Path) -> RunFolder:
    shutil.copytree(viewer_runs.words, tmp_path / "going on")
    return RunFolder(tmp_path / "going on")


@pytest.fixture
def of_folder(folder: RunFolder) -> Iterator[ViewerProcess]:
    with viewing("--run", str(folder.path)) as process:
        yield process


class Writer:
    """What a run does to its folder, a unit at a time."""

    def __init__(self, folder: RunFolder, results: Results) -> None:
        now_s = iter(range(1_000_000_000, 2_000_000_000, 10))
        self._tell = ProgressFile(folder.progress, ignore, clock=lambda: float(next(now_s)))
        self._results = results
        self._n_done = 0
        results.use_method("live", {"explainer": "token_lookup"})
        self._tell(StageStarted("explain", N_UNITS, "neurons"))

    def add(self, value: float | None) -> None:
        """None: a unit that has no explanation."""
        neuron_id = NeuronId(0, self._n_done)
        if value is None:
            self._results.add_unexplained("live", neuron_id, "token_lookup", f"refused {TEXT}")
        else:
            scores = {"top_and_random": Score("ev_correlation_score", value, 640)}
            scored = ScoredSimulation("simulation", "m", scores, (), "top_and_random")
            explanation = Explanation(neuron_id, f"number {self._n_done}, {TEXT}", "token_lookup")
            self._results.add_explained("live", explanation, scored)
        self._n_done += 1
        self._tell(StageAdvanced("explain", self._n_done))


def test_progress_and_new_results_show_without_a_reload(
    folder: RunFolder, of_folder: ViewerProcess, open_page: OpenPage
) -> None:
    page = open_page(f"{of_folder.address}/live")
    page.evaluate("window.wasNeverReloaded = true")
    expect(page.locator("#live")).to_contain_text("Not running")
    with folder.locked(), Results(folder.results) as results:
        writer = Writer(folder, results)
        expect(page.locator("#live")).to_contain_text("Running – explain")
        expect(page.locator("#live-said")).to_contain_text("running: explain")
        for number, score in enumerate((0.25, 0.75)):
            writer.add(score)
            expect(newest(page)).to_contain_text(f"number {number}, {TEXT[:30]}")
            expect(newest(page)).to_contain_text(str(score))
        expect(page.get_by_role("progressbar")).to_have_attribute("value", "2")
        expect(page.locator(".tiles")).to_contain_text("0.50")  # the mean
        writer.add(None)
        expect(page.locator(".unscored")).to_contain_text(f"refused {TEXT[:30]}")
        expect(page.locator(".unscored")).to_contain_text("1 without a score")
        expect(newest(page)).to_contain_text(SCRIPT)
        assert_is_for_everyone(page)
    expect(page.locator("#live")).to_contain_text("Not running")
    assert page.evaluate("window.wasNeverReloaded")


def test_a_viewer_that_has_ended_is_told_of(of_folder: ViewerProcess, open_page: OpenPage) -> None:
    page = open_page(f"{of_folder.address}/live", failing=("live/events",))
    expect(page.locator("#live-said")).not_to_be_empty()
    of_folder.end()
    expect(page.locator("#live-state")).to_contain_text("does not answer")
    assert of_folder.process.returncode is not None


def newest(page: Page) -> Locator:
    return page.get_by_role("region", name="Newest results").locator("tbody tr").first
