"""The explain stage of a method without language models, spread over worker processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache, partial

from neuron_explainer.pipeline.explain import Method, Outcome, Spread, explain_units
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.opening import open_embedded
from neuron_explainer.pipeline.records import open_records
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.pipeline.workers import Workers, keep_for_good
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.record_source import RecordSource
from neuron_explainer.stores.scored_windows import pack_windows

UNITS_A_PART = 16

_open_until_the_end = ExitStack()


def spread_over(workers: Workers, spec: RunSpec, folder: RunFolder) -> Spread | None:
    """Outcomes of the spec's embedded method over the folder's records; None: it is not worth it.

    They come part by part, as they are ready, and each unit's is that of `explain_units`.
    """
    if workers.n < 2:
        return None

    async def outcomes(neuron_ids: Sequence[NeuronId]) -> AsyncIterator[Outcome]:
        parts = [
            tuple(neuron_ids[first : first + UNITS_A_PART])
            for first in range(0, len(neuron_ids), UNITS_A_PART)
        ]
        async for of_part in workers.map(partial(explain_part, spec, folder), parts):
            for outcome in of_part:
                yield outcome

    return outcomes


def explain_part(
    spec: RunSpec, folder: RunFolder, neuron_ids: tuple[NeuronId, ...]
) -> list[Outcome]:
    """In a worker: everything is there that is written, and nothing else."""
    records, method = _opened(spec, folder)

    async def explain_all() -> list[Outcome]:
        return [_packed(o) async for o in explain_units(method, records, neuron_ids)]

    return asyncio.run(explain_all())


def _packed(outcome: Outcome) -> Outcome:
    """Without the rule, which a worker alone needs, and with the windows as they are kept."""
    if outcome.explained is None:
        return outcome
    explanation, scored = outcome.explained
    return replace(
        outcome,
        explained=(replace(explanation, rule=None), replace(scored, windows=())),
        windows=pack_windows(scored.windows),
    )


@lru_cache(maxsize=2)
def _opened(spec: RunSpec, folder: RunFolder) -> tuple[RecordSource, Method]:
    """For as long as the worker lives."""
    records = open_records(folder)
    method = _open_until_the_end.enter_context(open_embedded(spec, records, folder, None))
    return keep_for_good((records, method))
