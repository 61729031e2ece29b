"""Many published neurons at once, as a frame: a row a neuron, in the order they were asked for."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from neuron_explainer.pipeline.bounded import map_bounded
from neuron_explainer.pipeline.run_lookup import open_archive
from neuron_explainer.published.archive import Archive
from neuron_explainer.published.downloads import Fetcher
from neuron_explainer.published.locations import PUBLISHED_URL, Kind, check_unit, find_dataset
from neuron_explainer.published.lookup import PublishedNeuron, look_up
from neuron_explainer.published.sources import open_source
from neuron_explainer.records.neuron import NeuronId

logger = logging.getLogger(__name__)
COLUMNS = ("layer", "neuron", "explanation", "score", "max_activation", "reason")
Row: TypeAlias = tuple[object, ...]
"""Of COLUMNS."""
KINDS = (Kind.ACTIVATIONS, Kind.EXPLANATIONS)
"""What a row is made of."""
N_AT_ONCE = 16


def ids_of(frame: pd.DataFrame) -> list[NeuronId]:
    """Of the columns layer and neuron, a row each; UsageError for what is no whole number."""
    return list(map(NeuronId.of, frame["layer"], frame["neuron"]))


def look_up_many(
    neuron_ids: Iterable[NeuronId],
    *,
    model: str = "gpt2-xl",
    source: str = PUBLISHED_URL,
    archive: Path | None = None,
    is_offline: bool = False,
) -> pd.DataFrame:
    """COLUMNS: explanation and its top-and-random score as published, the largest activation of the
    top windows, and why the first two are missing where they are.

    UnitNotFound for a neuron that the model has not; what cannot be fetched is a reason.
    """
    dataset = find_dataset(model)
    wanted = list(neuron_ids)

    n_not_kept = 0

    async def look_all(kept: Archive, fetcher: Fetcher | None) -> dict[NeuronId, Row]:
        async def look(neuron_id: NeuronId) -> tuple[NeuronId, Row]:
            nonlocal n_not_kept
            found = await look_up(dataset, neuron_id, archive=kept, fetcher=fetcher, kinds=KINDS)
            n_not_kept += len(found.not_kept)
            return neuron_id, _row(found)

        n_at_once = 1 if fetcher is None else N_AT_ONCE  # nothing to wait for, and memory is reused
        return {i: row async for i, row in map_bounded(look, dict.fromkeys(wanted), n_at_once)}

    async def look_in_archive() -> dict[NeuronId, Row]:
        with open_archive(archive, is_offline=is_offline) as kept:
            if is_offline:
                return await look_all(kept, None)
            async with open_source(source, n_at_once=N_AT_ONCE) as opened:
                return await look_all(kept, Fetcher(opened, rng=random.Random()))

    for neuron_id in wanted:
        check_unit(dataset, neuron_id)  # before anything is fetched
    rows = asyncio.run(look_in_archive())
    if n_not_kept:
        logger.warning("%d documents are not kept: the archive cannot be written", n_not_kept)
    return pd.DataFrame([rows[neuron_id] for neuron_id in wanted], columns=list(COLUMNS))


def _row(found: PublishedNeuron) -> Row:
    explanations = found.results.explanations if found.results is not None else ()
    best = explanations[0] if explanations else None
    reason = found.missing.get(Kind.EXPLANATIONS)
    if best is None:
        reason = reason or "no explanation in the file"
    elif best.ev_correlation_score is None:
        reason = "no score in the file"
    top = found.record.top if found.record is not None else ()
    return (
        found.neuron_id.layer_index,
        found.neuron_id.neuron_index,
        best and best.text.strip(),
        best and best.ev_correlation_score,
        max((window.max_activation for window in top), default=None),
        reason,
    )
