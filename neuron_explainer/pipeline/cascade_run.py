"""The cascade command: stages opened by their names, one budget over all of them, and a report."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from neuron_explainer.errors import UsageError
from neuron_explainer.pipeline.cascade import Cascade
from neuron_explainer.pipeline.cascade_report import CascadeReport, report_cascade, write_cascade
from neuron_explainer.pipeline.cascade_rows import NAME, CascadeRows
from neuron_explainer.pipeline.cascade_stages import StageName, StageParts, parse_stages
from neuron_explainer.pipeline.cascade_steps import CascadePlan, Stage
from neuron_explainer.pipeline.estimate import Estimate
from neuron_explainer.pipeline.events import Listener, Noted, ReportWritten
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.methods import (
    PatternReaders,
    check_method,
    lookup_choices,
    make_simulator,
    method_choices,
    resolve_simulation,
    simulator_name,
)
from neuron_explainer.pipeline.model_checks import check_models
from neuron_explainer.pipeline.models import OpenModels
from neuron_explainer.pipeline.opening import (
    choices_of_patterns,
    embedded_choices,
    estimate_method,
)
from neuron_explainer.pipeline.patterns import find_patterns, open_patterns
from neuron_explainer.pipeline.progress import ProgressFile
from neuron_explainer.pipeline.record_units import why_no_token_means
from neuron_explainer.pipeline.records import open_records, read_subject_choices
from neuron_explainer.pipeline.run import report
from neuron_explainer.pipeline.spec import (
    PATTERNS,
    TOKEN_LOOKUP,
    WINDOWS,
    RunSpec,
    fingerprint,
)
from neuron_explainer.pipeline.unit_choice import choose_neurons
from neuron_explainer.records.cost import PICOUSD
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.record_source import RecordSource
from neuron_explainer.stores.results import BASELINE, Results
from neuron_explainer.stores.spending import SpendingStore


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """What a stage will ask at most, before anybody is asked."""

    name: str
    all_neurons: Estimate
    """Were all of them to go through it."""
    pilots: Estimate

    def sentence(self) -> str:
        """One line for a person."""
        return f"{self.name}: pilots, {self.pilots.sentence()}; all, {self.all_neurons.sentence()}"


@dataclass(frozen=True, slots=True)
class _Job:
    """What is known before a model is opened."""

    spec: RunSpec
    names: tuple[StageName, ...]
    records: RecordSource
    neuron_ids: list[NeuronId]
    plan: CascadePlan


def run_cascade(
    spec: RunSpec, folder: RunFolder, stages: str, plan: CascadePlan, listen: Listener
) -> CascadeReport:
    """Takes the chosen units through the stages as far as it is worth it and the budget lasts.

    stages: as `parse_stages` takes them. UsageError for choices that cannot be meant, and where a
    budget is to be kept and a price is not known.
    """
    listen = ProgressFile(folder.progress, listen)
    with folder.locked():
        job = _prepare(spec, folder, stages, plan)
        with_patterns = _spec_of_patterns(job)
        find_patterns(with_patterns, job.records, folder, job.neuron_ids, listen)
        with (
            Results(folder.results) as results,
            OpenModels(job.spec, folder, listen) as models,
            open_patterns(with_patterns, job.records, folder) as patterns,
        ):
            with _left(job.spec, folder) as left_picousd:
                opened, choices = _open_stages(job, folder, models, patterns, listen)
                _announce_pilots(job, opened, listen)
                rows = CascadeRows(results, opened, choices, models)
                cascade = Cascade(opened, job.records, rows, models, listen, job.plan, left_picousd)
                ended = asyncio.run(_go(cascade, job.neuron_ids, models))
            _note_uncounted(models, listen)
            found = report_cascade(cascade, rows.fingerprint, ended)
        write_cascade(folder.cascade, found)
        report(folder)
        listen(ReportWritten(folder.report, is_final=True))
    return found


def estimate_cascade(
    spec: RunSpec, folder: RunFolder, stages: str, plan: CascadePlan
) -> tuple[StageEstimate, ...]:
    """Of every stage that asks language models; nothing is asked and nothing written."""
    job = _prepare(spec, folder, stages, plan, are_asked=False)
    n_pilots = job.plan.count_pilots(len(job.neuron_ids))
    return tuple(
        StageEstimate(
            str(name),
            estimate_method(name.spec(job.spec), job.records, job.neuron_ids),
            estimate_method(name.spec(job.spec), job.records, job.neuron_ids[:n_pilots]),
        )
        for name in job.names
        if name.kind.asks
    )


def _prepare(
    spec: RunSpec, folder: RunFolder, stages: str, plan: CascadePlan, *, are_asked: bool = True
) -> _Job:
    """Everything that can be wrong before somebody is asked."""
    if simulator_name(spec) is None:
        raise UsageError(
            "all stages of a cascade are scored by one simulator: name it, --simulator "
            f"openai:MODEL or hf:MODEL, not {spec.simulator}"
        )
    names = parse_stages(stages, spec.base_url)
    for name in names:
        if name.kind.asks:
            check_method(name.spec(spec))
            check_models(name.spec(spec), are_asked=are_asked)
    records = open_records(folder)
    reason = why_no_token_means(records)
    if reason is not None:
        raise UsageError(f"a cascade begins with the token lookup table: {reason}")
    seed = read_subject_choices(folder).get("seed", spec.seed)
    spec = replace(spec, seed=seed)
    neuron_ids = choose_neurons(spec.neurons_wanted, records.neuron_ids(), seed)
    return _Job(spec, names, records, neuron_ids, replace(plan, seed=seed))


def _spec_of_patterns(job: _Job) -> RunSpec:
    """The first stage's that needs them; else one that needs none."""
    specs = (name.spec(job.spec) for name in job.names)
    none = replace(job.spec, explainer=TOKEN_LOOKUP, evidence=WINDOWS)
    return next((spec for spec in specs if spec.needs_patterns), none)


async def _go(cascade: Cascade, neuron_ids: Sequence[NeuronId], models: OpenModels) -> str:
    try:
        return await cascade.go(neuron_ids)
    finally:
        await models.close_clients()


def _announce_pilots(job: _Job, stages: Sequence[Stage], listen: Listener) -> None:
    """What they may take of the budget before anybody else goes on."""
    n_pilots = job.plan.count_pilots(len(job.neuron_ids))
    most = [stage.most_picousd for stage in stages]
    known = [cost for cost in most if cost is not None]
    price = f"${n_pilots * sum(known) / PICOUSD:,.4f}" if len(known) == len(most) else "not known"
    of = "" if job.spec.budget_usd is None else f" of the ${job.spec.budget_usd:,.2f} budget"
    listen(Noted("pilots", f"{n_pilots:,} neurons go through every stage, at most {price}{of}; "
                 "fewer with --pilots"))  # fmt: skip


def _note_uncounted(models: OpenModels, listen: Listener) -> None:
    """What the budget was charged beside the costs of the stages."""
    uncounted = models.uncounted()
    if uncounted.n_requests:
        listen(Noted("cost", f"{uncounted.n_requests:,} requests got no answer; the servers may "
                     f"have charged for them: {uncounted.sentence()} at most"))  # fmt: skip


@contextmanager
def _left(spec: RunSpec, folder: RunFolder) -> Iterator[Callable[[], int | None]]:
    """What the budget has left in picodollars, as the spending file says; None: no budget."""
    if spec.budget_usd is None:
        yield lambda: None
        return
    limit = round(spec.budget_usd * PICOUSD)
    with SpendingStore(folder.spending) as spending:
        yield lambda: limit - spending.total_picousd()


def _open_stages(
    job: _Job,
    folder: RunFolder,
    models: OpenModels,
    patterns: PatternReaders | None,
    listen: Listener,
) -> tuple[list[Stage], dict[str, Any]]:
    """The stages, and the choices of the cascade as a method."""
    collection = job.records.manifest.fingerprint
    simulation = resolve_simulation(job.spec, models)
    simulator = make_simulator(job.spec, models, simulation, job.records.manifest.n_ctx)
    listen(Noted("simulation", simulator.name))
    parts = StageParts(job.records, folder, models, simulator, patterns)
    stages: list[Stage] = []
    of_all: list[dict[str, Any]] = []
    for name in job.names:
        spec = name.spec(job.spec)
        most: int | None = 0
        if name.kind.asks:
            asked = method_choices(spec, collection, models, simulation)
            of_all.append(asked | choices_of_patterns(spec, job.records, folder))
            most = _estimate(name, job, simulation, listen)
        elif name.explainer == PATTERNS:
            of_all.append(embedded_choices(spec, job.records, folder))
        else:
            of_all.append(lookup_choices(spec, collection))
        explainer, scorer = name.kind.open(spec, parts)
        stages.append(Stage(str(name), explainer, scorer, fingerprint({NAME: of_all}), most))
    choices = {
        **of_all[-1], "explainer": NAME, "explainer_prompt": None, "stages": of_all,
        BASELINE: stages[0].fingerprint,
    }  # fmt: skip
    return stages, choices


def _estimate(name: StageName, job: _Job, simulation: str, listen: Listener) -> int | None:
    """What a unit costs at most, in picodollars; None: the price is not known."""
    found = estimate_method(name.spec(job.spec), job.records, job.neuron_ids, simulation)
    listen(Noted("estimate", f"{name}, were all to go through it: {found.sentence()}"))
    return None if found.cost_picousd is None else found.cost_picousd // max(1, found.n_units)
