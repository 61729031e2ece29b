"""Every link of an exported site leads to a file in it, and nothing in it needs a server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from neuron_explainer.errors import StoreError, UsageError
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.view_sources import open_sources
from neuron_explainer.stores.results import Results
from neuron_explainer.viewer.selection import Selection
from neuron_explainer.viewer.state import State
from neuron_explainer.viewer.static_links import ABSENT
from neuron_explainer.viewer.static_site import MARK, Sizes, export_site
from tests.viewer.test_try_routes import Page
from tests.viewer.tiny_run import make_run

N_EXPLAINED = 16


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("run"), neurons=str(N_EXPLAINED))


def state_of(*runs: RunFolder) -> State:
    return State(open_sources(runs, None, "gpt2-xl"))


@pytest.fixture(scope="module")
def site(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "site"
    assert export_site(state_of(run), folder) == {"a": N_EXPLAINED}
    return folder


def pages(site: Path) -> Iterator[tuple[Path, Page]]:
    for path in sorted(site.rglob("*.html")):
        yield path, Page(path.read_text("utf-8"))


def addresses(page: Page) -> Iterator[str]:
    for _, attributes in page.tags:
        for name in ("href", "src", "action", "data-units"):
            address = attributes.get(name)
            if address is not None and not address.startswith("data:"):
                yield address


def require_whole(site: Path) -> int:
    """Addresses that were followed; each leads to a file below the site, or within its page."""
    n_followed = 0
    for path, page in pages(site):
        ids = {attributes.get("id") for _, attributes in page.tags}
        for address in addresses(page):
            parts = urlsplit(address)
            assert not parts.scheme and not parts.netloc, f"{path}: {address}"
            assert not parts.query and not address.startswith("/"), f"{path}: {address}"
            if not parts.path:
                assert parts.fragment in ids, f"{path}: {address}"
                continue
            target = (path.parent / unquote(parts.path)).resolve()
            assert target.is_file() and target.is_relative_to(site), f"{path}: {address}"
            n_followed += 1
    return n_followed


def test_every_link_leads_to_a_file(site: Path) -> None:
    assert require_whole(site) > 10 * N_EXPLAINED


def test_every_explained_unit_has_a_page_and_all_are_reached_from_home(
    site: Path, run: RunFolder
) -> None:
    with Results(run.results, read_only=True) as results:
        units = list(results.units(results.current_method()))
    for unit in units:
        layer, neuron = unit.neuron_id.layer_index, unit.neuron_id.neuron_index
        page = Page((site / f"layers/{layer}/neurons/{neuron}.html").read_text("utf-8"))
        assert str(unit.neuron_id) in page.text
    seen, waiting = set(), [site / "index.html"]
    while waiting:
        path = waiting.pop().resolve()
        if path in seen or path.suffix != ".html":
            continue
        seen.add(path)
        links = (urlsplit(a).path for a in addresses(Page(path.read_text("utf-8"))))
        waiting += [path.parent / unquote(link) for link in links if link]
    assert seen == {path.resolve() for path in site.rglob("*.html")}


def test_nothing_needs_a_server(site: Path) -> None:
    for path, page in pages(site):
        assert not page.all("form"), path
        assert ABSENT not in path.read_text("utf-8")
        for _, attributes in page.tags:
            assert "data-src" not in attributes and "data-events" not in attributes, path
            assert "data-address" not in attributes, path


def test_the_policy_of_the_server_holds_without_one(site: Path) -> None:
    for path, page in pages(site):
        (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv")]
        assert policy is not None and "default-src 'none'" in policy
        assert "unsafe" not in policy and "frame-ancestors" not in policy
        has_style = "<style>" in path.read_text("utf-8")
        assert ("'sha256-" in policy) == has_style


def test_texts_show_as_text(site: Path) -> None:
    for path, page in pages(site):
        assert all("src" in attributes for attributes in page.all("script")), path
        assert not page.all("img")
        assert not any(name.startswith("on") for _, a in page.tags for name in a), path
        assert not any("style" in a for _, a in page.tags), path


def test_a_browser_finds_every_unit_in_the_list_of_all(site: Path, run: RunFolder) -> None:
    listed = json.loads((site / "units.json").read_text("utf-8"))
    assert len(listed) == N_EXPLAINED
    scores = [score for *_, score in listed if score is not None]
    assert scores == sorted(scores, reverse=True)
    with Results(run.results, read_only=True) as results:
        method = results.current_method()
        by_id = {str(u.neuron_id): u for u in results.units(method)}
    for layer, neuron, text, score in listed:
        unit = by_id[f"{layer}:{neuron}"]
        assert (text is None) == (unit.text is None)
        value = None if unit.score is None else unit.score.value
        assert score == (None if value is None else round(value, 3))


def test_of_a_part_the_best_are_there_and_that_is_told(run: RunFolder, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    assert export_site(state_of(run), folder, sizes=Sizes(most=7)) == {"a": 7}
    assert require_whole(folder) > 0
    listed = json.loads((folder / "units.json").read_text("utf-8"))
    with Results(run.results, read_only=True) as results:
        units = list(results.units(results.current_method()))
    best = sorted(u.score.value for u in units if u.score and u.score.value is not None)[-7:]
    assert [score for *_, score in listed] == [round(value, 3) for value in best[::-1]]
    assert f"7 of {N_EXPLAINED} neurons" in Page((folder / "index.html").read_text("utf-8")).text


def test_a_selection_is_what_is_exported(run: RunFolder, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    n = export_site(state_of(run), folder, selection=Selection(layer=1))["a"]
    assert 0 < n < N_EXPLAINED
    assert {path.name for path in (folder / "layers").iterdir()} == {"1"}
    require_whole(folder)
    with pytest.raises(UsageError, match="no neuron"):
        export_site(state_of(run), folder, selection=Selection(min_score=2.0))
    assert (folder / "index.html").exists()  # what was there is there still


def test_two_runs_are_beside_each_other(run: RunFolder, tmp_path: Path) -> None:
    other = RunFolder(shutil.copytree(run.path, tmp_path / "other"))
    folder = tmp_path / "site"
    assert export_site(state_of(run, other), folder, sizes=Sizes(most=5)) == {"a": 5, "b": 5}
    require_whole(folder)
    links = {a.get("href") for a in Page((folder / "index.html").read_text("utf-8")).all("a")}
    assert "b/index.html" in links
    back = {a.get("href") for a in Page((folder / "b/index.html").read_text("utf-8")).all("a")}
    assert "../index.html" in back and "../compare.html" in back
    compared = Page((folder / "compare.html").read_text("utf-8"))
    assert compared.all("circle") and not compared.all("form")
    assert "neurons scored by both" in compared.text


def test_too_many_units_to_search_are_told_of(run: RunFolder, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    export_site(state_of(run), folder, sizes=Sizes(most=5, most_searched=3))
    assert not (folder / "units.json").exists()
    assert "cannot search" in Page((folder / "search.html").read_text("utf-8")).text
    require_whole(folder)


def test_a_table_of_many_pages_has_each_unit_once(run: RunFolder, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    export_site(state_of(run), folder, sizes=Sizes(rows_a_page=3))
    require_whole(folder)
    for order in ("neuron", "score"):
        rows = [
            a["href"]
            for path in (folder / "table").glob(f"by-{order}-*.html")
            for a in Page(path.read_text("utf-8")).all("a")
            if a.get("class") == "id"
        ]
        assert len(rows) == len(set(rows)) == N_EXPLAINED


def test_a_folder_of_another_kind_is_not_touched(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="something else"):
        export_site(state_of(run), tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "mine"


def test_an_export_that_fails_leaves_the_former_one(run: RunFolder, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    export_site(state_of(run), folder, sizes=Sizes(most=2))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def fail(n: int, _of: int) -> None:
        if n == 3:
            raise StoreError("the disk is full")

    with pytest.raises(StoreError, match="full"):
        export_site(state_of(run), folder, on_page=fail)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert after == before
    assert {path.name for path in tmp_path.iterdir()} == {"site"}
    assert json.loads((folder / MARK).read_text()) == {"units": {"a": 2}}


def test_the_same_run_gives_the_same_files(run: RunFolder, site: Path, tmp_path: Path) -> None:
    again = tmp_path / "site"
    export_site(state_of(run), again)
    names = sorted(str(path.relative_to(site)) for path in site.rglob("*.html"))
    assert names == sorted(str(path.relative_to(again)) for path in again.rglob("*.html"))
    assert all((site / name).read_bytes() == (again / name).read_bytes() for name in names)
