"""Explanations of the published dataset as those of any list (Bills et al. 2023)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.formats.listed_rows import read_claim
from neuron_explainer.formats.openai_results import SCORES
from neuron_explainer.records.listed import ListedExplanation, ListedScore
from neuron_explainer.records.published import PublishedExplanation, PublishedResults

OPENAI = "openai"
"""The source of the published explanations."""


def list_results(
    results: PublishedResults,
    path: object,
    left_out: Counter[str],
    *,
    source: str = OPENAI,
    model: str | None = None,
) -> Iterator[ListedExplanation]:
    """One an explanation, with its scores in the files' order; what has no text is counted.

    RecordFormatError, which names `path`, for what no list can hold.
    """
    for explanation in results.explanations:
        text = read_claim(explanation.text, left_out)
        if text is None:
            continue
        scores = tuple(_scores_of(explanation))
        try:
            yield ListedExplanation(results.neuron_id, text, source, model, scores=scores)
        except ValueError as error:
            raise RecordFormatError(path, str(error)) from error


def _scores_of(explanation: PublishedExplanation) -> Iterator[ListedScore]:
    for name in SCORES:
        value = getattr(explanation, name)
        if value is not None:
            yield ListedScore(value, name)
