"""The viewer's pages as files, for a web host that runs nothing: what a server would be asked for
is left out, every link leads to a file that is there, and the folder appears whole or not at all.

    index.html                        home
    table/by-neuron-1.html            all units in order, a page after the other; by score, too
    layers/3/neurons/17.html          a unit with all its windows on one page
    compare.html                      the first source beside another one, or beside its baseline
    search.html, units.json           words looked for by a script, where the units are not too many
    static/                           style sheets and scripts
    b/                                the same for a second source
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from neuron_explainer.errors import StoreError, UsageError
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import GOOD_SCORE
from neuron_explainer.stores.atomic import replacing_folder
from neuron_explainer.viewer.compare_routes import (
    Compares,
    choose_sides,
    compare_sides,
    read_choices,
    warn_of,
)
from neuron_explainer.viewer.display import printable
from neuron_explainer.viewer.environment import render_page
from neuron_explainer.viewer.guard import policy
from neuron_explainer.viewer.home_routes import read_home
from neuron_explainer.viewer.pages import Entry, Site
from neuron_explainer.viewer.selection import Selection
from neuron_explainer.viewer.served import Served
from neuron_explainer.viewer.state import State
from neuron_explainer.viewer.static_links import (
    COMPARE,
    HOME,
    ORDERS,
    SEARCH,
    FileLinks,
    table_file,
    unit_file,
    without_absent,
)
from neuron_explainer.viewer.unit_routes import unit_context
from neuron_explainer.viewer.unit_rows import Method, UnitRow, UnitRows

HEAD = '<meta charset="utf-8">'
STATIC = Path(__file__).parent / "static"
FILES = ("report.css", "view.css", "dark.css", "page.js", "view.js", "find.js")
MARK = "neuron-explainer-site.json"
"""In a folder that was exported, which another export may replace."""
OnPage = Callable[[int, int], None]
"""Is told how many units' pages of how many are written."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large a site may get."""

    most: int = 1000
    """Units of a source that have a page: the best by score; one takes some 250 kB."""
    rows_a_page: int = 200
    """Of the table."""
    most_searched: int = 20_000
    """Units that a browser may search through; their file has some 200 bytes of each."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What of a source goes into the site."""

    served: Served
    method: Method
    by_unit: Sequence[NeuronId]
    by_score: Sequence[NeuronId]
    n_all: int
    """Units that the method has a result of."""
    sizes: Sizes
    folder: Path
    to_root: str

    @property
    def page_of_layer(self) -> dict[int, int]:
        """Layer -> page of the table by neuron where it begins."""
        pages: dict[int, int] = {}
        for place, neuron_id in enumerate(self.by_unit):
            pages.setdefault(neuron_id.layer_index, place // self.sizes.rows_a_page + 1)
        return pages


def export_site(
    state: State,
    folder: Path,
    *,
    selection: Selection | None = None,
    sizes: Sizes | None = None,
    on_page: OnPage = lambda _n, _of: None,
) -> dict[str, int]:
    """Source's key -> units that have a page: those of the selection, the best by score.

    UsageError for a folder that holds anything but a former export; StoreError where a source has
    no result.
    """
    _require_replaceable(folder)
    for key, keeper in state.keepers.items():
        keeper.update()
        if keeper.problem is not None:
            raise StoreError(f"source {key}: {keeper.problem}")
    with replacing_folder(folder) as root:
        (root / "static").mkdir()
        for name in FILES:
            shutil.copyfile(STATIC / name, root / "static" / name)
        chosen = {}
        for key in state.sources:
            is_first = key == state.first.key
            of_source = root if is_first else root / key
            of_source.mkdir(exist_ok=True)
            with state.rows(key, None if selection is None else selection.method) as found:
                chosen[key] = _choose(
                    state.find(key), *found, selection or Selection(), sizes or Sizes(), of_source,
                    "" if is_first else "../",
                )  # fmt: skip
        sides = _choose_sides(state, chosen[state.first.key])
        for key, exported in chosen.items():
            with state.rows(key) as (rows, _):
                assert rows is not None
                _write_source(_Writer(state, exported, sides is not None), rows, on_page)
        if sides is not None:
            _write_comparison(state, chosen, sides)
        counts = {key: len(exported.by_unit) for key, exported in chosen.items()}
        (root / MARK).write_text(json.dumps({"units": counts}) + "\n", encoding="utf-8")
    return counts


def _require_replaceable(folder: Path) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / MARK).is_file():
        raise UsageError(
            f"{folder} holds something else than an exported site; name a folder that is empty, "
            "or not there yet"
        )


def _choose(
    served: Served,
    rows: UnitRows | None,
    method: Method | None,
    selection: Selection,
    sizes: Sizes,
    folder: Path,
    to_root: str,
) -> Exported:
    if sizes.most < 1:
        raise UsageError(f"at least 1 neuron must be exported, not {sizes.most}")
    if rows is None or method is None:
        raise StoreError(f"{served.source.title}: nothing is explained yet; run `explain` first")
    by_score = replace(selection, sort="score", desc=True)
    best = [row.neuron_id for row in islice(rows.all(method, by_score), sizes.most)]
    if not best:
        raise UsageError(f"{served.source.title}: the selection has no neuron")
    n_all = rows.count(method, Selection())
    return Exported(served, method, sorted(best), best, n_all, sizes, folder, to_root)


def _choose_sides(state: State, first: Exported) -> tuple[str, str] | None:
    """The first source's method and what it is compared with; None: there is nothing."""
    choices = read_choices(state, first.served)
    own = f"{first.served.source.key}:{first.method.fingerprint}"
    return choose_sides(state, choices, own, None)


def _write_comparison(state: State, chosen: Mapping[str, Exported], sides: tuple[str, str]) -> None:
    found, (side, beside) = compare_sides(state, Compares(), *sides)

    def links_of(key: str) -> FileLinks:
        to = chosen[key]
        folder = "" if key == state.first.key else f"{key}/"
        return FileLinks(
            COMPARE, frozenset(to.by_unit), to.page_of_layer, to.method.fingerprint, folder=folder
        )

    writer = _Writer(state, chosen[state.first.key], has_comparison=True)
    writer.write(
        COMPARE, "compare.html.j2", "compare", chosen=sides, choices=(), view=found,
        sides=(side, beside), warning=warn_of(state, side, beside), nothing="", links_of=links_of,
    )  # fmt: skip


def _write_source(writer: _Writer, rows: UnitRows, on_page: OnPage) -> None:
    state, exported = writer.state, writer.exported
    home = read_home(state, exported.served, exported.method.fingerprint)
    writer.write(HOME, "home.html.j2", "", home=home, good_score=GOOD_SCORE)
    writer.write_table(rows, "unit", exported.by_unit)
    writer.write_table(rows, "score", exported.by_score)
    writer.write_search(rows)
    for place in range(len(exported.by_unit)):
        writer.write_unit(place)
        on_page(place + 1, len(exported.by_unit))


class _Writer:
    """Files of one source."""

    def __init__(self, state: State, exported: Exported, has_comparison: bool) -> None:
        self.state = state
        self.exported = exported
        self._has_comparison = has_comparison
        self._units = frozenset(exported.by_unit)
        self._page_of_layer = exported.page_of_layer

    def write(self, file: str, template: str, here: str, **context: object) -> None:
        """here: the page's name in the navigation."""
        links = self._links(file)
        served = replace(self.exported.served, links=links)
        site = self._site(links, here)
        page = render_page(template, site=site, served=served, **context)
        html = page.html.replace(HEAD, HEAD + _policy_element(page.style_hash), 1)
        path = self.exported.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(without_absent(html), encoding="utf-8")

    def write_table(self, rows: UnitRows, sort: str, neuron_ids: Sequence[NeuronId]) -> None:
        n_rows = self.exported.sizes.rows_a_page
        n_pages = -(-len(neuron_ids) // n_rows)
        for number in range(1, n_pages + 1):
            start = (number - 1) * n_rows
            page = neuron_ids[start : start + n_rows]
            file = table_file(sort, number)
            links = self._links(file)
            pages = [(n, links.file(table_file(sort, n))) for n in _near(number, n_pages)]
            others = [
                (name, links.file(table_file(order, 1)), order == sort)
                for order, name in ORDERS.items()
            ]
            self.write(
                file, "static_table.html.j2", "table", rows=self._rows_of(rows, page), place=start,
                n_rows=len(neuron_ids), number=number, pages=pages, orders=others,
            )  # fmt: skip

    def write_search(self, rows: UnitRows) -> None:
        """With a file of all units, where a browser can look through it."""
        units, sizes = self.exported.by_score, self.exported.sizes
        is_searched = len(units) <= sizes.most_searched
        self.write(SEARCH, "static_search.html.j2", "search", n=len(units), has_index=is_searched)
        if not is_searched:
            return
        with (self.exported.folder / "units.json").open("w", encoding="utf-8") as file:
            for place in range(0, len(units), sizes.rows_a_page):
                for row in self._rows_of(rows, units[place : place + sizes.rows_a_page]):
                    file.write("[" if row.neuron_id == units[0] else ",\n")
                    file.write(json.dumps(_searched(row), ensure_ascii=False, allow_nan=False))
            file.write("]\n")

    def write_unit(self, place: int) -> None:
        """place: among those that are exported, in order."""
        served, units = self.exported.served, self.exported.by_unit
        neuron_id = units[place]
        self.write(
            unit_file(neuron_id), "unit.html.j2", "unit",
            **unit_context(served, neuron_id, is_all=True),
            before=units[place - 1] if place else None,
            behind=units[place + 1] if place + 1 < len(units) else None,
        )  # fmt: skip

    def _links(self, file: str) -> FileLinks:
        return FileLinks(
            file, self._units, self._page_of_layer, self.exported.method.fingerprint,
            self.exported.to_root,
        )  # fmt: skip

    def _site(self, links: FileLinks, here: str) -> Site:
        nav = [
            Entry(name, links.page(page), page == here)
            for name, page in (("Home", ""), ("Table", "table"), ("Search", "search"))
        ]
        if self._has_comparison:
            address = links.file(f"{self.exported.to_root}{COMPARE}")
            nav.append(Entry("Compare", address, here == "compare"))
        key, first = self.exported.served.source.key, self.state.first.key
        folders = {key: "" if key == first else f"{key}/" for key in self.state.sources}
        sources = [
            Entry(
                self.state.sources[other].title,
                links.file(f"{self.exported.to_root}{folder}{HOME}"),
                other == key,
            )
            for other, folder in folders.items()
        ]
        title = self.exported.served.source.title
        return Site(title, links, nav, sources, self._notice(), is_served=False)

    def _notice(self) -> str | None:
        n, n_all = len(self.exported.by_unit), self.exported.n_all
        if n == n_all:
            return None
        return f"This copy has pages of {n:,} of {n_all:,} neurons; the numbers are of all of them."

    def _rows_of(self, rows: UnitRows, neuron_ids: Sequence[NeuronId]) -> list[UnitRow]:
        """In the order of the ids."""
        found = rows.of_units(self.exported.method, neuron_ids)
        by_id = {row.neuron_id: row for row in found}
        return [by_id[neuron_id] for neuron_id in neuron_ids]


def _policy_element(style_hash: str | None) -> str:
    """What a server says in a header; of frames an element may say nothing."""
    said = policy(style_hash).replace("; frame-ancestors 'none'", "")
    return f'\n<meta http-equiv="Content-Security-Policy" content="{said}">'


def _near(number: int, n_pages: int) -> Iterator[int]:
    """The pages that a page links to: the first, the last, and those around it."""
    for n in range(1, n_pages + 1):
        if n in (1, n_pages) or abs(n - number) <= 2:
            yield n


def _searched(row: UnitRow) -> list[object]:
    """Unit, explanation or None, score or None."""
    text = None if row.text is None else printable(row.text)
    score = None if row.score is None else round(row.score, 3)
    return [row.neuron_id.layer_index, row.neuron_id.neuron_index, text, score]
