"""The pictures of the README: the viewer's home, a neuron and a comparison, and the report.

    python -m jobs.screenshots                                 of runs/default, into .github
    python -m jobs.screenshots --run R --unit 2:417 --to DIR   of another run and neuron

Taken in the system's own Chromium, headless, from the pages as everybody sees them. The neuron is
the one that gains most over the baseline, of those with a good score, when none is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple
from urllib.parse import urlencode

import typer

from jobs.chromium import NoBrowser, open_browser
from jobs.viewer_process import ViewerProcess, viewing
from neuron_explainer.cli_options import console, run_program
from neuron_explainer.errors import UsageError
from neuron_explainer.pipeline.folder import DEFAULT_RUN
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import GOOD_SCORE
from neuron_explainer.viewer.links import ServerLinks

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WIDTH_PX = 1200


class View(NamedTuple):
    """A part of a page, from a place on downwards."""

    address: str
    height_px: int
    below: str | None = None
    """A selector: where the picture begins; None: at the top."""


def take_screenshots(
    *,
    run: Annotated[Path, typer.Option(help="A run that is finished.")] = DEFAULT_RUN,
    unit: Annotated[str | None, typer.Option(help="LAYER:NEURON of the neuron's page.")] = None,
    to: Annotated[Path, typer.Option(help="A folder; pictures there are replaced.")] = Path(
        ".github"
    ),
) -> None:
    """PNG pictures of home, a neuron, a comparison, and the report."""
    report = run / "report.html"
    if not report.exists():
        raise UsageError(f"{report} is not there; run `neuron-explainer run --run {run}` first")
    to.mkdir(parents=True, exist_ok=True)
    with ExitStack() as opened:
        viewer = opened.enter_context(viewing("--run", str(run)))
        viewer.wait_for_index()
        try:
            browser = opened.enter_context(open_browser())
        except NoBrowser as error:
            raise UsageError(str(error)) from error
        for path in take(browser, all_views(viewer, report, unit), to):
            console.print(f"{path}: {path.stat().st_size / 1000:,.0f} kB", highlight=False)


def all_views(viewer: ViewerProcess, report: Path, unit: str | None) -> dict[str, View]:
    """By the names of their files."""
    neuron_id = NeuronId.parse(unit) if unit else most_gained(viewer)
    return {
        "home.png": View(f"{viewer.address}/", 1180),
        "unit.png": View(viewer.address + ServerLinks().unit(neuron_id), 1180),
        "compare.png": View(f"{viewer.address}/compare", 1040),
        "report.png": View(report.absolute().as_uri(), 900, below="#layers"),
    }


def most_gained(viewer: ViewerProcess) -> NeuronId:
    """Of the neurons with a good score, the one that is furthest ahead of the baseline."""
    query = urlencode({"sort": "gain", "desc": 1, "min_score": GOOD_SCORE})
    rows = viewer.read_json(f"/table.json?{query}")["rows"]
    if not rows:
        raise UsageError("no neuron has a good score here; name one with --unit")
    return NeuronId(rows[0]["layer"], rows[0]["neuron"])


def take(browser: Browser, views: Mapping[str, View], folder: Path) -> Iterator[Path]:
    """Files as they are written."""
    page = browser.new_page(viewport={"width": WIDTH_PX, "height": 900}, color_scheme="light")
    for name, view in views.items():
        page.goto(view.address, wait_until="networkidle")
        box = page.locator(view.below).first.bounding_box() if view.below else None
        top = 0 if box is None else box["y"]
        path = folder / name
        page.screenshot(
            path=path, full_page=True, animations="disabled",
            clip={"x": 0, "y": top, "width": WIDTH_PX, "height": view.height_px},
        )  # fmt: skip
        yield path
    page.close()


if __name__ == "__main__":
    run_program(lambda: typer.run(take_screenshots))
