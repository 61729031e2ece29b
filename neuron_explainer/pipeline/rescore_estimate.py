"""What a rescoring will ask of language models at most; nothing is asked, fetched or written.

Where the records are still to be fetched or collected, a typical unit stands for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from neuron_explainer.pipeline.estimate import TEXT, TYPICAL_ID, Estimate
from neuron_explainer.pipeline.events import ignore
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.kept import KeptExplainer
from neuron_explainer.pipeline.methods import explainer_name
from neuron_explainer.pipeline.opening import estimate_method
from neuron_explainer.pipeline.patterns import check_patterns
from neuron_explainer.pipeline.record_units import check_token_means
from neuron_explainer.pipeline.records import PUBLISHED, has_records, open_records
from neuron_explainer.pipeline.rescore import OWN, check_rescoring, keeping
from neuron_explainer.pipeline.rescore_source import (
    DEFAULT_DATASET,
    Lists,
    RescoreSource,
    check_given,
    check_subject,
    open_own,
)
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.pipeline.unit_choice import choose_neurons
from neuron_explainer.published.record_source import SITE
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.record_source import RecordSource
from neuron_explainer.stores.results import Results

Explanations = Mapping[NeuronId, tuple[Explanation, ...]]


@dataclass(frozen=True, slots=True)
class RescoreEstimate:
    """Before anybody is asked."""

    kept: Estimate
    """To score the explanations that are there."""
    new: Estimate | None
    """To make others and score them; None: none are wanted."""

    def sentences(self) -> tuple[str, ...]:
        """A line each, for a person."""
        new = () if self.new is None else (f"new explanations, {self.new.sentence()}",)
        return (f"kept explanations, {self.kept.sentence()}", *new)


class _Plan(NamedTuple):
    """What is known beforehand."""

    records: RecordSource | None
    """None: they are still to be fetched or collected."""
    neuron_ids: list[NeuronId]
    explanations: Explanations


def estimate_rescore(
    spec: RunSpec, folder: RunFolder, source: RescoreSource = OWN
) -> RescoreEstimate:
    """UsageError for choices that cannot be meant, as `run_rescore` has it."""
    check_rescoring(spec, are_asked=False)
    if source.is_published:
        plan = _plan_published(source, spec)
    elif source.imported:
        plan = _plan_imported(source, spec, folder)
    else:
        plan = _plan_own(source, spec, folder)
    explanations, is_new = plan.explanations, explainer_name(spec) is not None
    if plan.records is not None and is_new:
        check_token_means(spec, plan.records)
        check_patterns(spec, plan.records)
    if plan.records is None:
        explanations = {TYPICAL_ID: max(explanations.values(), key=len)}
    units = len(plan.neuron_ids) if plan.records is None else plan.neuron_ids
    explainer = KeptExplainer(explanations)
    kept = estimate_method(keeping(spec), plan.records, units, explainer=explainer)
    return RescoreEstimate(kept, estimate_method(spec, plan.records, units) if is_new else None)


def _plan_own(source: RescoreSource, spec: RunSpec, folder: RunFolder) -> _Plan:
    prepare = open_own(source, spec, folder, ignore)
    with Results(folder.results, read_only=True) as results:
        rescoring = prepare(results)
    return _Plan(rescoring.records, rescoring.neuron_ids, rescoring.kept.explanations)


def _plan_published(source: RescoreSource, spec: RunSpec) -> _Plan:
    """Were there an explanation of each unit."""
    place = source.place(DEFAULT_DATASET)
    records: RecordSource | None = None
    there, units = list(place.records().neuron_ids()), place.records().manifest.units
    if source.windows is not None:
        other = RunFolder(Path(source.windows))
        records = open_records(other)
        check_given(spec, other)
        check_subject(place.dataset.name, records)
        there = [neuron_id for neuron_id in records.neuron_ids() if neuron_id in units]
    neuron_ids = choose_neurons(spec.neurons_wanted, there, spec.seed)
    said = {i: (Explanation(i, TEXT, PUBLISHED),) for i in neuron_ids}
    return _Plan(records, neuron_ids, said)


def _plan_imported(source: RescoreSource, spec: RunSpec, folder: RunFolder) -> _Plan:
    lists = Lists(source, spec, ignore)
    records: RecordSource | None = None
    if source.windows == PUBLISHED:
        place = lists.place()
        found = lists.choose(place.dataset.name, SITE, set(place.records().neuron_ids()))
    elif source.windows is None and not has_records(folder):
        found = lists.choose(spec.model, SITE, None)
    else:
        other = folder if source.windows is None else RunFolder(Path(source.windows))
        records = open_records(other)
        check_given(spec, other)
        manifest = records.manifest
        found = lists.choose(manifest.subject, manifest.site, set(records.neuron_ids()))
    return _Plan(records, list(found.by_unit), found.keep().explanations)
