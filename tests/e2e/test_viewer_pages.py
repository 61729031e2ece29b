"""Every page of the viewer over hostile text: shown, never run; and readable for everyone."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from jobs.viewer_process import ViewerProcess
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.results import Results
from tests.e2e.browser import (
    LOAD_TIMEOUT_MS,
    PHONE,
    OpenPage,
    assert_is_for_everyone,
    axe_problems,
)
from tests.e2e.hostile import LONG_TOKEN, SCRIPT, TOKENS
from tests.e2e.viewer_runs import ViewerRuns

if TYPE_CHECKING:
    from playwright.sync_api import Page

HOSTILE_TEXT = f"{SCRIPT} 😀 \u202egnp.exe {TOKENS[2]}"
PAGES = {
    "home": "/",
    "another method": "/?method={baseline}",
    "table": "/table",
    "search": "/search?q=words",
    "nothing found": f"/search?{urlencode({'q': SCRIPT})}",
    "compare": "/compare",
    "favourites": f"/favourites?{urlencode({'list': TOKENS[2]})}",
    "unit": "/layers/{scored.layer_index}/neurons/{scored.neuron_index}",
    "unit without a score": "/layers/{unscored.layer_index}/neurons/{unscored.neuron_index}",
    "all of a unit": "/layers/{scored.layer_index}/neurons/{scored.neuron_index}?all=1",
    "unit of a language model": "/s/b/layers/{asked.layer_index}/neurons/{asked.neuron_index}",
    "try it": "/try",
    "a text and all units": f"/try?{urlencode({'text': HOSTILE_TEXT})}",
    "a text and one unit": f"/try?{urlencode({'text': HOSTILE_TEXT, 'unit': '0:3'})}",
    "live": "/live",
    "home of the second run": "/s/b/",
    "no such neuron": "/layers/99/neurons/1",
}
"""Name -> address; what is in braces is one of `places`."""
SAY_IT = {"unit", "all of a unit", "unit without a score", "table", "search", "compare", "live",
          "home", "a text and all units", "a text and one unit"}  # fmt: skip
"""Pages that have a hostile text to show."""


@pytest.fixture(scope="module")
def places(viewer_runs: ViewerRuns) -> dict[str, NeuronId | str]:
    with Results(viewer_runs.hostile / "results.sqlite", read_only=True) as results:
        units = list(results.units(results.current_method()))
        baseline = results.method_uses()[0].fingerprint
    with Results(viewer_runs.words / "results.sqlite", read_only=True) as results:
        asked = next(iter(results.units(results.current_method())))
    return {
        "scored": next(unit.neuron_id for unit in units if unit.text is not None),
        "unscored": next(unit.neuron_id for unit in units if unit.text is None),
        "asked": asked.neuron_id,
        "baseline": baseline,
    }


@pytest.mark.parametrize("name", list(PAGES))
def test_a_page_shows_what_is_hostile_as_text_and_is_for_everyone(
    viewer: ViewerProcess, places: dict[str, NeuronId | str], open_page: OpenPage, name: str
) -> None:
    page = open_page(viewer.address + PAGES[name].format_map(places), failing=("neurons/1",))
    open_all_parts(page)
    assert not foreign_elements(page)
    if name in SAY_IT:
        assert SCRIPT in page.locator("main").inner_text()
    assert_is_for_everyone(page)


def test_the_report_shows_what_is_hostile_as_text(
    viewer_runs: ViewerRuns, open_page: OpenPage
) -> None:
    page = open_page((viewer_runs.hostile / "report.html").as_uri())
    open_all_parts(page)
    assert SCRIPT in page.locator("body").inner_text()
    assert page.locator("img").count() == 0
    assert_is_for_everyone(page)


def test_the_report_stretches_what_is_simulated(
    viewer_runs: ViewerRuns, open_page: OpenPage
) -> None:
    page = open_page((viewer_runs.hostile / "report.html").as_uri())
    stretched = page.locator(".card:not(.mover) .stretched").first
    page.get_by_label("stretch simulated").first.check()
    assert stretched.is_visible()
    page.get_by_label("stretch simulated").first.uncheck()
    assert stretched.is_hidden()


@pytest.mark.parametrize("dark", [False, True])
def test_white_space_is_readable_on_every_step_of_the_colour(
    viewer: ViewerProcess, places: dict[str, NeuronId | str], open_page: OpenPage, dark: bool
) -> None:
    page = open_page(viewer.address + PAGES["unit"].format_map(places), dark=dark)
    page.evaluate(
        """() => {
          const act = document.querySelector("#where .act");
          act.innerHTML = "<i><u>····</u> and</i> ".repeat(21);
          [...act.children].forEach((token, i) => token.style.setProperty("--a", i / 20));
        }"""
    )
    assert page.locator("#where .act").first.locator("i").count() == 21
    assert axe_problems(page, contrast_alone=True) == []


def test_a_token_of_10_kb_is_shown_within_its_window(
    viewer: ViewerProcess, places: dict[str, NeuronId | str], open_page: OpenPage
) -> None:
    path = PAGES["all of a unit"].format_map(places)
    page = open_page(viewer.address + path, viewport=PHONE)
    token = page.locator(".act > i", has_text=LONG_TOKEN[:400]).first
    box = token.bounding_box()
    assert box is not None
    assert box["width"] <= PHONE["width"]
    assert token.inner_text().replace("\n", "") == LONG_TOKEN


def test_what_cannot_be_seen_is_written_out(
    viewer: ViewerProcess, places: dict[str, NeuronId | str], open_page: OpenPage
) -> None:
    """Nothing turns the line around it, and bytes that are no character show as bytes."""
    page = open_page(viewer.address + PAGES["all of a unit"].format_map(places))
    text = page.locator("main").inner_text()
    assert not {"\u202e", "\u2066", "\u200f", "\ufeff", "\x1b", "\x07"} & {*text}
    assert {"⟨U+202E⟩gnp.exe⟨U+202C⟩", "<0xF0>"} <= {*text.split()} | {
        span.strip() for span in page.locator(".act > i").all_inner_texts()
    }


def open_all_parts(page: Page) -> None:
    """Parts that are asked for when they are opened, until all of them are there."""
    for part in page.locator("details:not([open]) > summary").all():
        if part.is_visible():
            part.click()
    busy = page.locator("[aria-busy=true]").first
    busy.wait_for(state="detached", timeout=LOAD_TIMEOUT_MS)


def foreign_elements(page: Page) -> list[str]:
    """What no template has: pictures, frames, scripts that are not the viewer's own."""
    return page.evaluate(
        """() => [...document.querySelectorAll("img, iframe, object, embed, base, script")]
            .filter((e) => !e.src?.startsWith(location.origin + "/static/"))
            .map((e) => e.outerHTML.slice(0, 100))"""
    )
