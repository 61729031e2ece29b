"""The lookup command: one neuron of the published dataset, from the archive or its source."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

from neuron_explainer.published.archive import Archive
from neuron_explainer.published.downloads import Fetcher, Patience
from neuron_explainer.published.locations import PUBLISHED_URL, find_dataset
from neuron_explainer.published.lookup import PublishedNeuron, look_up
from neuron_explainer.published.sources import open_source
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.sqlite_file import is_writable

PATIENCE = Patience(n_attempts=3)
"""Somebody waits for the answer."""


def default_archive() -> Path:
    """The user's own, which all lookups share."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "neuron-explainer" / "published.sqlite"


def open_archive(path: Path | None, *, is_offline: bool) -> Archive:
    """To read alone where nothing will be added, or nothing may; None: the default one.

    StoreError when it is not there and cannot be made.
    """
    path = path or default_archive()
    return Archive(path, read_only=is_offline or (path.exists() and not is_writable(path)))


def run_lookup(
    model: str,
    neuron_id: NeuronId,
    *,
    source: str = PUBLISHED_URL,
    archive: Path | None = None,
    is_offline: bool = False,
) -> PublishedNeuron:
    """What is published of a neuron; what is had once is kept in the archive, if it may be written.

    is_offline: from the archive alone. UsageError for an unknown model or source, UnitNotFound for
    a neuron that the model has not.
    """
    dataset = find_dataset(model)

    async def look() -> PublishedNeuron:
        with open_archive(archive, is_offline=is_offline) as kept:
            if is_offline:
                return await look_up(dataset, neuron_id, archive=kept)
            async with open_source(source, n_at_once=len(dataset.kinds)) as opened:
                fetcher = Fetcher(opened, rng=random.Random(), patience=PATIENCE)
                return await look_up(dataset, neuron_id, archive=kept, fetcher=fetcher)

    return asyncio.run(look())
