"""Methods opened by their spec, and how much they will ask before they do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from neuron_explainer.explainers.evidence import OutputTokens
from neuron_explainer.explainers.token_lookup import TokenLookupExplainer
from neuron_explainer.llm.local_model import Speed
from neuron_explainer.pipeline.counting import CountingModels
from neuron_explainer.pipeline.estimate import (
    Estimate,
    estimate,
    some_of,
    typical_output,
    typical_record,
    typical_table,
)
from neuron_explainer.pipeline.explain import Method
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.methods import (
    lookup_choices,
    make_explainer,
    make_scorer,
    make_simulator,
    method_choices,
    resolve_simulation,
)
from neuron_explainer.pipeline.models import OpenModels
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.prompts.explain import Need
from neuron_explainer.prompts.explain_kinds import PROMPTS
from neuron_explainer.records.explanation import TokenLookupTable
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.simulators.base import Simulator
from neuron_explainer.simulators.token_lookup import TokenLookupSimulator
from neuron_explainer.stores.record_source import RecordSource
from neuron_explainer.stores.results import BASELINE
from neuron_explainer.subject.model import load_subject
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
def open_method(
    spec: RunSpec, store: RecordSource, folder: RunFolder, baseline: str
) -> Iterator[OpenMethod]:
    """With the language models that a spec names; baseline: fingerprint of the method that this
    one is read beside.
    """
    with OpenModels(spec, folder) as models:
        simulation = resolve_simulation(spec, models)
        explainer = make_explainer(
            spec, models, store.read_token_lookup, _output_reader(spec, folder)
        )
        simulator = make_simulator(spec, models, simulation, store.manifest.n_ctx)
        choices = method_choices(spec, store.manifest.fingerprint, models, simulation)
        method = Method(
            explainer=explainer,
            scorer=make_scorer(spec, simulator),
            choices={**choices, BASELINE: baseline},
            ledger=models,
            close=models.close_clients,
        )
        yield OpenMethod(method, models, simulator, simulation)


def estimate_method(
    spec: RunSpec,
    store: RecordSource | None,
    neuron_ids: Sequence[NeuronId] | int,
    simulation: str | None = None,
    speeds: Mapping[str, Speed] | None = None,
) -> Estimate:
    """What the units will take; nobody is asked, and no weights are loaded.

    store None: before anything is collected, when neuron_ids says how many units there will be.
    simulation None: as servers mostly offer. speeds: of local models, where they are known.
    """
    models = CountingModels(spec)
    read_table: Callable[[NeuronId], TokenLookupTable]
    if store is None or isinstance(neuron_ids, int):
        n_units = neuron_ids if isinstance(neuron_ids, int) else len(neuron_ids)
        records = [typical_record(spec.n_ctx, spec.n_per_split)]
        read_table, n_ctx = typical_table, spec.n_ctx
    else:
        n_units = len(neuron_ids)
        records = [store.read_neuron(neuron_ids[i]) for i in some_of(neuron_ids)]
        read_table, n_ctx = store.read_token_lookup, store.manifest.n_ctx
    simulator = make_simulator(spec, models, simulation or resolve_simulation(spec, models), n_ctx)
    method = Method(
        explainer=make_explainer(spec, models, read_table, typical_output),
        scorer=make_scorer(spec, simulator),
        choices={},
    )
    return asyncio.run(
        estimate(method, models.tallies, records, n_units, models.find_price, speeds or {})
    )


def _output_reader(spec: RunSpec, folder: RunFolder) -> Callable[[NeuronId], OutputTokens] | None:
    """Reads the subject's weights, which are loaded when the first unit asks; None: not needed."""
    if Need.OUTPUT not in PROMPTS[spec.explainer_prompt].needs:
        return None
    choices = folder.read_choices() or {}

    @cache
    def reader() -> OutputTokenReader:
        subject = load_subject(
            choices.get("model", spec.model),
            dtype=choices.get("dtype", spec.dtype),
            device=spec.device,
            site_module=choices.get("site_module"),
            activation_function=choices.get("activation_function"),
        )
        return OutputTokenReader(subject)

    return lambda neuron_id: reader().read(neuron_id.layer_index, neuron_id.neuron_index)
