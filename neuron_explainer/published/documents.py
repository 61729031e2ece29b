"""Documents of the published dataset by their kind: bytes -> record, and record -> bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.formats import openai, openai_results, openai_tokens
from neuron_explainer.formats.openai_json import Reading, Written
from neuron_explainer.published.locations import DocumentId, Kind
from neuron_explainer.records.published import (
    PublishedRecord,
    PublishedResults,
    RelatedNeurons,
    TokensByActivation,
    TokensByWeight,
)

Content: TypeAlias = (
    PublishedRecord | PublishedResults | RelatedNeurons | TokensByActivation | TokensByWeight
)


@dataclass(frozen=True, slots=True)
class Format:
    """How one kind of document is read and written."""

    read: Callable[[bytes, object], Reading[Any]]
    write: Callable[[Any], Written]


FORMATS: Mapping[Kind, Format] = {
    Kind.ACTIVATIONS: Format(openai.read_record, openai.write_record),
    Kind.EXPLANATIONS: Format(openai_results.read_results, openai_results.write_results),
    Kind.RELATED_NEURONS: Format(
        openai_tokens.read_related_neurons, openai_tokens.write_related_neurons
    ),
    Kind.TOKENS_BY_ACTIVATION: Format(
        openai_tokens.read_tokens_by_activation, openai_tokens.write_tokens_by_activation
    ),
    Kind.TOKENS_BY_WEIGHT: Format(
        openai_tokens.read_tokens_by_weight, openai_tokens.write_tokens_by_weight
    ),
}


def read_content(which: DocumentId, document: bytes, where: str | None = None) -> Reading[Content]:
    """RecordFormatError, which names the place, for a damaged document or another unit's.

    where: it lies; None: its path in the dataset.
    """
    place = where or which.path
    reading = FORMATS[which.kind].read(document, place)
    neuron_id = getattr(reading.value, "neuron_id", which.neuron_id)  # tokens do not say whose
    if neuron_id != which.neuron_id:
        raise RecordFormatError(place, f"it is of neuron {neuron_id!s:.40}")
    return reading


def write_content(which: DocumentId, content: Content) -> Written:
    """`content` must be of the document's kind."""
    return FORMATS[which.kind].write(content)
