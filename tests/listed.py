"""Explanations of lists, for tests: one with everything said, one with nothing, and any."""

from __future__ import annotations

from hypothesis import strategies as st

from neuron_explainer.records.listed import (
    MAX_INDEX,
    ListedExplanation,
    ListedScore,
    Polarity,
    is_storable,
)
from neuron_explainer.records.neuron import NeuronId

FULL = ListedExplanation(
    NeuronId(9, 6236),
    ' the word "two",\n and halves.',
    "a list.csv",
    "openai/gpt2-xl",
    "res-jb",
    Polarity.NEGATIVE,
    "summary",
    "gpt-4",
    (
        ListedScore(0.1234567890123456, "ev_correlation_score", "gpt-4"),
        ListedScore(1 / 3, "fuzz"),
        ListedScore(-1e-300, None, "judge"),
    ),
)
PLAIN = ListedExplanation(NeuronId(0, 0), "rivers", "a list.csv")

INDICES = st.integers(0, MAX_INDEX)
TEXTS = st.text(min_size=1).filter(lambda text: bool(text.strip()) and is_storable(text))
NAMES = TEXTS.map(str.strip).filter(lambda name: name.lower() != "none")
"""As lists have them, without spaces around."""
SCORES = st.builds(
    ListedScore,
    st.floats(allow_nan=False, allow_infinity=False),
    st.none() | NAMES,
    st.none() | NAMES,
)
LISTED = st.builds(
    ListedExplanation,
    st.builds(NeuronId, INDICES, INDICES),
    TEXTS,
    NAMES,
    st.none() | NAMES,
    st.none() | NAMES,
    st.none() | st.sampled_from(Polarity),
    st.none() | NAMES,
    st.none() | NAMES,
    st.lists(SCORES, max_size=3).map(tuple),
)
