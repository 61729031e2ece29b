"""Tokens and units related to a unit, of the published dataset, both ways (Bills et al. 2023).

    TokenLookupTableSummaryOfNeuron  tokens by mean activation
    WeightBasedSummaryOfNeuron       tokens by weight, in and out
    related neurons                  units by weight, before and behind; names no class

Read and written as `openai.py` says. `"3_17"` names neuron 17 of layer 3.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from neuron_explainer.formats.openai_json import (
    CLASS,
    Damaged,
    LeftOut,
    Reading,
    Shape,
    Written,
    read_document,
    read_numbers,
    read_texts,
    read_token_values,
    take,
    write_document,
)
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.published import (
    NeuronsByWeight,
    RelatedNeuron,
    RelatedNeurons,
    TokensByActivation,
    TokensByWeight,
    TokenValue,
)

LOOKUP_SUMMARY = Shape("TokenLookupTableSummaryOfNeuron", ("tokens", "average_activations"))
TOKENS_AND_WEIGHTS = Shape("TokensAndWeights", ("tokens", "strengths"))
WEIGHT_SUMMARY = Shape(
    "WeightBasedSummaryOfNeuron",
    ("input_positive", "input_negative", "output_positive", "output_negative"),
)
RELATED = Shape("object of related neurons", ("c_fc", "c_proj"))
ONE_DIRECTION = Shape(
    "direction of related neurons",
    (
        "top_positive_neurons", "top_positive_weights",
        "top_negative_neurons", "top_negative_weights",
    ),
)  # fmt: skip

_NAME = re.compile(r"([0-9]{1,9})_([0-9]{1,9})")


def read_tokens_by_activation(document: bytes, path: object) -> Reading[TokensByActivation]:
    return read_document(document, path, _parse_by_activation)


def write_tokens_by_activation(summary: TokensByActivation) -> Written:
    tokens, values = _columns(summary.tokens)
    return write_document(
        {CLASS: LOOKUP_SUMMARY.name, "tokens": tokens, "average_activations": values}
    )


def read_tokens_by_weight(document: bytes, path: object) -> Reading[TokensByWeight]:
    return read_document(document, path, _parse_by_weight)


def write_tokens_by_weight(summary: TokensByWeight) -> Written:
    """In the form of the published files."""
    return write_document(
        {
            CLASS: WEIGHT_SUMMARY.name,
            **{name: _plain_strengths(getattr(summary, name)) for name in WEIGHT_SUMMARY.required},
        }
    )


def read_related_neurons(document: bytes, path: object) -> Reading[RelatedNeurons]:
    return read_document(document, path, _parse_related)


def write_related_neurons(related: RelatedNeurons) -> Written:
    return write_document(
        {"c_fc": _plain_direction(related.upstream), "c_proj": _plain_direction(related.downstream)}
    )


def _parse_by_activation(raw: Any, left_out: LeftOut) -> TokensByActivation:
    fields = take(raw, LOOKUP_SUMMARY, left_out)
    return TokensByActivation(read_token_values(fields, *LOOKUP_SUMMARY.required))


def _parse_by_weight(raw: Any, left_out: LeftOut) -> TokensByWeight:
    fields = take(raw, WEIGHT_SUMMARY, left_out)
    return TokensByWeight(
        **{
            name: read_token_values(
                take(fields[name], TOKENS_AND_WEIGHTS, left_out), *TOKENS_AND_WEIGHTS.required
            )
            for name in WEIGHT_SUMMARY.required
        }
    )


def _parse_related(raw: Any, left_out: LeftOut) -> RelatedNeurons:
    # The class is not published, so whatever name an object gives itself is as good as another.
    fields = take(_without_class(raw), RELATED, left_out)
    return RelatedNeurons(*(_parse_direction(fields[name], left_out) for name in RELATED.required))


def _parse_direction(raw: Any, left_out: LeftOut) -> NeuronsByWeight | None:
    if raw is None:
        return None
    fields = take(_without_class(raw), ONE_DIRECTION, left_out)
    return NeuronsByWeight(
        _parse_neurons(fields, "top_positive_neurons", "top_positive_weights"),
        _parse_neurons(fields, "top_negative_neurons", "top_negative_weights"),
    )


def _parse_neurons(fields: dict[str, Any], neurons: str, weights: str) -> tuple[RelatedNeuron, ...]:
    names, values = read_texts(fields[neurons], neurons), read_numbers(fields[weights], weights)
    if len(names) != len(values):
        raise Damaged(f"{len(values)} {weights} for {len(names)} {neurons}")
    return tuple(
        RelatedNeuron(_parse_name(name), value) for name, value in zip(names, values, strict=True)
    )


def _parse_name(name: str) -> NeuronId:
    match = _NAME.fullmatch(name)
    if match is None:
        raise Damaged("a related neuron is not named as LAYER_NEURON")
    return NeuronId(int(match[1]), int(match[2]))


def _without_class(raw: Any) -> Any:
    if not isinstance(raw, dict):
        return raw
    return {name: value for name, value in raw.items() if name != CLASS}


def _columns(tokens: Sequence[TokenValue]) -> tuple[list[str], list[float | None]]:
    return [token.token for token in tokens], [token.value for token in tokens]


def _plain_strengths(tokens: Sequence[TokenValue]) -> dict[str, Any]:
    texts, values = _columns(tokens)
    return {CLASS: TOKENS_AND_WEIGHTS.name, "tokens": texts, "strengths": values}


def _plain_direction(direction: NeuronsByWeight | None) -> dict[str, Any] | None:
    if direction is None:
        return None
    plain: dict[str, Any] = {}
    for sign, related in (("positive", direction.positive), ("negative", direction.negative)):
        plain[f"top_{sign}_neurons"] = [
            f"{r.neuron_id.layer_index}_{r.neuron_id.neuron_index}" for r in related
        ]
        plain[f"top_{sign}_weights"] = [r.weight for r in related]
    return plain
