"""Scored windows come back from the file as they were, whatever their tokens are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.score import Score, ScoredWindow
from neuron_explainer.records.simulation import SequenceSimulation
from neuron_explainer.stores.scored_windows import pack_windows, unpack_windows

ACTIVATIONS = st.none() | st.floats(allow_nan=False, allow_infinity=False)
TOKENS = st.text(st.characters())  # with halves of surrogate pairs


@st.composite
def scored_windows(draw: st.DrawFn) -> ScoredWindow:
    n = draw(st.integers(0, 5))
    tokens, expected, true = (
        tuple(draw(st.lists(kind, min_size=n, max_size=n)))
        for kind in (TOKENS, ACTIVATIONS, ACTIVATIONS)
    )
    scale = draw(st.sampled_from(ActivationScale))
    value = draw(ACTIVATIONS)
    score = Score("m", value, n, reason="none" if value is None else None)
    simulation = SequenceSimulation(tokens, expected, scale)
    return ScoredWindow(draw(st.sampled_from(["top", "random"])), simulation, true, score)


@given(st.lists(scored_windows(), max_size=3).map(tuple))
def test_any_windows_come_back_as_they_were(windows: tuple[ScoredWindow, ...]) -> None:
    assert unpack_windows(pack_windows(windows)) == windows


def test_half_of_a_surrogate_pair_comes_back() -> None:
    simulation = SequenceSimulation(("a\ud800",), (0.1,), ActivationScale.NEURON)
    windows = (ScoredWindow("top", simulation, (1e-300,), Score("m", 0.5, 1)),)
    assert unpack_windows(pack_windows(windows)) == windows


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_not_packed(value: float) -> None:
    simulation = SequenceSimulation(("a",), (value,), ActivationScale.NEURON)
    with pytest.raises(ValueError, match="not JSON compliant"):
        pack_windows((ScoredWindow("top", simulation, (0.0,), Score("m", 0.5, 1)),))
