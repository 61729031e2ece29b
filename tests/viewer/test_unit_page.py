"""What the page of a unit makes of its record."""

import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from neuron_explainer.records.explanation import TokenLookupTable
from neuron_explainer.records.neuron import (
    ActivationRecord,
    Moments,
    NeuronId,
    NeuronRecord,
    Stratum,
)
from neuron_explainer.viewer.unit_page import (
    MIN_COUNT,
    N_BINS,
    Strongest,
    activation_histogram,
    find_windows,
    strongest_tokens,
    top_tokens,
    window_sets,
)


def window(*activations: float | None) -> ActivationRecord:
    return ActivationRecord(tuple(f" t{i}" for i in range(len(activations))), activations)


def heights(path: str) -> list[float]:
    """Of the steps, from the foot up."""
    return [100 - float(top) for top in re.findall(r"V([\d.e+-]+)H", path)]


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=200))
def test_the_histogram_counts_as_numpy_does(activations: list[float]) -> None:
    values = np.array(activations)
    assume(values.max() - values.min() > 1e-3)
    # A value on an edge between two steps belongs to either, as its last bit falls.
    places = N_BINS * (values - values.min()) / (values.max() - values.min())
    inner = places[(places > 0) & (places < N_BINS)]
    assume((np.abs(inner - inner.round()) > 1e-6).all())
    found = activation_histogram([window(*activations)])
    assert found is not None
    counts, _ = np.histogram(values, bins=N_BINS)
    expected = 100 * np.log1p(counts) / np.log1p(counts.max())
    np.testing.assert_allclose(heights(found.path), expected, atol=0.1)
    assert found.n_tokens == len(activations)
    assert found.n_positive == (values > 0).sum()


def test_the_histogram_knows_what_does_not_count_and_where_zero_is() -> None:
    found = activation_histogram([window(-1.0, None, 3.0), window(None)])
    assert found is not None
    assert (found.least, found.greatest, found.zero) == (-1.0, 3.0, 25.0)
    assert (found.n_tokens, found.n_positive) == (2, 1)
    only_above = activation_histogram([window(1.0, 2.0)])
    assert only_above is not None
    assert only_above.zero is None


@pytest.mark.parametrize("windows", [[], [window(None, None)], [window(0.5, 0.5)]])
def test_there_is_no_histogram_of_nothing_or_of_one_value(windows: list[ActivationRecord]) -> None:
    assert activation_histogram(windows) is None


def test_strongest_tokens_are_the_largest_above_zero() -> None:
    assert strongest_tokens(window(0.5, None, 2.0, -3.0, 1.0, 0.25)) == [
        Strongest(" t2", 2.0), Strongest(" t4", 1.0), Strongest(" t0", 0.5)
    ]  # fmt: skip
    assert strongest_tokens(window(0.0, -1.0, None)) == []


def test_a_token_that_came_too_seldom_has_no_mean_worth_naming() -> None:
    means = {"a": 1.0, "b": 3.0, "c": 2.0}
    counts = {"a": MIN_COUNT, "b": MIN_COUNT - 1, "c": 100}
    table = TokenLookupTable(mean_by_token=means, count_by_token=counts, default=0.0)
    assert [one.token for one in top_tokens(table)] == ["c", "a"]


def test_windows_are_named_from_the_highest_band_down() -> None:
    low, high = (window(0.1),), (window(0.9),)
    bands = (Stratum(None, 0.5, 10, low), Stratum(0.5, 0.8, 4, ()), Stratum(0.8, None, None, high))
    record = NeuronRecord(
        NeuronId(1, 2), (window(1.0),), bands, (window(0.0),), Moments(100, 0.1, 0.1, 0.1, 3.0), 0.5
    )
    assert [one.name for one in window_sets(record)] == ["top", "band-2", "band-0", "random"]
    band = find_windows(record, "band-0")
    assert band is not None
    assert band.windows == low
    assert band.note == "a sample of 10"
    assert find_windows(record, "band-1") is None
