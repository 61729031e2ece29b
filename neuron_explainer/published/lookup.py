"""One unit of the published dataset, with all that is published of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.formats.openai_json import Reading
from neuron_explainer.published.archive import Archive
from neuron_explainer.published.documents import Content, read_content
from neuron_explainer.published.downloads import Fetcher
from neuron_explainer.published.locations import Dataset, DocumentId, Kind, check_unit
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.published import (
    PublishedRecord,
    PublishedResults,
    RelatedNeurons,
    TokensByActivation,
    TokensByWeight,
)

ABSENT = "absent"
"""The source has no such document."""
NOT_ANNOUNCED = "not published for this model"
NOT_ASKED = "not asked for"
NOT_DOWNLOADED = "not in the archive"


@dataclass(frozen=True, slots=True)
class PublishedNeuron:
    """What is published of one unit; for what is None, `missing` says why."""

    neuron_id: NeuronId
    record: PublishedRecord | None
    results: PublishedResults | None
    related: RelatedNeurons | None
    tokens_by_activation: TokensByActivation | None
    tokens_by_weight: TokensByWeight | None
    missing: Mapping[Kind, str]
    left_out: Mapping[str, int]
    """What the documents hold and these records do not."""
    not_kept: tuple[Kind, ...] = ()
    """Those that were fetched, and that the archive cannot take as it may not be written."""
    failed: tuple[Kind, ...] = ()
    """Of those that are missing: where something went wrong, so that they may exist."""


class _Missing(NamedTuple):
    reason: str
    is_failure: bool = False
    """Not known to be absent."""


async def look_up(
    dataset: Dataset,
    neuron_id: NeuronId,
    *,
    archive: Archive | None = None,
    fetcher: Fetcher | None = None,
    kinds: Collection[Kind] = tuple(Kind),
) -> PublishedNeuron:
    """From the archive; what it does not know from the source, and then into the archive.

    kinds: those to read. UnitNotFound for a unit that the subject has not. A document that cannot
    be had is missing, with the reason, and nothing is raised for it.
    """
    check_unit(dataset, neuron_id)
    asked = [kind for kind in dataset.kinds if kind in kinds]
    of_kind = {kind: DocumentId(dataset.name, kind, neuron_id) for kind in asked}
    not_kept: list[Kind] = []
    found = await asyncio.gather(*(_find(w, archive, fetcher, not_kept) for w in of_kind.values()))
    missing = {
        kind: _Missing(NOT_ASKED if kind in dataset.kinds else NOT_ANNOUNCED)
        for kind in Kind
        if kind not in of_kind
    }
    contents: dict[Kind, Any] = dict.fromkeys(Kind)
    left_out: Counter[str] = Counter()
    for kind, reading in zip(of_kind, found, strict=True):
        if isinstance(reading, _Missing):
            missing[kind] = reading
        else:
            contents[kind] = reading.value
            left_out.update(reading.left_out)
    return PublishedNeuron(
        neuron_id,
        record=contents[Kind.ACTIVATIONS],
        results=contents[Kind.EXPLANATIONS],
        related=contents[Kind.RELATED_NEURONS],
        tokens_by_activation=contents[Kind.TOKENS_BY_ACTIVATION],
        tokens_by_weight=contents[Kind.TOKENS_BY_WEIGHT],
        missing={kind: one.reason for kind, one in missing.items()},
        left_out=dict(left_out),
        not_kept=tuple(kind for kind in of_kind if kind in not_kept),
        failed=tuple(kind for kind, one in missing.items() if one.is_failure),
    )


async def _find(
    which: DocumentId, archive: Archive | None, fetcher: Fetcher | None, not_kept: list[Kind]
) -> Reading[Content] | _Missing:
    """What a document says, or why there is none."""
    archived = None if archive is None else archive.read(which)
    if (
        archive is not None
        and archived is not None
        and (
            archived.document is not None
            or fetcher is None
            or fetcher.source.address == archived.source  # of another one it says nothing
        )
    ):
        return _read(which, archived.document, f"{which.path} in {archive.path}")
    if fetcher is None:
        return _Missing(NOT_DOWNLOADED)
    fetched = await fetcher.fetch(which)
    if fetched.failure is not None:
        return _Missing(fetched.failure.reason, is_failure=True)
    if archive is not None and archive.is_read_only:
        not_kept.append(which.kind)
    elif archive is not None:
        archive.add(which, fetched.document, fetcher.source.address)
    return _read(which, fetched.document, f"{fetcher.source.address}/{which.path}")


def _read(which: DocumentId, document: bytes | None, where: str) -> Reading[Content] | _Missing:
    if document is None:
        return _Missing(ABSENT)
    try:
        return read_content(which, document, where)
    except RecordFormatError as error:
        return _Missing(f"not in the format: {error}", is_failure=True)
