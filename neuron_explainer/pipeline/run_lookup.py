"""The lookup command: one neuron of the published dataset, from the archive or its source."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from neuron_explainer.pipeline.archives import open_archive
from neuron_explainer.published.downloads import Fetcher, Patience
from neuron_explainer.published.locations import PUBLISHED_URL, find_dataset
from neuron_explainer.published.lookup import PublishedNeuron, look_up
from neuron_explainer.published.sources import open_source
from neuron_explainer.records.neuron import NeuronId

PATIENCE = Patience(n_attempts=3)
"""Somebody waits for the answer."""


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
