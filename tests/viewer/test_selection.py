"""What an address says of a list, and what it cannot."""

from __future__ import annotations

from dataclasses import fields
from itertools import product

import pytest

from neuron_explainer.errors import UsageError
from neuron_explainer.viewer.selection import RELEVANCE, SORTS, UNIT, Selection, parse_selection

FULL = Selection(
    q="words about time", method="0a", layer=3, min_score=0.25, max_score=0.5, min_density=0.0,
    max_density=1e-05, status="scored", model="m", simulator="s", scorer="c", sort="gain",
    desc=True,
)  # fmt: skip


def test_a_selection_reads_back_from_its_address() -> None:
    assert all(getattr(FULL, f.name) != f.default for f in fields(FULL) if f.name != "min_density")
    assert parse_selection(FULL.query()) == FULL
    for words, sort, desc in product(("", "time"), SORTS, (False, True)):
        if sort == RELEVANCE and not words:
            continue
        selection = Selection(q=words, sort=sort, desc=desc)
        for otherwise, of_found in product((UNIT, "score"), (RELEVANCE, UNIT)):
            again = parse_selection(selection.query(), sort=otherwise, of_found=of_found)
            assert again == selection


def test_an_empty_address_is_everything() -> None:
    assert parse_selection({}) == Selection()
    assert parse_selection({"q": " ", "layer": "", "min_score": ""}).is_all
    assert not FULL.is_all


def test_words_are_by_relevance_and_columns_from_the_largest_unless_said() -> None:
    assert parse_selection({"q": "time"}).sort == "relevance"
    assert parse_selection({"q": "time"}, of_found="unit").sort == "unit"
    assert parse_selection({"sort": "relevance"}).sort == "unit"
    assert parse_selection({"sort": "score"}).desc
    for no, yes in (("0", "1"), ("false", "true"), ("False", "TRUE")):
        assert not parse_selection({"sort": "score", "desc": no}).desc
        assert parse_selection({"desc": yes}).desc


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"layer": "x"}, "layer=x"),
        ({"layer": "-1"}, "layer=-1"),
        ({"layer": "٣"}, "layer="),
        ({"layer": "9" * 40}, "layer="),
        ({"min_score": "high"}, "min_score=high"),
        ({"desc": "yes"}, "desc=yes"),
        ({"max_score": "nan"}, "max_score=nan"),
        ({"min_density": "inf"}, "min_density=inf"),
        ({"sort": "score; DROP TABLE"}, "sort="),
        ({"status": "maybe"}, "status=maybe"),
    ],
)
def test_what_cannot_be_meant_is_named(query: dict[str, str], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        parse_selection(query)
