"""The columns of a table of published neurons: what they are read from, and why one is empty.

    always    layer, neuron, explanation, score, max_activation, reason, record_reason
    parts     top_only, random_only, parts_reason
    related   upstream, downstream, related_reason
    tokens    tokens_by_activation, tokens_by_activation_reason, tokens_read, tokens_written,
              tokens_by_weight_reason

Related neurons and tokens are JSON lists of [neuron or token, weight or mean activation].
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from neuron_explainer.errors import UsageError
from neuron_explainer.formats.listed_rows import read_claim
from neuron_explainer.pipeline.published_scores import PARTS, score_parts
from neuron_explainer.published.locations import Kind
from neuron_explainer.published.lookup import PublishedNeuron
from neuron_explainer.records.published import NeuronsByWeight, PublishedExplanation, TokenValue

NO_EXPLANATION = "no explanation in the file"
NO_SCORE = "no score in the file"
NO_WINDOW = "no top window in the file"
NO_PARTS = "the file does not say which windows are top ones"

Row: TypeAlias = tuple[object, ...]


class More(StrEnum):
    """Columns beside those that are always there."""

    PARTS = "parts"
    """Of the score."""
    RELATED = "related"
    TOKENS = "tokens"


class Group(NamedTuple):
    """Columns that are read together."""

    names: tuple[str, ...]
    kinds: tuple[Kind, ...]
    """Documents that they are read from."""
    read: Callable[[PublishedNeuron], Row]
    """One value a name."""


def parse_more(names: Iterable[str]) -> tuple[More, ...]:
    """UsageError for a name that is none."""
    chosen = tuple(names)
    unknown = [name for name in chosen if name not in list(More)]
    if unknown:
        raise UsageError(f"no columns {unknown[0]!r}; there are {', '.join(More)}")
    return tuple(map(More, chosen))


def choose_groups(more: Iterable[More]) -> tuple[Group, ...]:
    """Those that are always there, and then others, each once."""
    return (_ALWAYS, *(_MORE[one] for one in dict.fromkeys(more)))


def _read_always(found: PublishedNeuron) -> Row:
    best, reason = _find_best(found)
    if best is not None and best.ev_correlation_score is None:
        reason = NO_SCORE
    top = found.record.top if found.record is not None else ()
    return (
        found.neuron_id.layer_index,
        found.neuron_id.neuron_index,
        best and best.text.strip(),
        best and best.ev_correlation_score,
        max((window.max_activation for window in top), default=None),
        reason,
        None if top else found.missing.get(Kind.ACTIVATIONS, NO_WINDOW),
    )


def _read_parts(found: PublishedNeuron) -> Row:
    best, reason = _find_best(found)
    scores = {} if best is None else score_parts(best)
    if best is not None and not scores.keys() >= set(PARTS):
        reason = NO_PARTS
    parts = [scores.get(name) for name in PARTS]
    values = [part and part.value for part in parts]
    return (*values, next((part.reason for part in parts if part and part.reason), reason))


def _read_related(found: PublishedNeuron) -> Row:
    related, reason = found.related, found.missing.get(Kind.RELATED_NEURONS)
    if related is None:
        return None, None, reason
    return _list_neurons(related.upstream), _list_neurons(related.downstream), reason


def _read_tokens(found: PublishedNeuron) -> Row:
    by_activation, by_weight = found.tokens_by_activation, found.tokens_by_weight
    return (
        by_activation and _list(by_activation.tokens),
        found.missing.get(Kind.TOKENS_BY_ACTIVATION),
        by_weight and _list(by_weight.input_positive),
        by_weight and _list(by_weight.output_positive),
        found.missing.get(Kind.TOKENS_BY_WEIGHT),
    )


def _find_best(found: PublishedNeuron) -> tuple[PublishedExplanation | None, str | None]:
    """The best known explanation, or why there is none that a table can hold."""
    explanations = found.results.explanations if found.results is not None else ()
    if not explanations:
        return None, found.missing.get(Kind.EXPLANATIONS, NO_EXPLANATION)
    why_not: Counter[str] = Counter()
    if read_claim(explanations[0].text, why_not) is None:
        return None, next(iter(why_not))
    return explanations[0], None


def _list_neurons(related: NeuronsByWeight | None) -> str:
    """The strongest first; none for a direction that there is not, as of a first layer's."""
    both = (*related.positive, *related.negative) if related is not None else ()
    return json.dumps([(str(one.neuron_id), one.weight) for one in both], allow_nan=False)


def _list(tokens: Sequence[TokenValue]) -> str:
    return json.dumps(tokens, allow_nan=False)


_ALWAYS = Group(
    ("layer", "neuron", "explanation", "score", "max_activation", "reason", "record_reason"),
    (Kind.ACTIVATIONS, Kind.EXPLANATIONS),
    _read_always,
)
_MORE = {
    More.PARTS: Group(("top_only", "random_only", "parts_reason"), (), _read_parts),
    More.RELATED: Group(
        ("upstream", "downstream", "related_reason"), (Kind.RELATED_NEURONS,), _read_related
    ),
    More.TOKENS: Group(
        (
            "tokens_by_activation", "tokens_by_activation_reason",
            "tokens_read", "tokens_written", "tokens_by_weight_reason",
        ),
        (Kind.TOKENS_BY_ACTIVATION, Kind.TOKENS_BY_WEIGHT),
        _read_tokens,
    ),
}  # fmt: skip
