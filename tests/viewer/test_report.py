"""The page: all of it is there, nothing in the data can run, a missing score stays missing."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.score import Score
from neuron_explainer.stores.makers import Makers
from neuron_explainer.viewer.report import (
    ReportBaseline,
    ReportData,
    ReportNeuron,
    ReportRow,
    ReportStratum,
    ReportWindow,
    render_report,
    write_report,
)
from tests.page import Page
from tests.viewer.comparisons import comparison

MAKERS = Makers("token_lookup", "", "token_lookup", "", "simulation (ev_correlation_score)")
HOSTILE = (
    "</script><script>alert(1)</script>",
    "<b>bold</b>",
    "\"><img src=x onerror='alert(1)'>",
    "<!--",
    "]]>",
    "a\u2028b",
    "\x00",
    "\u202eright to left",
    "{{ 7 * 7 }}",
    "&lt;",
    "\ud800",
)


def refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} in the embedded data")


def embedded(text: str) -> Any:
    return json.loads(Page(text).scripts[0], parse_constant=refuse)


def score(value: float | None, reason: str = "constant prediction") -> Score:
    if value is None:
        return Score("ev_correlation_score", None, 640, reason=reason)
    return Score("ev_correlation_score", value, 640, low=value - 0.1, high=value + 0.1)


def row(layer: int, neuron: int, value: float | None = 0.5, text: str = "commas") -> ReportRow:
    scores = {"top_and_random": score(value), "random_only": score(value)}
    return ReportRow(NeuronId(layer, neuron), text, scores)


def neuron(
    text: str = "commas",
    tokens: tuple[str, ...] = ("a", ","),
    scale: ActivationScale = ActivationScale.NEURON,
) -> ReportNeuron:
    n = len(tokens)
    windows = tuple(
        ReportWindow(subset, tokens, (0.5,) * n, (None, *(0.1,) * (n - 1)), score(0.3))
        for subset in ("top", "top", "random")
    )
    return ReportNeuron(
        NeuronId(1, 2),
        text,
        MAKERS,
        {"top_and_random": score(0.5), "random_only": score(None, "never active here")},
        max_activation=4.0,
        windows=windows,
        simulated_scale=scale,
        baselines={"shuffled": score(0.02)},
        strata=(ReportStratum(None, 0.5, 1200), ReportStratum(0.5, None, 34)),
    )


def data(*rows: ReportRow, **changes: Any) -> ReportData:
    report = ReportData("Neurons", "a small GPT-2", (("seed", "20"),), rows)
    return dataclasses.replace(report, **changes)


def hostile_data(text: str) -> ReportData:
    bad = ReportRow(NeuronId(0, 1), None, {}, reason=text)
    shown = neuron(text, ("a", text))
    made_by = Makers(text, text, text, text, text)
    return ReportData(
        title=text,
        subject=text,
        facts=((text, text),),
        rows=(row(0, 0, text=text), bad),
        best=(dataclasses.replace(shown, makers=made_by, baselines={text: score(None, text)}),),
        worst=(dataclasses.replace(shown, scores={text: score(0.1)}),),
        notice=text,
        makers=(made_by,),
        baselines=(ReportBaseline(text, (0.1,)),),
        comparison=comparison(text),
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_the_data_adds_no_element_and_no_script(text: str) -> None:
    harmless, hostile = (Page(render_report(hostile_data(t))) for t in ("harmless", text))
    assert [tag for tag, _ in hostile.tags if tag != "u"] == [tag for tag, _ in harmless.tags]
    assert len(hostile.scripts) == 2
    assert hostile.scripts[1] == harmless.scripts[1]
    assert not any(name.startswith("on") for _, attributes in hostile.tags for name in attributes)


@pytest.mark.parametrize("text", HOSTILE)
def test_the_page_can_be_written_and_shows_the_text(text: str) -> None:
    page = render_report(hostile_data(text))
    page.encode("utf-8")
    assert not set("\x00\u2028\u202e") & set(page)
    if text.isprintable() and text.isascii():
        assert Page(page).text.count(text) >= 6
        assert embedded(page)["rows"][0][2] == text


def test_only_the_script_of_the_page_may_run() -> None:
    page = Page(render_report(data(row(0, 0))))
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    (policy,) = (a["content"] for _, a in page.tags if a.get("http-equiv"))
    assert policy is not None
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}';" in policy


def test_nothing_is_loaded_from_anywhere() -> None:
    text = render_report(data(row(0, 0), best=(neuron(),)))
    assert not re.search(r"https?:|//cdn|@import|url\(", text)
    for tag, attributes in Page(text).tags:
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")


def test_every_neuron_is_in_the_embedded_table_once_in_order() -> None:
    ids = [(layer, neuron) for layer in (2, 0, 1) for neuron in (5, 3)]
    table = embedded(render_report(data(*(row(*i) for i in ids))))
    assert [tuple(r[:2]) for r in table["rows"]] == sorted(ids)


def test_a_missing_score_is_its_reason_and_never_a_number() -> None:
    scores = {"top_and_random": score(None, "constant prediction"), "random_only": score(0.25)}
    rows = (
        ReportRow(NeuronId(0, 0), "commas", scores),
        ReportRow(NeuronId(0, 1), None, {}, reason="dead"),
        row(0, 2, value=-0.5),
    )
    table = embedded(render_report(data(*rows)))
    assert table["columns"] == ["top-and-random", "random-only"]
    first, second, third = table["rows"]
    assert table["reasons"][first[3]] == table["reasons"][int(first[6])] == "constant prediction"
    assert first[4:6] == [None, None]
    assert first[7] == 0.25
    assert second[2] is None
    assert table["reasons"][second[3]] == "dead"
    assert second[4:] == [None, None, None, None]
    assert third[3:] == [None, -0.6, -0.4, -0.5, -0.5]


def test_reasons_are_counted_by_kind_most_frequent_first() -> None:
    unscored = data(
        ReportRow(NeuronId(0, 0), None, {}, reason="dead"),
        ReportRow(NeuronId(0, 1), None, {}, reason="too few windows: 3 of 20"),
        ReportRow(NeuronId(0, 2), None, {}, reason="too few windows: 4 of 20"),
        ReportRow(NeuronId(0, 3), "commas"),
        row(0, 4),
    )
    assert unscored.unscored == {"too few windows": 2, "dead": 1, "not scored": 1}
    assert next(iter(unscored.unscored)) == "too few windows"
    assert "4 without a score" in Page(render_report(unscored)).text


@pytest.mark.parametrize("rows", [(), (row(0, 0, None),)], ids=["no neuron", "none scored"])
def test_a_run_without_scores_says_so(rows: tuple[ReportRow, ...]) -> None:
    text = render_report(data(*rows))
    assert "No neuron has a score yet" in text
    assert not re.search(r"\bnan\b", text, re.IGNORECASE)
    assert len(embedded(text)["rows"]) == len(rows)


@pytest.mark.parametrize("n_layers", [1, 4, 48])
def test_every_layer_has_a_histogram_of_its_own(n_layers: int) -> None:
    text = render_report(data(*(row(layer, 0) for layer in range(n_layers))))
    links = [a["data-layer"] for _, a in Page(text).tags if a.get("data-layer")]
    assert links == [str(layer) for layer in range(n_layers)]


def test_one_neuron_alone_makes_a_page() -> None:
    assert "1:2" in render_report(data(row(1, 2), best=(neuron(),)))


def test_the_same_data_gives_the_same_bytes() -> None:
    rows = [row(layer, 0, value=layer / 10) for layer in range(4)]
    assert render_report(data(*rows)) == render_report(data(*rows))
    assert embedded(render_report(data(*rows))) == embedded(render_report(data(*rows[::-1])))


def test_a_card_shows_every_window_and_opens_one_of_each_subset() -> None:
    text = render_report(data(row(1, 2), best=(neuron(),)))
    assert text.count('class="window"') == 3
    folded = text[text.index("<details>") : text.index("</details>")]
    assert "1 more window<" in folded
    assert folded.count('class="window"') == 1


@pytest.mark.parametrize(("n_tokens", "says"), [(1640, ["over 1,640 tokens"]), (None, [])])
def test_a_card_tells_over_how_many_tokens_a_score_is_where_that_is_known(
    n_tokens: int | None, says: list[str]
) -> None:
    scores = {"top_and_random": dataclasses.replace(score(0.5), n_tokens=n_tokens)}
    shown = dataclasses.replace(neuron(), scores=scores)
    text = Page(render_report(data(row(1, 2), best=(shown,)))).text
    assert re.findall(r"over [\d,]+ tokens", text) == says


def test_a_card_tells_why_a_score_is_missing() -> None:
    assert "never active here" in Page(render_report(data(row(1, 2), best=(neuron(),)))).text


def test_normalized_predictions_are_coloured_on_their_own_scale_and_the_page_says_so() -> None:
    raw = render_report(data(best=(neuron(),)))
    normalized = render_report(data(best=(neuron(scale=ActivationScale.NORMALIZED),)))
    assert "same scale as real" in raw
    assert 'style="--a:.025"' in raw  # 0.1 of 4.0
    assert "0 to 10, normalized" in normalized
    assert 'style="--a:.01"' in normalized  # 0.1 of 10


def test_windows_that_do_not_align_are_refused() -> None:
    with pytest.raises(ValueError, match="2 tokens, 1 real"):
        ReportWindow("top", ("a", "b"), (0.1,), (0.1, None), score(0.5))
    with pytest.raises(ValueError, match="not finite"):
        ReportWindow("top", ("a",), (float("nan"),), (0.1,), score(0.5))


def test_a_neuron_in_two_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="0:0"):
        data(row(0, 0), row(0, 0))


def test_write_report_puts_the_page_at_the_path(tmp_path: Path) -> None:
    write_report(tmp_path / "out" / "report.html", data(row(0, 0)))
    assert (tmp_path / "out" / "report.html").read_text("utf-8") == render_report(data(row(0, 0)))
