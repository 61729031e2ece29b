"""A listed explanation as a row of plain values: the columns that tables and searches share."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from neuron_explainer.records.listed import ListedExplanation, is_storable

COLUMNS = (
    "model", "layer", "site", "neuron", "polarity", "explanation", "score", "score_kind", "scorer",
    "other_scores", "explainer", "explainer_model", "source",
)  # fmt: skip
"""`other_scores` holds all scores but the first, as JSON: [[value, kind, scorer], …]."""


def to_row(explanation: ListedExplanation) -> dict[str, Any]:
    """COLUMNS; None for what is not said."""
    first, *others = explanation.scores or [None]
    return {
        "model": explanation.model,
        "layer": explanation.neuron_id.layer_index,
        "site": explanation.site,
        "neuron": explanation.neuron_id.neuron_index,
        "polarity": explanation.polarity and explanation.polarity.value,
        "explanation": explanation.text,
        "score": first and first.value,
        "score_kind": first and first.kind,
        "scorer": first and first.scorer,
        "other_scores": json.dumps([[s.value, s.kind, s.scorer] for s in others if s])
        if others
        else None,
        "explainer": explanation.explainer,
        "explainer_model": explanation.explainer_model,
        "source": explanation.source,
    }


def read_claim(value: Any, left_out: Counter[str]) -> str | None:
    """An explanation's text, unchanged; None, counted, where there is none that can be kept."""
    if value is None or (isinstance(value, str) and not value.strip()):
        left_out["explanation without text"] += 1
        return None
    if not isinstance(value, str):
        raise ValueError(f"an explanation is {value!r:.40}, not a text")
    if not is_storable(value):
        left_out["explanation with a NUL or half a surrogate pair"] += 1
        return None
    return value
