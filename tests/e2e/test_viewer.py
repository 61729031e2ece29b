"""What people do in the viewer, in a browser: read, look for, compare, keep, try, and write."""

from __future__ import annotations

import csv
import json
import re
from io import StringIO
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from jobs.viewer_process import ViewerProcess
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.results import Results
from neuron_explainer.viewer.own_explanations import FILE, read_own
from tests.e2e.browser import (
    LOAD_TIMEOUT_MS,
    PHONE,
    TIMEOUT_MS,
    OpenPage,
    assert_is_for_everyone,
)
from tests.e2e.hostile import SCRIPT
from tests.e2e.viewer_runs import ViewerRuns
from tests.e2e.viewer_table import open_changing_table, open_large_table, row_link

if TYPE_CHECKING:
    from playwright.sync_api import Download, Page

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright").expect
expect.set_options(timeout=TIMEOUT_MS)
WORDS = "/s/b"
"""The run by a language model."""


@pytest.fixture(scope="module")
def neuron_ids(viewer_runs: ViewerRuns) -> list[NeuronId]:
    """Of the hostile run, in the order of the pages."""
    with Results(viewer_runs.hostile / "results.sqlite", read_only=True) as results:
        return results.neuron_ids()


@pytest.fixture(scope="module")
def asked(viewer_runs: ViewerRuns) -> UnitResult:
    """Of a unit that the language model has explained."""
    with Results(viewer_runs.words / "results.sqlite", read_only=True) as results:
        return next(results.units(results.current_method()))


def unit_address(neuron_id: NeuronId) -> str:
    return f"/layers/{neuron_id.layer_index}/neurons/{neuron_id.neuron_index}"


def path_of(page: Page) -> str:
    return urlsplit(page.url).path


def test_from_home_to_a_unit_and_on_to_its_neighbours_by_keyboard(
    viewer: ViewerProcess, open_page: OpenPage, neuron_ids: list[NeuronId]
) -> None:
    page = open_page(viewer.address + unit_address(neuron_ids[1]))
    expect(page.get_by_role("heading", level=1)).to_contain_text(str(neuron_ids[1]))
    for key, place in (("j", 2), ("k", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("k", 0)):
        page.keyboard.press(key)
        page.wait_for_url(f"**{unit_address(neuron_ids[place])}")
    page.keyboard.press("k")  # there is none before the first
    expect(page.get_by_role("heading", level=1)).to_contain_text(str(neuron_ids[0]))


def test_every_neuron_is_reached_from_the_random_one(
    viewer: ViewerProcess, open_page: OpenPage, neuron_ids: list[NeuronId]
) -> None:
    page = open_page(viewer.address)
    page.keyboard.press("r")
    page.wait_for_url("**/layers/*/neurons/*")
    assert path_of(page) in {unit_address(one) for one in neuron_ids}


def test_keys_are_listed_and_do_nothing_while_one_writes(
    viewer: ViewerProcess, open_page: OpenPage
) -> None:
    page = open_page(viewer.address)
    page.keyboard.press("?")
    keys = page.get_by_role("dialog", name="Keys")
    expect(keys).to_be_visible()
    page.keyboard.press("Escape")
    expect(keys).to_be_hidden()
    page.keyboard.press("/")
    expect(page.locator("#find")).to_be_focused()
    page.keyboard.type("jr?")
    expect(page.locator("#find")).to_have_value("jr?")
    assert path_of(page) == "/"


def test_the_first_key_leads_past_the_navigation(
    viewer: ViewerProcess, open_page: OpenPage
) -> None:
    page = open_page(viewer.address)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    assert urlsplit(page.url).fragment == "main"


def test_values_of_tokens_show_under_the_pointer_and_by_keyboard(
    viewer: ViewerProcess, open_page: OpenPage, neuron_ids: list[NeuronId]
) -> None:
    page = open_page(viewer.address + unit_address(neuron_ids[0]))
    window = page.locator("#said .window").first
    tip = page.locator("#tip")
    window.locator(".act.real > i").nth(1).hover()
    expect(tip).to_have_text(re.compile(r"real −?[\d.]+\s*simulated −?[\d.]+"))
    page.mouse.move(0, 0)
    expect(tip).to_be_hidden()
    window.focus()
    page.keyboard.press("ArrowRight")
    expect(tip).to_contain_text("real")
    assert path_of(page) == unit_address(neuron_ids[0])  # the arrow was the window's


def test_simulated_activations_beside_or_under_the_real_ones(
    viewer: ViewerProcess, open_page: OpenPage, neuron_ids: list[NeuronId]
) -> None:
    page = open_page(viewer.address + unit_address(neuron_ids[0]))
    simulated = page.locator("#said .act.sim").first
    expect(simulated).to_be_visible()
    page.get_by_label("simulated as a line under real").check()
    expect(simulated).to_be_hidden()
    page.get_by_label("simulated as a line under real").uncheck()
    expect(simulated).to_be_visible()


def test_stretch_and_the_line_under_real_are_chosen_apart(
    viewer: ViewerProcess, open_page: OpenPage, neuron_ids: list[NeuronId]
) -> None:
    page = open_page(viewer.address + unit_address(neuron_ids[0]))
    boxes = {name: page.get_by_label(label) for name, label in (
        ("stretch", "stretch simulated"), ("overlay", "as a line under real"),
    )}  # fmt: skip
    on = set[str]()
    for name in ("stretch", "overlay", "stretch", "overlay"):
        boxes[name].click()
        on ^= {name}
        assert {one for one, box in boxes.items() if box.is_checked()} == on
        assert {*page.evaluate("[...document.body.classList]")} == on


def test_parts_of_a_unit_come_when_they_are_opened(
    viewer: ViewerProcess, open_page: OpenPage, neuron_ids: list[NeuronId]
) -> None:
    page = open_page(viewer.address + unit_address(neuron_ids[0]))
    n_windows = page.locator(".window").count()
    page.locator("summary", has_text="Tokens by mean activation").click()
    expect(page.locator("#tokens .filled li").first).to_be_visible()
    page.locator("summary", has_text="Promoted and suppressed").click()
    expect(page.locator("#weights .filled")).to_contain_text("Promotes", timeout=LOAD_TIMEOUT_MS)
    page.locator("summary", has_text="top windows").click()
    expect(page.locator(".window").nth(n_windows)).to_be_attached()


def test_a_unit_is_copied_as_json_and_as_markdown(
    viewer: ViewerProcess, open_page: OpenPage, neuron_ids: list[NeuronId]
) -> None:
    permissions = ["clipboard-read", "clipboard-write"]
    page = open_page(viewer.address + unit_address(neuron_ids[0]), permissions=permissions)
    page.get_by_role("button", name="Copy as JSON").click()
    expect(page.locator("#done")).to_have_text("copied")
    copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert SCRIPT in json.dumps(copied)
    assert copied == viewer.read_json(f"{unit_address(neuron_ids[0])}.json")
    page.get_by_role("button", name="Copy as markdown").click()
    page.wait_for_function("async () => (await navigator.clipboard.readText()).startsWith('#')")


def test_search_by_words_from_any_page_then_by_filters(
    viewer: ViewerProcess, open_page: OpenPage, neuron_ids: list[NeuronId]
) -> None:
    page = open_page(viewer.address)
    page.keyboard.press("/")
    page.keyboard.type("words about")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Search")
    rows = page.locator(".units tbody tr")
    n_found = rows.count()
    assert 0 < n_found <= len(neuron_ids)
    page.get_by_label("Layer").select_option("1")
    page.get_by_role("main").get_by_role("button", name="Search").click()
    page.wait_for_url("**layer=1**")
    ids = rows.locator("th a").all_inner_texts()
    assert 0 < len(ids) < n_found
    assert {NeuronId.parse(one).layer_index for one in ids} == {1}
    rows.locator("th a").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(ids[0])


def test_a_unit_is_found_by_its_number(
    viewer: ViewerProcess, open_page: OpenPage, neuron_ids: list[NeuronId]
) -> None:
    page = open_page(viewer.address)
    page.locator("#find").fill(str(neuron_ids[3]))
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{unit_address(neuron_ids[3])}")


def test_the_table_is_sorted_and_what_is_seen_goes_into_a_file(
    viewer: ViewerProcess, open_page: OpenPage, neuron_ids: list[NeuronId]
) -> None:
    page = open_page(f"{viewer.address}/table")
    head = page.get_by_role("columnheader", name=re.compile("^score"))
    head.get_by_role("button").click()
    page.wait_for_url("**sort=score**")
    expect(head).to_have_attribute("aria-sort", "descending")
    values = page.locator("tbody td:nth-child(3) b")
    expect(values.first).to_be_attached()  # the rows are asked for by the page
    scores = [float(text) for text in values.all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    with page.expect_download() as downloading:
        page.get_by_role("link", name="as csv").click()
    rows = read_csv(downloading.value)
    assert len(rows) == len(neuron_ids)
    assert [round(float(row["score"]), 2) for row in rows if row["score"]] == scores
    assert rows[-1]["reason"]  # those without a score come last, and say why
    page.get_by_label("Order").select_option("smallest first")
    page.get_by_role("main").get_by_role("button", name="Show").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    expect(values.first).to_be_attached()
    scores = [float(text) for text in values.all_inner_texts()]
    assert scores == sorted(scores)


def test_a_list_that_changes_while_one_scrolls_is_read_anew(
    viewer: ViewerProcess, open_page: OpenPage
) -> None:
    page = open_page(viewer.address)
    lists = open_changing_table(viewer, page)
    expect(page.locator("#count")).to_have_text("300 neurons")
    expect(row_link(page, 2)).to_have_text("0:0")
    lists.change(n_rows=250, is_other=False)  # while the index is being made
    page.locator("#rows").evaluate("box => box.scrollTop = 9_500")  # px, on the third page
    expect(page.locator("#count")).to_have_text("250 neurons")
    lists.change(n_rows=200)
    page.locator("#rows").evaluate("box => box.scrollTop = 5_000")  # px, on the second page
    expect(page.locator("#count")).to_have_text("200 neurons")
    page.locator("#rows").evaluate("box => box.scrollTop = 0")
    expect(row_link(page, 2)).to_have_text("1:0")


def test_tab_leads_from_row_to_row_as_the_table_follows(
    viewer: ViewerProcess, open_page: OpenPage
) -> None:
    page = open_page(viewer.address, viewport={"width": 1280, "height": 500})
    open_large_table(viewer, page, 10_000)
    row_link(page, 2).focus()
    n_drawn = page.locator("#rows tr[aria-rowindex]").count()
    for place in range(3, n_drawn + 10):
        expect(row_link(page, place)).to_be_attached()
        page.keyboard.press("Tab")
        expect(row_link(page, place)).to_be_focused()
    assert page.locator("#rows tr[aria-rowindex]").count() < 2 * n_drawn


def test_back_leads_to_the_row_that_one_left(viewer: ViewerProcess, open_page: OpenPage) -> None:
    page = open_page(viewer.address)
    open_large_table(viewer, page, 10_000)
    rows = page.locator("#rows")
    rows.evaluate("box => box.scrollTop = 170_000")  # px, half way
    row_link(page, 5010).click()
    page.wait_for_url("**/neurons/*")
    page.go_back()
    expect(row_link(page, 5010)).to_be_in_viewport()
    assert rows.evaluate("box => box.scrollTop") == 170_000


def read_csv(download: Download) -> list[dict[str, str]]:
    text = download.path().read_text(encoding="utf-8")
    return list(csv.DictReader(StringIO(text, newline="")))


def test_two_methods_and_two_runs_are_compared(viewer: ViewerProcess, open_page: OpenPage) -> None:
    page = open_page(f"{viewer.address}/compare")
    expect(page.get_by_role("heading", name="Movers")).to_be_visible()
    other = page.get_by_role("combobox", name="the other")
    of_second = other.locator("option", has_text="words:").first
    other.select_option(of_second.get_attribute("value"))
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".makers")).to_contain_text("words:")
    link = page.locator(".movers th a").first
    name = link.inner_text()
    link.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(name)


def test_a_favourite_is_kept_with_the_run(
    viewer: ViewerProcess, open_page: OpenPage, neuron_ids: list[NeuronId]
) -> None:
    page = open_page(viewer.address + unit_address(neuron_ids[2]))
    star = page.get_by_role("button", name="favourite")
    page.keyboard.press("f")
    expect(star).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("status").filter(has_text="on the list")).to_be_visible()
    page.reload()
    expect(star).to_have_attribute("aria-pressed", "true")
    page.get_by_role("link", name="Favourites").click()
    expect(page.locator(".units tbody th")).to_have_text([str(neuron_ids[2])])
    assert_is_for_everyone(page)
    page.locator(".units tbody th a").click()
    expect(star).to_be_visible()
    page.keyboard.press("f")
    expect(star).to_have_attribute("aria-pressed", "false")
    assert viewer.read_json("/favourites.json")["units"] == []


def test_every_press_of_the_star_counts_and_one_in_vain_is_told(
    viewer: ViewerProcess, open_page: OpenPage, neuron_ids: list[NeuronId]
) -> None:
    page = open_page(viewer.address + unit_address(neuron_ids[2]), failing=("favourites",))
    star = page.get_by_role("button", name="favourite")
    page.keyboard.press("f")
    page.keyboard.press("f")
    expect(page.locator("#done")).to_have_text("taken off the list")
    expect(star).to_have_attribute("aria-pressed", "false")
    assert viewer.read_json("/favourites.json")["units"] == []
    page.route("**/favourites", lambda route: route.abort())
    page.keyboard.press("f")
    expect(page.locator("#done")).to_have_text("not kept: the viewer does not answer")
    expect(star).to_have_attribute("aria-pressed", "false")


def test_lists_of_ones_own_are_named_and_changed_on_the_pages(
    viewer: ViewerProcess, open_page: OpenPage, neuron_ids: list[NeuronId]
) -> None:
    neuron_id, name = neuron_ids[1], f'"><b>&{SCRIPT[:40]}'
    page = open_page(viewer.address + unit_address(neuron_id))
    page.get_by_text("Put it on a list of yours").click()
    page.get_by_role("combobox", name="List").fill(name)
    page.get_by_role("button", name="Put on").click()
    page.get_by_text(f"On the lists {name}").click()
    page.get_by_role("link", name=name).click()
    expect(page.locator(".units tbody th")).to_have_text([str(neuron_id)])
    page.get_by_role("textbox", name="Neuron").fill(str(neuron_ids[0]))
    page.get_by_role("button", name="Put on").click()
    expect(page.locator(".units tbody tr")).to_have_count(2)
    assert_is_for_everyone(page)
    for n_left in (1, 0):
        page.get_by_role("button", name="take off").first.click()
        expect(page.locator(".units tbody tr")).to_have_count(n_left)
    assert viewer.read_json("/favourites.json")["lists"] == []


def test_colours_are_those_that_one_chooses(viewer: ViewerProcess, open_page: OpenPage) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    page = open_page(viewer.address, dark=True)
    dark = page.evaluate(background)
    button = page.get_by_role("button", name="Colour theme")
    button.click()
    expect(button).to_have_text("Theme: light")
    assert page.evaluate(background) != dark
    page.reload()
    expect(button).to_have_text("Theme: light")
    button.click()
    assert page.evaluate(background) == dark


def test_a_text_is_tried_and_leads_to_the_units_that_fire(
    viewer: ViewerProcess, open_page: OpenPage
) -> None:
    page = open_page(f"{viewer.address}/try", viewport=PHONE)
    page.get_by_label("Text").fill(f"word1 {SCRIPT} 😀")
    page.get_by_role("button", name="Read it").click(timeout=LOAD_TIMEOUT_MS)
    ranked = page.get_by_role("region", name="Neurons that are named, in order")
    expect(ranked).to_be_visible()
    tokens = page.get_by_role("region", name="The most active neurons of each token")
    expect(tokens.locator("tbody tr").nth(6)).to_contain_text(SCRIPT)
    name = ranked.locator("th a").first.inner_text()
    ranked.get_by_role("button", name="this one alone").first.click()
    expect(page.get_by_role("heading", level=2)).to_contain_text(name)
    expect(page.get_by_role("region", name="Activation on each token")).to_be_visible()


def test_a_text_is_read_as_it_was_typed_whatever_its_length(
    viewer: ViewerProcess, open_page: OpenPage
) -> None:
    page = open_page(f"{viewer.address}/try")
    tokens = page.get_by_role("region", name="The most active neurons of each token")
    typed = page.get_by_role("textbox", name="Text")
    for text in ("word1\nword2", "word1\n" + "字" * 7800):
        typed.fill(text)
        page.get_by_role("button", name="Read it").click(timeout=LOAD_TIMEOUT_MS)
        expect(typed).to_have_value(text)
        expect(tokens).to_contain_text("↵")
        expect(tokens).not_to_contain_text("␍")
    page.locator("#try").evaluate("f => f.addEventListener('submit', e => e.preventDefault())")
    page.get_by_role("button", name="Read it").click()
    expect(page.get_by_role("status").filter(has_text="until the model is loaded")).to_be_visible()


def test_ones_own_explanation_is_scored_once_its_cost_is_agreed_to(
    viewer: ViewerProcess, viewer_runs: ViewerRuns, open_page: OpenPage, asked: UnitResult
) -> None:
    neuron_id, text, author = asked.neuron_id, f"{asked.text} {SCRIPT}", '"><b>Ada</b>'
    page = open_page(viewer.address + WORDS + unit_address(neuron_id))
    page.get_by_label(f"What does neuron {neuron_id} respond to?").fill(text)
    page.get_by_label("Your name").fill(author)
    score = page.get_by_role("button", name="Score it")
    expect(score).to_be_hidden()
    page.get_by_role("button", name="What does it cost?").click()
    said = page.locator("#own-said")
    expect(said).to_contain_text("$")
    assert read_own(viewer_runs.words / FILE, neuron_id) == ()  # nobody was asked yet
    expect(score).to_be_focused()
    page.keyboard.press("Enter")
    expect(said).to_contain_text("it is in the list below", timeout=30_000)
    written = page.get_by_role("region", name="Explanations written here")
    expect(written).to_contain_text(text)
    expect(written).to_contain_text(author)
    (kept,) = read_own(viewer_runs.words / FILE, neuron_id)
    assert (kept.text, kept.author) == (text, author)
    windows = written.get_by_text("scored windows, real and simulated")
    for _ in range(2):
        windows.click()
        expect(written.locator(".window .act.sim").first).to_be_visible()
        page.reload()
        expect(written).to_contain_text(text)
    assert_is_for_everyone(page)


def test_a_run_without_a_language_model_says_why_none_can_be_asked(
    viewer: ViewerProcess, open_page: OpenPage, neuron_ids: list[NeuronId]
) -> None:
    page = open_page(viewer.address + unit_address(neuron_ids[0]))
    section = page.get_by_role("region", name="Your own explanation")
    expect(section.locator(".empty").first).not_to_be_empty()
    expect(section.get_by_role("textbox")).to_have_count(0)
