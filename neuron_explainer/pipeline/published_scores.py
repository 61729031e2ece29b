"""The score of a published explanation with its parts (Bills et al. 2023).

top_and_random          as the file says it
top_only, random_only   ρ over the tokens of the one half of its windows, and of the other
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neuron_explainer.formats.openai_mapping import NOT_IN_FILE, count_top
from neuron_explainer.records.published import PublishedExplanation, PublishedWindow
from neuron_explainer.records.score import RANDOM_ONLY, TOP_AND_RANDOM, TOP_ONLY, Score
from neuron_explainer.scoring.metrics import Metric, measure

PARTS = (TOP_ONLY, RANDOM_ONLY)


def score_parts(explanation: PublishedExplanation) -> Mapping[str, Score]:
    """By name; without PARTS where there are no windows, or an odd number of them: which are top
    ones is then not said.
    """
    value, n_top = explanation.ev_correlation_score, count_top(explanation)
    reason = NOT_IN_FILE if value is None else None
    scores = {TOP_AND_RANDOM: Score(Metric.EV_CORRELATION.value, value, None, reason=reason)}
    if n_top:
        scores[TOP_ONLY] = _correlation(explanation.windows[:n_top])
        scores[RANDOM_ONLY] = _correlation(explanation.windows[n_top:])
    return scores


def _correlation(windows: Sequence[PublishedWindow]) -> Score:
    """Over the tokens that have both values."""
    pairs = [
        (real, simulated)
        for window in windows
        for real, simulated in zip(
            window.true_activations,
            window.simulation.predicted.expected_activations,
            strict=True,
        )
        if real is not None and simulated is not None
    ]
    value, undefined, n_tokens = measure(
        Metric.EV_CORRELATION, [real for real, _ in pairs], [p for _, p in pairs]
    )
    reason = undefined and undefined.value
    return Score(Metric.EV_CORRELATION.value, value, n_tokens, reason=reason)
