"""Rescore: explanations that are there, and new ones, on the same held-out windows, side by side.

1. The explanations of a run's method are kept, and scored with the simulator that is named.
2. With another explainer named, new ones are made, and scored with the same simulator.
3. The two are compared unit by unit: new against kept; without an explainer, the kept ones as they
   score now against how they scored before.

Every step is a method of its own in the results: nothing that was there is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from neuron_explainer.errors import CannotExplain, StoreError, UsageError
from neuron_explainer.pipeline.comparison import PairedScores
from neuron_explainer.pipeline.events import Listener, Noted, ReportWritten
from neuron_explainer.pipeline.explain import Method, explain, explain_baseline
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.methods import check_method, simulator_name
from neuron_explainer.pipeline.opening import OpenMethod, make_lookup, open_method
from neuron_explainer.pipeline.progress import ProgressFile
from neuron_explainer.pipeline.run import report
from neuron_explainer.pipeline.spec import TOKEN_LOOKUP, RunSpec, choose_neurons
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId, NeuronRecord
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.stores.results import BASELINE, BASELINE_LABEL, Results

KEPT_FROM = "kept_from"
"""Among a method's choices: the method whose explanations are scored anew, by it or beside it."""
KEPT = "kept explanations"
BEFORE = "as scored before"


@dataclass(frozen=True, slots=True)
class Rescored:
    """What came of it."""

    paired: PairedScores
    """New against kept, or now against before."""
    kept: str
    """Fingerprint of the kept explanations with the new simulator."""
    new: str | None
    """Fingerprint of the new explanations; None: none were made."""


class KeptExplainer:
    """Says again what was said before."""

    name = "kept"

    def __init__(self, explanations: Mapping[NeuronId, Explanation]) -> None:
        self._explanations = explanations

    async def explain(self, record: NeuronRecord) -> tuple[Explanation, ...]:
        """CannotExplain for a unit that has no explanation to keep."""
        if record.neuron_id not in self._explanations:
            raise CannotExplain("no explanation to keep")
        return (self._explanations[record.neuron_id],)


def run_rescore(spec: RunSpec, folder: RunFolder, listen: Listener) -> Rescored:
    """Over the units that are chosen of those that have an explanation to keep."""
    check_method(spec)
    simulator = simulator_name(spec)
    if simulator is None:
        raise UsageError("rescoring takes a simulator: --simulator openai:MODEL or hf:MODEL")
    listen = ProgressFile(folder.progress, listen)
    with folder.locked(), Results(folder.results) as results:
        store = NeuronStore(folder.store)
        spec = replace(spec, seed=(folder.read_choices() or {}).get("seed", spec.seed))
        origin = _origin(results, results.current_method())
        explanations = read_explanations(results, origin)
        neuron_ids = _choose(spec, store, explanations)
        lookup = make_lookup(spec, store)
        keeping = replace(spec, explainer=TOKEN_LOOKUP, simulator=str(simulator))
        with open_method(keeping, store, folder, lookup.fingerprint) as opened:
            kept = _keep(opened, explanations, origin)
            listen(Noted("simulation", opened.simulator.name))
            if spec.explainer == TOKEN_LOOKUP:
                explain(kept, store, results, neuron_ids, listen)
            else:
                explain_baseline(kept, store, results, neuron_ids, listen)
        rescored = _finish(spec, folder, store, results, kept, origin, neuron_ids, listen)
        report(folder)
        listen(ReportWritten(folder.report, is_final=True))
    return rescored


def read_explanations(results: Results, method: str) -> dict[NeuronId, Explanation]:
    """What a method says; StoreError when it says nothing of any unit."""
    found = {
        unit.neuron_id: unit.explanation
        for unit in results.units(method)
        if unit.explanation is not None
    }
    if not found:
        raise StoreError("the run has no explanation yet; run `explain` first")
    return found


def _origin(results: Results, method: str) -> str:
    """The method that made the explanations: a rescoring is of those of another one."""
    return str(results.choices(method).get(KEPT_FROM, method))


def _choose(
    spec: RunSpec, store: NeuronStore, explanations: Mapping[NeuronId, Explanation]
) -> list[NeuronId]:
    manifest = store.manifest
    chosen = choose_neurons(spec.neurons, manifest.layers, manifest.n_units, spec.seed)
    if spec.neurons is None or ":" in spec.neurons:
        return [neuron_id for neuron_id in chosen if neuron_id in explanations]
    everyone = choose_neurons(None, manifest.layers, manifest.n_units, spec.seed)
    return [neuron_id for neuron_id in everyone if neuron_id in explanations][: len(chosen)]


def _keep(opened: OpenMethod, explanations: Mapping[NeuronId, Explanation], origin: str) -> Method:
    method = opened.method
    choices = {
        **method.choices, "explainer": KeptExplainer.name, "explainer_prompt": None,
        KEPT_FROM: origin, BASELINE: origin, BASELINE_LABEL: BEFORE,
    }  # fmt: skip
    return replace(method, explainer=KeptExplainer(explanations), choices=choices)


def _finish(
    spec: RunSpec,
    folder: RunFolder,
    store: NeuronStore,
    results: Results,
    kept: Method,
    origin: str,
    neuron_ids: list[NeuronId],
    listen: Listener,
) -> Rescored:
    """New explanations if an explainer is named, and the comparison."""
    if spec.explainer == TOKEN_LOOKUP:
        before = results.units(origin)
        paired = PairedScores.of(results.units(kept.fingerprint), before, BEFORE)
        return Rescored(paired, kept.fingerprint, None)
    with open_method(spec, store, folder, kept.fingerprint) as opened:
        choices = {**opened.method.choices, BASELINE_LABEL: KEPT, KEPT_FROM: origin}
        new = replace(opened.method, choices=choices)
        explain(new, store, results, neuron_ids, listen)
    paired = PairedScores.of(results.units(new.fingerprint), results.units(kept.fingerprint), KEPT)
    return Rescored(paired, kept.fingerprint, new.fingerprint)
