"""Windows as models are shown them: nothing is lost, nothing is made up, a token is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuron_explainer.prompts.activations import (
    AFTER_ACTIVE,
    BEFORE_ACTIVE,
    END,
    REPEAT_BELOW,
    START,
    ShownWindow,
    format_marked,
    format_pairs,
    format_plain,
    format_strongest,
    non_zero_share,
    normalize_window,
    shift_to_next,
    show_token,
)
from neuron_explainer.records.neuron import ActivationRecord
from tests.records.published import read_published_records

NASTY = (
    "\n",
    "\t",
    " \r\n",
    "�",
    "<0xE2>",
    "😀",
    " עברית",
    "<|endoftext|>",
    "\u2028",
    "a\x0bb",
    " ",
)
WINDOW = ShownWindow(("On", " 14", " March", ",", "\n", " rain"), (None, 2, 10, 0, 0, 3))


@pytest.mark.shared_data
def test_the_published_train_split_is_shown_as_it_was(shared_data: Path) -> None:
    train = read_published_records(shared_data).train
    maximum = max(record.max_activation for record in train)
    windows = [normalize_window(record, maximum) for record in train]
    active = [a for window in windows for a in window.activations if a]
    assert (maximum, len(active), sum(len(w.tokens) for w in windows)) == (4.0117, 31, 320)
    assert non_zero_share(windows) == 31 / 320 < REPEAT_BELOW  # so they are shown once more
    only_active = format_pairs(windows, with_zeros=False).splitlines()
    assert only_active[:3] == [START, " two\t10", END]
    assert len(only_active) == 31 + 2 * 5
    assert len(format_pairs(windows).splitlines()) == 320 + 2 * 5


def test_every_token_is_one_line_between_the_marks() -> None:
    window = ShownWindow(NASTY, tuple(range(len(NASTY))))
    first, *lines, last = format_pairs([window]).splitlines()
    assert (first, last) == (START, END)
    assert lines == [f"{show_token(token)}\t{i}" for i, token in enumerate(NASTY)]
    assert len({line.split("\t")[0] for line in lines}) == len(NASTY)


def test_a_position_that_does_not_count_is_text_without_a_value() -> None:
    assert format_pairs([WINDOW]).splitlines()[1] == "On"
    assert "On" not in format_pairs([WINDOW], with_zeros=False)
    assert non_zero_share([WINDOW]) == 3 / 5
    nothing = normalize_window(ActivationRecord(("a", "b"), (None, 1.0)), 4.0)
    assert nothing.activations == (None, 2)


def test_the_largest_activation_is_the_unit_s_not_the_window_s() -> None:
    record = ActivationRecord(("a", "b", "c"), (1.0, 2.0, -1.0))
    assert normalize_window(record, 2.0).activations == (5, 10, 0)
    assert normalize_window(record, 8.0).activations == (1, 2, 0)


def test_texts_without_their_marks_are_the_text() -> None:
    marked = format_marked(WINDOW)
    assert marked == "On 14<< March>>,\\n<< rain>>"
    assert marked.replace(BEFORE_ACTIVE, "").replace(AFTER_ACTIVE, "") == format_plain(WINDOW)


def test_marks_of_the_text_itself_are_escaped() -> None:
    window = ShownWindow(("cout", " <<", " x", " >", ">", " y"), (0, 10, 0, 0, 0, 0))
    assert format_marked(window) == r"cout<< \<<>> x \>> y"


def test_a_window_in_which_the_unit_is_quiet_has_no_marks() -> None:
    quiet = ShownWindow(("a", " b"), (0, None))
    assert format_marked(quiet) == format_plain(quiet) == "a b"


def test_the_strongest_tokens_come_first_and_once() -> None:
    again = ShownWindow((" 14", " rain", " March"), (5, 1, 4))
    assert format_strongest([WINDOW, again]) == '" March" 10, " 14" 5, " rain" 3'
    assert format_strongest([WINDOW, again], most=1) == '" March" 10'


def test_shifted_each_activation_is_beside_the_token_that_follows() -> None:
    shifted = shift_to_next(WINDOW)
    pairs = zip(WINDOW.activations[:-1], WINDOW.tokens[1:], strict=True)
    assert list(zip(shifted.activations, shifted.tokens, strict=True)) == list(pairs)


def test_values_that_are_not_normalized_are_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 10"):
        ShownWindow(("a",), (11,))
    with pytest.raises(ValueError, match="2 activations for 1 tokens"):
        ShownWindow(("a",), (1, 2))
