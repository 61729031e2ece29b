"""Two methods on one page: the numbers of the comparison, the pairs, and who moved."""

from __future__ import annotations

import re

import numpy as np
import pytest

from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.viewer.display import number, signed
from neuron_explainer.viewer.report import render_report
from neuron_explainer.viewer.report_comparison import MAX_DOTS, view_comparison
from neuron_explainer.viewer.report_data import ReportComparison
from tests.viewer.comparisons import comparison, made_by, pair
from tests.viewer.test_report import Page, data, neuron, row


def section(found: ReportComparison | None, **changes: object) -> str:
    """The comparison's part of a page; empty where it has none."""
    page = render_report(data(row(1, 2), comparison=found, **changes))
    match = re.search(r'<section id="beside".*?</section>', page, re.DOTALL)
    return match[0] if match else ""


def cells(html: str) -> list[list[str]]:
    """The words of every table row."""
    rows = re.findall(r"<tr.*?</tr>", html, re.DOTALL)
    return [
        [Page(cell).text.strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)]
        for row in rows
    ]


def without_movers(label: str, this: list[float], other: list[float]) -> ReportComparison:
    ids = [NeuronId(0, i) for i in range(len(this))]
    paired = pair(dict(zip(ids, this, strict=True)), dict(zip(ids, other, strict=True)), label)
    return ReportComparison(paired, (), (), (), ())


def test_without_another_method_there_is_no_section_and_no_link_to_one() -> None:
    page = render_report(data(row(1, 2)))
    assert section(None) == ""
    assert 'href="#beside"' not in page
    assert 'href="#beside"' in render_report(data(row(1, 2), comparison=comparison("kept")))


def test_the_numbers_are_those_of_the_comparison() -> None:
    found = comparison("kept")
    overall = found.paired.compare()
    assert overall is not None
    assert overall.mean == pytest.approx((0.5 + 0.25 + 0.125) / 3)
    assert overall.baseline_mean == 0.1875
    rows = cells(section(found))[1:]
    assert [r[0] for r in rows] == ["layer 0", "layer 1", "all"]
    for shown, its in zip(rows, [*found.paired.by_layer().values(), overall], strict=True):
        assert shown[1:5] == [
            str(its.n_units), number(its.baseline_mean, 3), number(its.mean, 3),
            signed(its.difference),
        ]  # fmt: skip
        interval = f"{signed(its.low)} to {signed(its.high)}"
        assert shown[5] == (interval if its.n_units > 1 else "no interval: one neuron")
        assert shown[7:] == [str(its.n_better), str(its.n_same), str(its.n_worse)]
    assert rows[2][1:4] == ["3", "0.188", "0.292"]
    assert rows[2][7:] == ["2", "0", "1"]


def test_what_counts_as_a_tie_and_what_is_left_out_is_said() -> None:
    text = Page(section(comparison("kept"))).text
    assert re.search(r"less than\s+0.005 apart are a tie", text)
    assert re.search(r"1 not compared:\s+dead unit 1", text)


def test_a_method_that_scored_none_of_the_units_is_named_with_the_reasons() -> None:
    ids = [NeuronId(0, i) for i in range(3)]
    paired = pair(dict.fromkeys(ids, 0.5), {ids[0]: None}, "kept")
    text = Page(section(ReportComparison(paired, (), (), (), ()))).text
    assert "No neuron has a score by both" in text
    assert re.search(r"3 not compared:\s+kept: no result 2\s*kept: dead unit 1", text)
    assert re.search(r"this method\s*no scores\s*kept\s*no scores", text)


def test_everyone_who_made_a_score_is_named() -> None:
    text = Page(section(comparison("kept"))).text
    for name in (*made_by("kept"), *made_by("kept2")):
        assert name in text


@pytest.mark.parametrize("n", [1, MAX_DOTS])
def test_few_pairs_are_a_dot_each(n: int) -> None:
    rng = np.random.default_rng(1)
    this, other = rng.uniform(-0.2, 0.9, (2, n)).tolist()
    html = section(without_movers("kept", this, other))
    assert html.count("<circle") == n
    assert "<rect" not in html


def test_a_dot_lies_where_its_scores_are() -> None:
    html = section(without_movers("kept", [0.75], [0.25]))
    assert '<circle cx="25.0" cy="25.0"' in html
    assert "0:0: 0.25 → 0.75" in html


def test_many_pairs_are_squares_that_count_each_once_and_take_no_more_room() -> None:
    rng = np.random.default_rng(1)
    sizes = []
    for n in (20_000, 40_000):
        this, other = rng.normal(0.3, 0.1, (2, n)).tolist()
        html = section(without_movers("kept", this, other))
        counts = re.findall(r"<title>([\d,]+) neurons</title>", html)
        assert sum(int(count.replace(",", "")) for count in counts) == n
        assert "<circle" not in html
        sizes.append(len(html))
    assert sizes[1] < 1.2 * sizes[0] < 100_000


def test_every_interval_is_on_the_axis_of_differences() -> None:
    view = view_comparison(comparison("kept"))
    assert view.axis.low == -view.axis.high
    for difference in view.rows:
        found = difference.comparison
        ends = (found.difference, found.low, found.high)
        assert all(view.axis.low <= end <= view.axis.high for end in ends if end is not None)


def test_a_mover_shows_both_texts_and_scores_and_three_sides_of_every_window() -> None:
    html = section(comparison("kept"))
    assert re.findall(r'id="(m-\d-\d)"', html) == ["m-0-0", "m-0-1", "m-1-2"]
    assert html.index("Largest gains") < html.index("m-0-1") < html.index("Largest losses")
    movers = html.split("<article")[1:]
    for mover in movers:
        assert mover.count('class="which"') == mover.count('<p class="text">') == 2
        for drawn in mover.split('class="window three"')[1:]:
            values = re.findall(r'data-values="(.*?)"', drawn)
            tokens = [part.count("<i") for part in drawn.split('class="act')[1:]]
            assert tokens == [len(side.split()) for side in values] == [3, 3, 3]
    assert 'data-values="0.5 - −1"' in movers[0]
    assert 'data-values="0 0.25 -"' in movers[0]
    assert "+0.31" in movers[0]
    assert "−0.06" in movers[2]


def test_a_mover_whose_card_is_on_the_page_has_a_link_to_it() -> None:
    assert 'href="#n-1-2"' not in section(comparison("kept"))
    linked = section(comparison("kept"), best=(neuron(),))
    assert linked.count('href="#n-1-2"') == 1
    assert 'href="#n-0-0"' not in linked


def test_methods_that_were_scored_on_other_windows_are_not_drawn_side_by_side() -> None:
    html = section(comparison("kept", with_windows=False))
    assert "scored on different windows" in html
    assert "data-values" not in html
