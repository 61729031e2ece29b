"""Numbers and tokens as they are written on a page."""

from __future__ import annotations

import html
import re

import pytest
from markupsafe import Markup

from neuron_explainer.viewer import display


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.5, "0.50"), (-0.4, "−0.40"), (-0.001, "0.00")]
)
def test_number_has_a_real_minus_and_no_negative_zero(value: float | None, text: str) -> None:
    assert display.number(value) == text


def test_percent_keeps_small_shares_apart_from_none_at_all() -> None:
    assert [display.percent(x) for x in (None, 0.0, 0.004, 0.48)] == ["–", "0 %", "0.4 %", "48 %"]


def test_a_rarity_is_a_share_or_one_in_so_many_tokens() -> None:
    shares = (0.0, 0.5, 0.023, 0.01, 1 / 123, 1 / 8349, 1e-9)
    assert [display.rarity(share) for share in shares] == [
        "none", "50 %", "2.3 %", "1.0 %", "1 in 120", "1 in 8,300", "1 in 1,000,000,000",
    ]  # fmt: skip


def test_significant_is_short() -> None:
    values = (0.0, 4.5, -0.03125, 0.00002, 12345.0)
    assert [display.significant(x) for x in values] == ["0", "4.5", "−0.0312", "2e−5", "1.23e4"]


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\u202e", "\u200f", "\u2028", "\ufeff"])
def test_characters_that_cannot_be_seen_are_written_out(character: str) -> None:
    code = f"⟨U+{ord(character):04X}⟩"
    assert display.printable(f"a{character}b") == f"a{code}b"
    assert display.token_html(character) == code


def test_half_of_a_surrogate_pair_can_be_written_to_a_file() -> None:
    assert display.printable("a\ud800").encode() == "a\ufffd".encode()


def test_white_space_that_would_not_be_seen_becomes_a_glyph() -> None:
    assert display.token_html("\n") == "<u>↵</u>"
    assert display.token_html("    x") == "<u>····</u>x"
    assert display.token_html(" ") == "<u>·</u>"
    assert display.token_html(" the") == " the"
    assert display.token_html("") == "<u>∅</u>"


def test_tokens_are_escaped() -> None:
    assert "<b" not in display.token_html("<b>\n<b>")
    assert isinstance(display.token_html("<b>"), Markup)


def test_colour_is_the_share_of_the_maximum_and_never_drawn_at_or_below_zero() -> None:
    shown = display.window_html(list("abcde"), [-3.0, 0.0, 1.0, 4.0, 9.0], full=4.0)
    assert re.findall(r"<i(?: style=\"--a:(.*?)\")?>", shown) == ["", "", ".25", "1", "1"]


def test_a_unit_that_is_never_positive_has_no_colour() -> None:
    assert "--a" not in display.window_html(["a"], [-0.1], full=-0.1)


def test_a_missing_prediction_is_marked_and_differs_from_zero() -> None:
    assert display.window_html(["a", "b"], [None, 0.0], full=1.0) == "<i class=m>a</i><i>b</i>"
    assert display.value_list([None, 0.0]) == "- 0"


def test_a_window_has_one_element_a_token_and_reads_as_its_text() -> None:
    tokens = ["The", " cat", " &", "", "<i>", "\n", "  end", " "]
    shown = display.window_html(tokens, [0.5] * len(tokens), full=1.0)
    assert shown.count("<i ") == len(tokens)
    assert html.unescape(re.sub("<.*?>", "", shown)) == "The cat &∅<i>↵··end·"
