"""Many published neurons at once, as a frame: a row a neuron, in the order they were asked for."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from neuron_explainer.errors import UsageError
from neuron_explainer.formats.neuron_lists import read_columns
from neuron_explainer.pipeline.archives import open_archive
from neuron_explainer.pipeline.bounded import map_bounded
from neuron_explainer.pipeline.fetch import PublishedPlace
from neuron_explainer.pipeline.lookup_columns import Group, More, Row, choose_groups, parse_more
from neuron_explainer.published.downloads import Fetcher
from neuron_explainer.published.locations import PUBLISHED_URL, check_unit, find_dataset
from neuron_explainer.published.lookup import PublishedNeuron, look_up
from neuron_explainer.published.sources import open_source
from neuron_explainer.records.neuron import NeuronId

logger = logging.getLogger(__name__)
N_AT_ONCE = 16


class LookedUp(NamedTuple):
    """What came of it."""

    frame: pd.DataFrame
    n_failed: int
    """Neurons of which the source did not give something that it may have."""


def ids_of(frame: pd.DataFrame) -> list[NeuronId]:
    """Of the columns of layer and neuron in any common spelling, a row each.

    UsageError for a frame without them, and for a row that names no neuron.
    """
    try:
        return read_columns({str(name): frame[name].tolist() for name in frame.columns})
    except ValueError as error:
        raise UsageError(str(error)) from error


def look_up_many(
    neurons: Iterable[NeuronId] | pd.DataFrame,
    *,
    model: str = "gpt2-xl",
    more: Collection[str] = (),
    source: str = PUBLISHED_URL,
    archive: Path | None = None,
    is_offline: bool = False,
) -> pd.DataFrame:
    """What is published of GPT-2 neurons, with the columns that `lookup_columns` has.

    neurons: ids, or a frame with the columns layer and neuron. more: of `parts`, `related`,
    `tokens`. UsageError for what cannot be meant, UnitNotFound for a neuron that the model has not;
    what cannot be fetched is a reason.
    """
    place = PublishedPlace(find_dataset(model), source, archive, is_offline)
    neuron_ids = ids_of(neurons) if isinstance(neurons, pd.DataFrame) else neurons
    return look_up_all(neuron_ids, place, parse_more(more)).frame


def look_up_all(
    neuron_ids: Iterable[NeuronId],
    place: PublishedPlace,
    more: Collection[More] = (),
    on_done: Callable[[int], None] = lambda _n_done: None,
) -> LookedUp:
    """The same, with what failed. on_done: told after each neuron how many are done."""
    wanted = list(neuron_ids)
    for neuron_id in wanted:
        check_unit(place.dataset, neuron_id)  # before anything is fetched
    groups = choose_groups(more)
    rows: dict[NeuronId, Row] = {}
    n_not_kept = n_failed = 0

    async def look_all() -> None:
        nonlocal n_not_kept, n_failed
        async for found in _look_up_each(dict.fromkeys(wanted), place, groups):
            rows[found.neuron_id] = tuple(v for group in groups for v in group.read(found))
            n_not_kept += len(found.not_kept)
            n_failed += bool(found.failed)
            on_done(len(rows))

    _run(look_all())
    if n_not_kept:
        logger.warning("%d documents are not kept: the archive cannot be written", n_not_kept)
    names = [name for group in groups for name in group.names]
    frame = pd.DataFrame([rows[neuron_id] for neuron_id in wanted], columns=names)
    return LookedUp(frame, n_failed)


async def _look_up_each(
    neuron_ids: Iterable[NeuronId], place: PublishedPlace, groups: Sequence[Group]
) -> AsyncIterator[PublishedNeuron]:
    """As they are had; what is had once is kept, if the archive may be written."""
    kinds = {kind for group in groups for kind in group.kinds}
    with open_archive(place.archive, is_offline=place.is_offline) as archive:
        async with AsyncExitStack() as stack:
            fetcher = None
            if not place.is_offline:
                opened = open_source(place.source, n_at_once=N_AT_ONCE)
                fetcher = Fetcher(await stack.enter_async_context(opened), rng=random.Random())

            def look(neuron_id: NeuronId) -> Coroutine[None, None, PublishedNeuron]:
                return look_up(
                    place.dataset, neuron_id, archive=archive, fetcher=fetcher, kinds=kinds
                )

            # Without a source there is nothing to wait for, and memory is reused.
            n_at_once = 1 if fetcher is None else N_AT_ONCE
            async for found in map_bounded(look, neuron_ids, n_at_once):
                yield found


def _run(work: Coroutine[None, None, None]) -> None:
    """To its end, in a notebook too, whose thread runs a loop of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work)
    else:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, work).result()
