"""Which units a list shows, and in which order: read from an address, and written into one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from neuron_explainer.errors import UsageError
from neuron_explainer.records.listed import MAX_INDEX
from neuron_explainer.viewer.index_schema import COLUMNS

UNIT = "unit"
RELEVANCE = "relevance"
SORTS = (RELEVANCE, UNIT, *COLUMNS)
BY_UNIT = (UNIT, RELEVANCE)
"""What is no column: a list in pages is in the order of units then."""
STATUSES = ("scored", "unscored")
MOST_LETTERS = 300
"""Of a query."""


@dataclass(frozen=True, slots=True)
class Selection:
    """None, or empty: any. The names are those of the address."""

    q: str = ""
    """Words that the explanation has."""
    method: str | None = None
    """Fingerprint; None: the current one."""
    layer: int | None = None
    min_score: float | None = None
    max_score: float | None = None
    min_density: float | None = None
    max_density: float | None = None
    """Share of tokens on which the unit is above 0."""
    status: str | None = None
    """One of `STATUSES`."""
    model: str | None = None
    """Language model that wrote the explanation."""
    simulator: str | None = None
    scorer: str | None = None
    sort: str = UNIT
    """One of `SORTS`."""
    desc: bool = False

    def __post_init__(self) -> None:
        if self.sort not in SORTS:
            raise UsageError(f"sort={self.sort}: one of {', '.join(SORTS)}")
        if self.status is not None and self.status not in STATUSES:
            raise UsageError(f"status={self.status}: one of {', '.join(STATUSES)}")
        if self.layer is not None and not 0 <= self.layer <= MAX_INDEX:
            raise UsageError(f"layer={self.layer} is not a layer")

    @property
    def is_all(self) -> bool:
        """Whether every unit of the method is shown."""
        return self.narrowed() == Selection()

    def narrowed(self) -> Selection:
        """Without what does not say which units are shown."""
        return replace(self, method=None, sort=UNIT, desc=False)

    def query(self, **changes: object) -> dict[str, str]:
        """For an address; what is as it is when not said is left out.

        The order always is, as lists differ in what it is otherwise.
        """
        changed = replace(self, **changes)  # type: ignore[arg-type]
        always = {"sort": True, "desc": changed.sort not in BY_UNIT}
        pairs = ((f.name, getattr(changed, f.name), f.default) for f in fields(self))
        return {
            name: _written(value)
            for name, value, default in pairs
            if value != default or always.get(name)
        }


def parse_selection(
    query: Mapping[str, str], *, sort: str = UNIT, of_found: str = RELEVANCE
) -> Selection:
    """UsageError for what cannot be meant. sort: when none is named and nothing is looked for.
    of_found: when none is named and words are looked for.
    """
    given = {name: value.strip() for name, value in query.items() if value.strip()}
    words = given.get("q", "")[:MOST_LETTERS]
    chosen = given.get("sort") or (of_found if words else sort)
    return Selection(
        q=words,
        method=given.get("method"),
        layer=_whole(given, "layer"),
        min_score=_number(given, "min_score"),
        max_score=_number(given, "max_score"),
        min_density=_number(given, "min_density"),
        max_density=_number(given, "max_density"),
        status=given.get("status"),
        model=given.get("model"),
        simulator=given.get("simulator"),
        scorer=given.get("scorer"),
        sort=UNIT if chosen == RELEVANCE and not words else chosen,
        desc=_yes_or_no(given, "desc", otherwise=chosen not in BY_UNIT),
    )


def whole_number(text: str, name: str, most: int = MAX_INDEX) -> int:
    """From 0 to `most`; UsageError for anything else."""
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= most):
        wanted = "a whole number" if most == MAX_INDEX else f"a number from 0 to {most:,}"
        raise UsageError(f"{name}={text[:40]}: write {wanted}")
    return int(text)


def _whole(given: Mapping[str, str], name: str) -> int | None:
    return whole_number(given[name], name) if name in given else None


def _yes_or_no(given: Mapping[str, str], name: str, *, otherwise: bool) -> bool:
    if name not in given:
        return otherwise
    answer = {"1": True, "true": True, "0": False, "false": False}.get(given[name].lower())
    if answer is None:
        raise UsageError(f"{name}={given[name][:40]}: write 1 or 0")
    return answer


def _number(given: Mapping[str, str], name: str) -> float | None:
    if name not in given:
        return None
    try:
        value = float(given[name])
    except ValueError as error:
        raise UsageError(f"{name}={given[name][:40]}: write a number, such as 0.5") from error
    if not math.isfinite(value):
        raise UsageError(f"{name}={given[name][:40]}: write a number, such as 0.5")
    return value


def _written(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else f"{value}"
