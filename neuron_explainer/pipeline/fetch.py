"""The fetch stage: published documents of the chosen units, into the archive; what is there stays.

What cannot be had now is left out and counted by reason, and asked for again by the next call.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from neuron_explainer.errors import RecordFormatError, StoreError, UnitNotFound
from neuron_explainer.pipeline.archives import default_archive, open_archive
from neuron_explainer.pipeline.events import Listener, StageAdvanced, StageFinished, StageStarted
from neuron_explainer.published.archive import Archive
from neuron_explainer.published.downloads import N_AT_ONCE, DownloadCounts, Fetcher, download
from neuron_explainer.published.locations import (
    PUBLISHED_URL,
    Dataset,
    DocumentId,
    Kind,
)
from neuron_explainer.published.record_source import PublishedSource, read_archived
from neuron_explainer.published.sources import address_of, open_source
from neuron_explainer.records.neuron import NeuronId

STAGE = "fetch"


@dataclass(frozen=True, slots=True)
class PublishedPlace:
    """A published dataset, where it is fetched from, and where it is kept."""

    dataset: Dataset
    source: str = PUBLISHED_URL
    archive: Path | None = None
    """None: the user's own."""
    is_offline: bool = False
    """From the archive alone."""

    @property
    def address(self) -> str:
        """The source, as the archive remembers it."""
        return address_of(self.source)

    @property
    def archive_path(self) -> Path:
        return self.archive or default_archive()

    def records(self) -> PublishedSource:
        return PublishedSource(self.archive_path, self.dataset, self.address)


@dataclass(frozen=True, slots=True)
class FetchedUnits:
    """The units of which everything that was asked for is known."""

    neuron_ids: tuple[NeuronId, ...]
    """In the order in which they were asked for."""
    left_out: Counter[str]
    """Why others are not among them -> how many."""


def fetch_units(
    place: PublishedPlace,
    neuron_ids: Sequence[NeuronId],
    kinds: Sequence[Kind],
    listen: Listener,
) -> FetchedUnits:
    """UsageError for a source that is none; StoreError when there is nothing of any unit."""
    documents = [
        DocumentId(place.dataset.name, kind, neuron_id)
        for neuron_id in sorted(neuron_ids)
        for kind in kinds
    ]
    with open_archive(place.archive, is_offline=place.is_offline) as archive:
        counts = None
        if not archive.is_read_only:
            counts = asyncio.run(_download(place, archive, documents, listen))
        found = _find_units(place, archive, neuron_ids, kinds)
    if not found.neuron_ids:
        why = ", ".join(found.left_out) if counts is None else counts.sentence()
        raise StoreError(
            f"no published neuron to work on: {why}; see --source, --archive and --offline"
        )
    return found


async def _download(
    place: PublishedPlace, archive: Archive, documents: Iterable[DocumentId], listen: Listener
) -> DownloadCounts:
    wanted = list(documents)
    listen(StageStarted(STAGE, len(wanted), "documents"))

    def on_done(counts: DownloadCounts) -> None:
        listen(StageAdvanced(STAGE, counts.n_done))

    async with open_source(place.source, n_at_once=N_AT_ONCE) as source:
        fetcher = Fetcher(source, rng=random.Random())
        counts = await download(fetcher, archive, wanted, on_done=on_done)
    listen(StageFinished(STAGE, f"published documents: {counts.sentence()}"))
    return counts


def _find_units(
    place: PublishedPlace, archive: Archive, neuron_ids: Sequence[NeuronId], kinds: Sequence[Kind]
) -> FetchedUnits:
    left_out: Counter[str] = Counter()
    found = []
    for neuron_id in neuron_ids:
        try:
            for kind in kinds:
                which = DocumentId(place.dataset.name, kind, neuron_id)
                read_archived(archive, which, place.address)
        except UnitNotFound:
            left_out["not in the archive" if archive.is_read_only else "not fetched"] += 1
        except (StoreError, RecordFormatError):
            left_out["damaged in the archive"] += 1
        else:
            found.append(neuron_id)
    return FetchedUnits(tuple(found), left_out)
