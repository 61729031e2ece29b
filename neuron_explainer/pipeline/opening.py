"""Methods opened by their spec, and how much they will ask before they do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from neuron_explainer.errors import CannotExplain, UnitNotFound
from neuron_explainer.explainers.base import Explainer
from neuron_explainer.explainers.evidence import OutputTokens
from neuron_explainer.explainers.patterns import PatternExplainer
from neuron_explainer.explainers.token_lookup import TokenLookupExplainer
from neuron_explainer.llm.batch import BatchPace
from neuron_explainer.llm.local_model import Speed
from neuron_explainer.pipeline.batching import describe_batches, require_batch
from neuron_explainer.pipeline.collected import load_collected
from neuron_explainer.pipeline.counting import CountingModels
from neuron_explainer.pipeline.estimate import (
    Estimate,
    estimate,
    some_of,
    typical_output,
    typical_patterns,
    typical_record,
    typical_table,
)
from neuron_explainer.pipeline.events import Listener, Noted, ignore
from neuron_explainer.pipeline.explain import Method
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.kept_patterns import CHOICES
from neuron_explainer.pipeline.methods import (
    PatternReaders,
    lookup_choices,
    make_explainer,
    make_scorer,
    make_simulator,
    method_choices,
    resolve_simulation,
)
from neuron_explainer.pipeline.models import OpenModels
from neuron_explainer.pipeline.patterns import open_patterns, pattern_choices, require_store
from neuron_explainer.pipeline.spec import EXPLAIN, TOKEN_LOOKUP, RunSpec
from neuron_explainer.prompts.explain import Need
from neuron_explainer.prompts.explain_kinds import PROMPTS
from neuron_explainer.records.explanation import TokenLookupTable
from neuron_explainer.records.neuron import NeuronId, NeuronRecord
from neuron_explainer.records.patterns import NO_CONTEXTS
from neuron_explainer.simulators.base import Simulator
from neuron_explainer.simulators.patterns import PatternSimulator
from neuron_explainer.simulators.token_lookup import TokenLookupSimulator
from neuron_explainer.stores.record_source import RecordSource
from neuron_explainer.stores.results import BASELINE
from neuron_explainer.subject.output_tokens import OutputTokenReader


@dataclass(frozen=True, slots=True)
class OpenMethod:
    """A method whose models are in memory or within reach."""

    method: Method
    models: OpenModels
    simulator: Simulator
    simulation: str
    """The way to simulate, as it was resolved."""


def make_lookup(spec: RunSpec, store: RecordSource) -> Method:
    """The token lookup table, whatever else the spec names."""
    return Method(
        explainer=TokenLookupExplainer(store.read_token_lookup),
        scorer=make_scorer(spec, TokenLookupSimulator()),
        choices=lookup_choices(spec, store.manifest.fingerprint),
    )


@contextmanager
def open_embedded(
    spec: RunSpec, store: RecordSource, folder: RunFolder, baseline: str | None
) -> Iterator[Method]:
    """The token lookup table or patterns, which ask no language model; baseline: as of
    `open_method`."""
    if spec.explainer == TOKEN_LOOKUP:
        yield make_lookup(spec, store)
        return
    with open_patterns(spec, store, folder) as patterns:
        assert patterns is not None
        explainer = PatternExplainer(store.read_token_lookup, patterns.found, patterns.contexts)
        choices = embedded_choices(spec, store, folder)
        yield Method(
            explainer=explainer,
            scorer=make_scorer(spec, PatternSimulator()),
            choices=choices if baseline is None else {**choices, BASELINE: baseline},
        )


@contextmanager
def open_method(
    spec: RunSpec,
    store: RecordSource,
    folder: RunFolder,
    baseline: str | None,
    listen: Listener = ignore,
    *,
    pace: BatchPace | None = None,
) -> Iterator[OpenMethod]:
    """With the language models that a spec names; baseline: fingerprint of the method that this
    one is read beside; None: there is none. listen: hears of batches; pace: of theirs.
    """
    with (
        OpenModels(spec, folder, listen, pace=pace) as models,
        open_patterns(spec, store, folder) as patterns,
    ):
        simulation = resolve_simulation(spec, models)
        if spec.batch:
            require_batch(spec, simulation)
            listen(Noted("batch", describe_batches(spec, simulation)))
        explainer = make_explainer(
            spec, models, store.read_token_lookup, output_reader(spec, folder), patterns
        )
        simulator = make_simulator(spec, models, simulation, store.manifest.n_ctx)
        choices = method_choices(spec, store.manifest.fingerprint, models, simulation)
        choices |= choices_of_patterns(spec, store, folder)
        method = Method(
            explainer=explainer,
            scorer=make_scorer(spec, simulator),
            choices=choices if baseline is None else {**choices, BASELINE: baseline},
            ledger=models,
            close=models.close_clients,
            n_at_once=models.n_at_once,
        )
        yield OpenMethod(method, models, simulator, simulation)


def estimate_method(
    spec: RunSpec,
    store: RecordSource | None,
    neuron_ids: Sequence[NeuronId] | int,
    simulation: str | None = None,
    speeds: Mapping[str, Speed] | None = None,
    explainer: Explainer | None = None,
) -> Estimate:
    """What the units will take; nobody is asked, and no weights are loaded.

    store None: before anything is collected, when neuron_ids says how many units there will be.
    simulation None: as servers mostly offer. speeds: of local models, where they are known.
    explainer: in place of the spec's.
    """
    models = CountingModels(spec)
    read_table: Callable[[NeuronId], TokenLookupTable]
    if store is None or isinstance(neuron_ids, int):
        n_units = neuron_ids if isinstance(neuron_ids, int) else len(neuron_ids)
        records = [typical_record(spec.n_ctx, spec.n_per_split)]
        read_table, n_ctx = typical_table, spec.n_ctx
    else:
        n_units = len(neuron_ids)
        typical = typical_record(spec.n_ctx, spec.n_per_split)
        records = list(_read_some(store, neuron_ids)) or [typical]
        read_table, n_ctx = store.read_token_lookup, store.manifest.n_ctx
    simulator = make_simulator(spec, models, simulation or resolve_simulation(spec, models), n_ctx)
    method = Method(
        explainer=explainer
        or make_explainer(
            spec,
            models,
            read_table,
            typical_output,
            PatternReaders(typical_patterns, lambda _: NO_CONTEXTS)
            if spec.needs_patterns
            else None,
        ),
        scorer=make_scorer(spec, simulator),
        choices={},
    )
    return asyncio.run(
        estimate(method, models.tallies, records, n_units, models.find_price, speeds or {})
    )


def embedded_choices(spec: RunSpec, store: RecordSource, folder: RunFolder) -> dict[str, Any]:
    """What can change the results of patterns."""
    return {
        "collection": store.manifest.fingerprint,
        **spec.choices(EXPLAIN),
        "simulator": spec.explainer,
        **choices_of_patterns(spec, store, folder),
    }


def choices_of_patterns(spec: RunSpec, store: RecordSource, folder: RunFolder) -> dict[str, Any]:
    """What patterns add to a method's choices, where it needs them."""
    if not spec.needs_patterns:
        return {}
    return {CHOICES: pattern_choices(spec, require_store(store), folder)}


def _read_some(store: RecordSource, neuron_ids: Sequence[NeuronId]) -> Iterator[NeuronRecord]:
    """Of some units; those without a record, or whose record was not fetched yet, give none."""
    for i in some_of(neuron_ids):
        with suppress(CannotExplain, UnitNotFound):
            yield store.read_neuron(neuron_ids[i])


def output_reader(spec: RunSpec, folder: RunFolder) -> Callable[[NeuronId], OutputTokens] | None:
    """Reads the subject's weights, which are loaded when the first unit asks; None: not needed."""
    if Need.OUTPUT not in PROMPTS[spec.explainer_prompt].needs:
        return None

    @cache
    def reader() -> OutputTokenReader:
        return OutputTokenReader(load_collected(spec, folder))

    return lambda neuron_id: reader().read(neuron_id.layer_index, neuron_id.neuron_index)
