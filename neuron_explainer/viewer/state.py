"""What the routes share: the sources with their indexes, and how a page is answered."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from fastapi import HTTPException
from starlette.responses import HTMLResponse, Response

from neuron_explainer.errors import UsageError
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.viewer.environment import render_page
from neuron_explainer.viewer.guard import policy
from neuron_explainer.viewer.hooks import Hooks, no_hooks
from neuron_explainer.viewer.keeper import FollowedIndex, IndexKeeper
from neuron_explainer.viewer.links import Links, ServerLinks
from neuron_explainer.viewer.pages import Entry, Site
from neuron_explainer.viewer.selection import Selection
from neuron_explainer.viewer.served import Served, UnitLine
from neuron_explainer.viewer.sources import ViewSource
from neuron_explainer.viewer.turns import Turns
from neuron_explainer.viewer.unit_rows import Method, UnitRows

NAV = (
    ("Home", ""), ("Table", "table"), ("Compare", "compare"), ("Favourites", "favourites"),
    ("Try it", "try"), ("Live", "live"), ("Random", "random"),
)  # fmt: skip
KEYS = {"random": "r"}


class State:
    """Of one server."""

    def __init__(
        self,
        sources: Sequence[ViewSource],
        hooks: Mapping[str, Hooks] | None = None,
        *,
        follows: bool = False,
    ) -> None:
        """hooks: by the source's key. follows: another process keeps the indexes."""
        if not sources:
            raise UsageError("nothing to view; name a run with --run, or use --published")
        self.sources = {source.key: source for source in sources}
        self.first = sources[0]
        self.turns = Turns()
        keeper = FollowedIndex if follows else IndexKeeper
        self.keepers = {source.key: keeper(source) for source in sources}
        given = hooks or {}
        absent = no_hooks("the viewer was started without a model")
        self._served = {key: self._serve(key, given.get(key, absent)) for key in self.sources}

    def _serve(self, key: str, hooks: Hooks) -> Served:
        def look_up(neuron_ids: Sequence[NeuronId]) -> Mapping[NeuronId, UnitLine]:
            with self.rows(key) as (rows, method):
                if rows is None or method is None:
                    return {}
                found = rows.of_units(method, neuron_ids)
            return {row.neuron_id: UnitLine(row.text, row.score, row.reason) for row in found}

        def explained() -> Collection[NeuronId]:
            with self.rows(key) as (rows, method):
                if rows is None or method is None:
                    return ()
                return {row.neuron_id for row in rows.all(method, Selection())}

        return Served(self.sources[key], hooks, self.links(key), look_up, explained)

    def refresh(self) -> None:
        """Begins to read what is new, of all sources."""
        for keeper in self.keepers.values():
            keeper.refresh()

    def update(self) -> None:
        """Reads what is new, of all sources, to its end."""
        for keeper in self.keepers.values():
            keeper.update()

    def follow(self, versions: Mapping[str, int]) -> None:
        """Of a state that follows: the versions of the indexes, by the source's key."""
        for key, keeper in self.keepers.items():
            assert isinstance(keeper, FollowedIndex)
            keeper.follow(versions[key])

    def close(self) -> None:
        """Keeps no file open any more."""
        for keeper in self.keepers.values():
            keeper.close()

    def links(self, key: str) -> Links:
        return ServerLinks(None if key == self.first.key else key)

    def find(self, key: str | None) -> Served:
        """None: the first source; 404 for one that is not there."""
        served = self._served.get(key or self.first.key)
        if served is None:
            raise HTTPException(404, f"no source {key[:20] if key else ''!r} here")
        return served

    @contextmanager
    def rows(
        self, key: str, fingerprint: str | None = None
    ) -> Iterator[tuple[UnitRows | None, Method | None]]:
        """The index and one of its methods, the current one if not said; None: not there yet."""
        keeper = self.keepers[key]
        keeper.refresh()
        with keeper.rows() as rows:
            yield rows, None if rows is None else rows.method(fingerprint)

    def site(self, served: Served, here: str) -> Site:
        """here: the page's name in the navigation."""
        key, links = served.source.key, served.links
        nav = [
            Entry(name, links.page(page), page == here, KEYS.get(page, ""))
            for name, page in NAV
            if self._has(served, page)
        ]
        sources = [
            Entry(source.title, self.links(source.key).page(), source.key == key)
            for source in self.sources.values()
        ]
        return Site(served.source.title, links, nav, sources, self._notice(key))

    def _has(self, served: Served, page: str) -> bool:
        """Of a run that is collecting there is Live alone."""
        if page != "live" and served.source.awaited is not None:
            return False
        if page == "try":
            return served.hooks.read_layers is not None or served.hooks.read_unit is not None
        if page == "live":
            return served.hooks.status is not None
        return True

    def _notice(self, key: str) -> str | None:
        keeper = self.keepers[key]
        if keeper.are_records_others:
            return (
                "The collection that is shown here is gone, or another one is in its place: start "
                "the viewer anew."
            )
        if keeper.problem is not None:
            return f"The lists are not up to date: {keeper.problem}"
        if keeper.building is not None:
            n_read, n_rows = keeper.building.n_read, keeper.building.n_rows
            if n_rows == 0:
                return "There may be new results; they are being read. Look again in a moment."
            return (
                f"The lists are being made: {n_read:,} of {n_rows:,} results so far. Pages of "
                "single neurons are whole."
            )
        return None

    def show(
        self, served: Served, template: str, here: str, status: int = 200, **context: object
    ) -> Response:
        """Answers with a page."""
        page = render_page(template, site=self.site(served, here), served=served, **context)
        headers = {"Content-Security-Policy": policy(page.style_hash)}
        return HTMLResponse(page.html, status, headers)
