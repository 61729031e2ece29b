"""What a search finds beyond its own list: other methods, other sources, imported lists."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.viewer.selection import RELEVANCE, Selection
from neuron_explainer.viewer.served import Served
from neuron_explainer.viewer.state import State
from neuron_explainer.viewer.unit_rows import Method

N_ELSEWHERE = 10
"""Of each source's methods, and of each source's lists."""


class Beside(NamedTuple):
    """An explanation that is not of the list."""

    source: str
    """Key of its source."""
    by: str
    """Who says it, such as `a run: patterns`."""
    neuron_id: NeuronId
    text: str | None
    score: float | None
    reason: str | None
    """Why there is no score."""


def find_elsewhere(
    state: State, served: Served, method: Method | None, selection: Selection
) -> tuple[Beside, ...]:
    """Best fitting first, of each place; empty unless words are looked for.

    method: of the list, which has it already.
    """
    if not selection.q or selection.sort != RELEVANCE:
        return ()
    own = served.source.key
    found: list[Beside] = []
    for key in sorted(state.sources, key=lambda key: key != own):
        found += _of_methods(state, key, method if key == own else None, selection)
        found += islice(_of_lists(state, key, selection), N_ELSEWHERE)
    return tuple(found)


def beside_json(one: Beside) -> dict[str, Any]:
    return {
        "source": one.source, "by": one.by, "layer": one.neuron_id.layer_index,
        "neuron": one.neuron_id.neuron_index, "explanation": one.text, "score": one.score,
        "reason": one.reason,
    }  # fmt: skip


def _of_methods(
    state: State, key: str, but: Method | None, selection: Selection
) -> Iterator[Beside]:
    with state.rows(key) as (rows, _):
        if rows is None:
            return
        for method, row in rows.search_beside(but, selection, N_ELSEWHERE):
            by = _named(state, key, method.label)
            yield Beside(key, by, row.neuron_id, row.text, row.score, row.reason)


def _of_lists(state: State, key: str, selection: Selection) -> Iterator[Beside]:
    """A list says nothing of density, status or who scored: with such a filter it has nothing."""
    known = Selection(q=selection.q, layer=selection.layer, min_score=selection.min_score)
    if selection.narrowed() != known:
        return
    for name, result in state.sources[key].search_imported(
        known.q, known.layer, known.min_score, N_ELSEWHERE
    ):
        score = None if result.score is None else result.score.value
        reason = "no score in the list" if score is None else None
        yield Beside(key, _named(state, key, name), result.neuron_id, result.text, score, reason)


def _named(state: State, key: str, name: str) -> str:
    return name if len(state.sources) == 1 else f"{state.sources[key].title}: {name}"
