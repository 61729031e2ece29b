"""Means are over units that have both scores; what has none is counted by its reason."""

from __future__ import annotations

import pytest

from neuron_explainer.pipeline.revise import (
    Revision,
    RevisionEvidence,
    RevisionOutcome,
    Version,
    WrittenSentence,
)
from neuron_explainer.pipeline.revision_summary import summarize_revisions
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.score import TOP_AND_RANDOM, Score, ScoredSimulation
from tests.scoring.builders import NEURON_ID, window

TOO_FEW = "too few windows: 3"


def score(value: float | str) -> Score:
    """A reason in place of a value, where it is a text."""
    if isinstance(value, str):
        return Score("m", None, 0, reason=value)
    return Score("m", value, 9)


def version(text: str, on_windows: float | str, with_sentences: float | str) -> Version:
    scored = ScoredSimulation(
        "simulation", "fake", {TOP_AND_RANDOM: score(on_windows)}, (), TOP_AND_RANDOM
    )
    return Version(Explanation(NEURON_ID, text, "x"), scored, score(with_sentences))


def outcome(old: Version, new: Version, *false_positives: bool | None) -> RevisionOutcome:
    sentences = tuple(
        WrittenSentence("s", False, None if is_false is None else window([1]), is_false)
        for is_false in false_positives
    )
    revision = Revision(old, new, sentences, score(0.5), RevisionEvidence.SENTENCES)
    return RevisionOutcome(NEURON_ID, revision, None)


def test_old_and_new_are_compared_on_the_same_units() -> None:
    found = summarize_revisions(
        [
            outcome(version("a", 0.25, 0.125), version("b", 0.5, 0.25), True, False),
            outcome(version("a", 0.75, 0.5), version("a", 0.5, "constant prediction"), False, None),
            outcome(version("a", TOO_FEW, TOO_FEW), version("b", 0.9, 0.9)),
            RevisionOutcome(NEURON_ID, None, "revision refused: no"),
            RevisionOutcome(NEURON_ID, None, "revision refused: never"),
        ]
    )  # fmt: skip
    assert (found.n_units, found.n_revised, found.n_unchanged) == (5, 3, 1)
    windows, both = found.on_windows, found.with_sentences
    assert (windows.n_units, windows.mean_old, windows.mean_new) == (2, 0.5, 0.5)
    assert (windows.n_better, windows.n_worse) == (1, 1)
    assert windows.reasons == {"too few windows": 1}
    assert (both.n_units, both.mean_old, both.mean_new) == (1, 0.125, 0.25)
    assert both.reasons == {"constant prediction": 1, "too few windows": 1}
    assert found.reasons == {"revision refused": 2}
    assert found.false_positive_share == pytest.approx(1 / 3)
    assert found.share_with_false_positive == 0.5


def test_nothing_has_no_mean() -> None:
    found = summarize_revisions([])
    assert (found.n_units, found.on_windows.mean_old, found.with_sentences.mean_new) == (
        0,
        None,
        None,
    )
    assert (found.false_positive_share, found.share_with_false_positive) == (None, None)
