"""Expected values from the alternatives of what a model wrote."""

from __future__ import annotations

import pytest

from neuron_explainer.simulators.expected_value import expected_value
from tests.simulators.examples import written


def test_the_published_example() -> None:
    assert expected_value([written("1", {"0": 0.1, "1": 0.7, "2": 0.2})], 0) == pytest.approx(1.1)


def test_what_is_no_number_says_nothing() -> None:
    top = {"0": 0.5, "10": 0.25, "unknown": 0.2, "11": 0.03, "-1": 0.02}
    assert expected_value([written("0", top)], 0) == pytest.approx(10 / 3)


def test_no_number_is_no_value() -> None:
    assert expected_value([written("unknown", {"unknown": 0.8, "": 0.1, "1.5": 0.1})], 0) is None


def test_spaces_around_a_number_do_not_count() -> None:
    top = {"4": 0.25, " 4": 0.25, "4\n": 0.25, " 8\n9": 0.25}
    assert expected_value([written("4", top)], 0) == pytest.approx(5)


def test_a_token_that_was_written_counts_even_if_it_is_not_among_the_alternatives() -> None:
    assert expected_value([written("7", {"unknown": 0.9})], 0) == pytest.approx(7)


@pytest.mark.parametrize("second", ["0", "\n"])
def test_ten_as_two_tokens_takes_its_part_of_the_one(second: str) -> None:
    """p(10) = .8 · .75, p(1) = .8 · .25, p(0) = .2, whichever was written."""
    answer = [written("1", {"1": 0.8, "0": 0.2}), written(second, {"0": 0.75, "\n": 0.25})]
    assert expected_value(answer, 0) == pytest.approx(10 * 0.6 + 1 * 0.2)


def test_ten_as_one_token_leaves_the_one_alone() -> None:
    answer = [written("10", {"10": 0.5, "1": 0.5}), written("\n", {"\n": 1.0})]
    assert expected_value(answer, 0) == pytest.approx(5.5)


@pytest.mark.parametrize(
    ("text", "top", "expected"),
    [
        ("9", {"9": 0.8, "1": 0.2}, 9 * 0.8 + 10 * 0.2),
        ("0", {"0": 0.8, "1": 0.2}, 1 * 0.2),
        ("9", {"9": 0.7, "1": 0.2, "10": 0.1}, 9 * 0.7 + 1 * 0.2 + 10 * 0.1),
    ],
)
def test_a_one_that_nobody_went_on_from_is_what_the_other_numbers_make_likelier(
    text: str, top: dict[str, float], expected: float
) -> None:
    assert expected_value([written(text, top)], 0) == pytest.approx(expected)


def test_a_one_that_ends_its_line_is_no_ten() -> None:
    answer = [written("1\n", {"1\n": 1.0}), written("0", {"0": 1.0})]
    assert expected_value(answer, 0) == pytest.approx(1)


@pytest.mark.parametrize(
    ("lead", "top", "expected"),
    [
        ("\t", {"\t3": 0.5, "\t5": 0.25, " 5": 0.25}, 4.0),
        ("\t", {"\t3": 0.5, "5": 0.5}, 3.0),  # 5 would be a digit of the line's number
        ("2\t", {"2\t3": 0.5, "2\t5": 0.25, "3\t9": 0.25}, 11 / 3),
        ("", {"3": 0.5, "5": 0.5}, 4.0),
    ],
)
def test_alternatives_must_begin_as_the_token_that_was_written(lead, top, expected) -> None:
    token = next(iter(top))
    assert expected_value([written(token, top)], 0, lead) == pytest.approx(expected)
