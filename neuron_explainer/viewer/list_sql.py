"""SQL of a list: which rows a selection lets through, and the order that they are in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from neuron_explainer.viewer.index_schema import COLUMNS
from neuron_explainer.viewer.selection import BY_UNIT, Selection


class Condition(NamedTuple):
    """In SQL: a column, what is asked of it, and the values for its places."""

    column: str
    test: str
    values: tuple[Any, ...] = ()

    @property
    def sql(self) -> str:
        return f"{self.column} {self.test}"


def passing(
    method: int,
    selection: Selection,
    found: Sequence[int] | None,
    *,
    is_ordered: bool = True,
) -> tuple[str, list[Any]]:
    """What rows of a method have to fulfil, in SQL, and its values. found: by the words.

    is_ordered: the rows are wanted in the selection's order. Its index is the one to use, as sqlite
    can then end after the first that pass; of a search, the rows that were found.
    """
    asked = [Condition("method", "= ?", (method,)), *conditions(selection)]
    free = {"method", leading_column(selection)} if is_ordered else {c.column for c in asked}
    if found is not None:
        asked.append(Condition("id", "IN (SELECT value FROM json_each(?))", (json.dumps(found),)))
        free = {"id"}
    # A plus keeps sqlite from the index of a column.
    parts = [one.sql if one.column in free else f"+{one.sql}" for one in asked]
    return " AND ".join(parts), [*values_of(asked)]


def conditions(selection: Selection) -> Iterator[Condition]:
    """What a row must be, its words apart."""
    compared = (
        ("layer_index", "= ?", selection.layer),
        ("score", ">= ?", selection.min_score),
        ("score", "<= ?", selection.max_score),
        ("density", ">= ?", selection.min_density),
        ("density", "<= ?", selection.max_density),
    )
    yield from (Condition(name, test, (v,)) for name, test, v in compared if v is not None)
    if selection.status is not None:
        yield Condition("score", f"IS {'NOT ' if selection.status == 'scored' else ''}NULL")
    for column in ("model", "simulator", "scorer"):
        name = getattr(selection, column)
        if name is not None:
            test = f"IN (SELECT number FROM makers WHERE {column} = ?)"
            yield Condition("makers", test, (name,))


def values_of(asked: Iterable[Condition]) -> tuple[Any, ...]:
    """In the order of their places."""
    return tuple(value for one in asked for value in one.values)


def leading_column(selection: Selection) -> str:
    """The column that a list is in the order of first."""
    return COLUMNS.get(selection.sort, "layer_index")


def order_by(selection: Selection) -> str:
    """Layer and unit at the end, so that no two rows are level; what has no value comes last."""
    direction = " DESC" if selection.desc else ""
    if selection.sort in BY_UNIT:
        return f"ORDER BY layer_index{direction}, neuron_index{direction}"
    column = COLUMNS[selection.sort]
    return (
        f"ORDER BY {column}{direction} NULLS LAST, layer_index{direction}, neuron_index{direction}"
    )
