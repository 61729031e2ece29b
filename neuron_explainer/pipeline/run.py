"""The main job: collect, explain, simulate, score, report; resumable, with a preview first."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from neuron_explainer.errors import UsageError
from neuron_explainer.pipeline.collect import (
    Material,
    collect,
    collect_shard,
    merge,
    open_material,
    resolve_choices,
)
from neuron_explainer.pipeline.estimate import Estimate
from neuron_explainer.pipeline.events import (
    Event,
    Listener,
    Noted,
    ReportWritten,
    StageAdvanced,
    StageStarted,
    UnitExplained,
)
from neuron_explainer.pipeline.explain import explain, explain_baseline
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.kept_patterns import open_current_patterns
from neuron_explainer.pipeline.methods import baseline_spec, check_method
from neuron_explainer.pipeline.model_checks import check_models
from neuron_explainer.pipeline.opening import (
    OpenMethod,
    estimate_method,
    make_lookup,
    open_embedded,
    open_method,
)
from neuron_explainer.pipeline.order import order_neurons
from neuron_explainer.pipeline.patterns import (
    check_patterns,
    find_patterns,
    lack_patterns,
    pattern_budget,
    pattern_plan,
    require_store,
)
from neuron_explainer.pipeline.progress import ProgressFile
from neuron_explainer.pipeline.record_units import (
    check_token_means,
    choose_units,
    why_no_token_means,
)
from neuron_explainer.pipeline.records import has_records, open_records, read_subject_choices
from neuron_explainer.pipeline.refreshing import Refreshing
from neuron_explainer.pipeline.shard_status import require_same_split
from neuron_explainer.pipeline.spec import (
    EMBEDDED,
    PATTERNS,
    TOKEN_LOOKUP,
    RunSpec,
    parse_shard,
)
from neuron_explainer.pipeline.spread import spread_over
from neuron_explainer.pipeline.unit_choice import choose_neurons, count_wanted, resolve_units
from neuron_explainer.pipeline.workers import Workers, count_workers
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.stores.record_source import RecordSource
from neuron_explainer.stores.results import Results
from neuron_explainer.stores.store_manifest import holds_store
from neuron_explainer.subject.model import Subject, read_shape
from neuron_explainer.viewer.report import write_report
from neuron_explainer.viewer.report_source import read_report_data

PREVIEW_WORK = 1.2e12
"""Parameters × tokens of a first look: some seconds on two cores."""
PREVIEW_TOKENS = (8_192, 32_768)
"""Fewest, below which too few windows are left to score on; and most."""
PREVIEW_WINDOWS_A_DOCUMENT = 4
PREVIEW_NEURONS = 96


def run(spec: RunSpec, folder: RunFolder, listen: Listener) -> None:
    """Everything, from the model's name to the page; what is already in the folder is kept."""
    spec.require_scorable()
    listen = ProgressFile(folder.progress, listen)
    with folder.locked():
        material = _start(spec, folder)
        n_preview = preview_tokens(material.subject)
        is_begun = holds_store(folder.store) or folder.report.exists()
        if not is_begun and spec.n_tokens > 2 * n_preview:
            preview(baseline_spec(spec), n_preview, material, folder, listen)
        store = collect(spec, material, folder, listen)
        del material  # a language model may need its room
        shutil.rmtree(folder.preview.path, ignore_errors=True)
        _explain_and_report(spec, store, folder, _refreshing(folder, listen))


def run_collect(spec: RunSpec, folder: RunFolder, listen: Listener) -> None:
    """The collect stage alone; with `--shard`, its part."""
    if spec.shard is None:
        listen = ProgressFile(folder.progress, listen)
        with folder.locked():
            collect(spec, _start(spec, folder), folder, listen)
        return
    shard = parse_shard(spec.shard)
    require_same_split(folder, shard.n_shards)
    own = folder.shard(shard)
    listen = ProgressFile(own.progress, listen)
    with own.locked():
        collect_shard(spec, _start(spec, own), own, listen)


def run_merge(folder: RunFolder, listen: Listener) -> None:
    """The store that the shards in the folder make together."""
    with folder.locked():
        merge(folder, listen)


def run_explain(spec: RunSpec, folder: RunFolder, listen: Listener) -> None:
    """The explain stage and the report over the store that is in the folder, with its seed."""
    _check(spec)
    listen = ProgressFile(folder.progress, listen)
    with folder.locked():
        records = open_records(folder)
        seed = read_subject_choices(folder).get("seed", spec.seed)
        _explain_and_report(replace(spec, seed=seed), records, folder, listen)


def estimate_run(spec: RunSpec, folder: RunFolder) -> Estimate:
    """What a run would ask of language models, and what the subject would read; nothing is asked
    and nothing written.

    Over the collection in the folder; without one, for typical text.
    """
    _check_method(spec)
    if not has_records(folder):
        return _estimate_before(spec)
    records = open_records(folder)
    check_patterns(spec, records)
    seed = read_subject_choices(folder).get("seed", spec.seed)
    neuron_ids = choose_neurons(spec.neurons_wanted, records.neuron_ids(), seed)
    passes = {}
    if spec.needs_patterns:
        plan = pattern_plan(spec, require_store(records), folder)
        passes["patterns"] = plan.budget_tokens * len(neuron_ids)
    return replace(estimate_method(spec, records, neuron_ids), passes=passes)


def _estimate_before(spec: RunSpec) -> Estimate:
    """Anything is collected; how many units there are is in the model's configuration."""
    n_units = count_wanted(spec)
    if n_units is None:
        n_units = len(resolve_units(spec, read_shape(spec.model, site_module=spec.site_module)))
    passes = {"the collection": spec.n_tokens}
    if spec.needs_patterns:
        passes["patterns"] = n_units * pattern_budget(spec, spec.n_tokens, n_units)
    return replace(estimate_method(spec, None, n_units), passes=passes)


def report(folder: RunFolder, source: RunFolder | None = None, notice: str | None = None) -> None:
    """Writes the page of `folder` from the store and results of `source`, by default its own."""
    source = source or folder
    records = open_records(source)
    with (
        Results(source.results, read_only=True) as results,
        open_current_patterns(source, results) as patterns,
    ):
        write_report(folder.report, read_report_data(records, results, notice, patterns))


def preview_tokens(subject: Subject) -> int:
    """How much text a first look reads: less for a larger model."""
    fewest, most = PREVIEW_TOKENS
    n_parameters = sum(p.numel() for p in subject.model.base_model.parameters())
    return round(min(most, max(fewest, PREVIEW_WORK / n_parameters)))


def preview(
    spec: RunSpec, n_tokens: int, material: Material, folder: RunFolder, listen: Listener
) -> None:
    """A first page within seconds, from a little of the text and a sample of the units.

    The sample alone is recorded.
    """
    wanted = spec.neurons_wanted or str(PREVIEW_NEURONS)
    sample = choose_neurons(wanted, resolve_units(spec, material.subject), spec.seed)
    little = replace(
        spec,
        n_tokens=n_tokens,
        n_a_band=1,  # few windows: those in a band are no random windows
        max_a_document=min(spec.max_a_document or PREVIEW_WINDOWS_A_DOCUMENT,
                           PREVIEW_WINDOWS_A_DOCUMENT),
        units=",".join(map(str, sample)),
        neurons=None,
    )  # fmt: skip

    def pass_on(event: Event) -> None:
        match event:
            case UnitExplained():
                listen(replace(event, is_preview=True))
            case StageStarted(stage="collect") | StageAdvanced(stage="collect"):
                listen(replace(event, stage="first look"))

    folder.preview.clear()
    store = collect(little, material, folder.preview, pass_on)
    _explain(little, store, folder.preview, pass_on)
    notice = (
        f"A first look, from {n_tokens:,} of {spec.n_tokens:,} tokens and a sample of the "
        "neurons. The run is going on and replaces this page."
    )
    report(folder, source=folder.preview, notice=notice)
    listen(ReportWritten(folder.report, is_preview=True))


def _check(spec: RunSpec) -> None:
    _check_method(spec)
    check_models(spec)


def _check_method(spec: RunSpec) -> None:
    check_method(spec)
    if spec.evidence == PATTERNS and spec.explainer in EMBEDDED:
        raise UsageError(
            f"--evidence {PATTERNS} is what a language model is shown, and --explainer "
            f"{spec.explainer} asks none; name one, such as --explainer openai:MODEL"
        )


def _start(spec: RunSpec, folder: RunFolder) -> Material:
    """Opens everything and checks every choice; only then is a fresh folder cleared."""
    _check(spec)
    material = open_material(spec)
    resolve_choices(spec, material)
    choose_neurons(spec.neurons_wanted, resolve_units(spec, material.subject), spec.seed)
    if folder.fresh:
        folder.clear()
    return material


def _refreshing(folder: RunFolder, listen: Listener) -> Listener:
    """Also rewrites the page now and then while units are being explained."""

    def write() -> None:
        report(folder, notice="Neurons are still being explained; this page grows.")
        listen(ReportWritten(folder.report))

    return Refreshing(write, listen)


def _explain_and_report(
    spec: RunSpec, records: RecordSource, folder: RunFolder, listen: Listener
) -> None:
    _explain(spec, records, folder, listen)
    report(folder)
    listen(ReportWritten(folder.report, is_final=True))


def _explain(spec: RunSpec, records: RecordSource, folder: RunFolder, listen: Listener) -> None:
    check_token_means(spec, records)
    check_patterns(spec, records)
    neuron_ids = choose_units(spec, folder, records, listen)
    with Results(folder.results) as results:
        with Workers(_count_workers(spec, records, neuron_ids)) as workers:
            stages = _EmbeddedStages(spec, records, folder, results, workers, listen)
            baseline, neuron_ids = stages.prepare(neuron_ids)
            if not spec.asks_models:
                stages.explain(baseline, neuron_ids)
                return
        _ask_models(spec, records, folder, results, baseline, neuron_ids, listen)


@dataclass(frozen=True, slots=True)
class _EmbeddedStages:
    """What is done without language models: the baseline, patterns, and the embedded default."""

    spec: RunSpec
    records: RecordSource
    folder: RunFolder
    results: Results
    workers: Workers
    listen: Listener

    def prepare(self, neuron_ids: list[NeuronId]) -> tuple[str | None, list[NeuronId]]:
        """Fingerprint of the baseline, if there is one beside the method; the units in order."""
        spec, records = self.spec, self.records
        if why_no_token_means(records):
            baseline: str | None = None
            beside: Iterator[UnitResult] = iter(())
        elif spec.explainer == TOKEN_LOOKUP and not spec.asks_models:
            return None, neuron_ids
        else:
            lookup = make_lookup(spec, records)
            spread = spread_over(self.workers, baseline_spec(spec), self.folder)
            explain_baseline(lookup, records, self.results, neuron_ids, self.listen, spread)
            baseline, beside = lookup.fingerprint, self.results.units(lookup.fingerprint)
        neuron_ids = order_neurons(spec.order, neuron_ids, beside, records.read_density)
        if lack_patterns(spec, records, self.folder, neuron_ids):
            if baseline is not None:
                notice = "Patterns are being found; so far, the token lookup table."
                report(self.folder, notice=notice)
                self.listen(ReportWritten(self.folder.report))
            find_patterns(spec, records, self.folder, neuron_ids, self.listen, self.workers)
        return baseline, neuron_ids

    def explain(self, baseline: str | None, neuron_ids: Sequence[NeuronId]) -> None:
        spread = spread_over(self.workers, self.spec, self.folder)
        with open_embedded(self.spec, self.records, self.folder, baseline) as method:
            explain(method, self.records, self.results, neuron_ids, self.listen, spread)


def _count_workers(spec: RunSpec, records: RecordSource, neuron_ids: Sequence[NeuronId]) -> int:
    """Published records may be fetched: that is waiting, and not work."""
    return count_workers(len(neuron_ids), spec.memory_gb) if isinstance(records, NeuronStore) else 0


def _ask_models(
    spec: RunSpec,
    records: RecordSource,
    folder: RunFolder,
    results: Results,
    baseline: str | None,
    neuron_ids: Sequence[NeuronId],
    listen: Listener,
) -> None:
    with open_method(spec, records, folder, baseline, listen) as opened:
        finished = results.finished(opened.method.fingerprint)
        waiting = [neuron_id for neuron_id in neuron_ids if neuron_id not in finished]
        _announce(spec, opened, records, waiting, listen)
        explain(opened.method, records, results, neuron_ids, listen)
        uncounted = opened.models.uncounted()
    if uncounted.n_requests:
        listen(Noted("cost", f"{uncounted.n_requests:,} more requests got no answer; the servers "
                     f"may have charged for them: {uncounted.sentence()} at most"))  # fmt: skip


def _announce(
    spec: RunSpec,
    opened: OpenMethod,
    records: RecordSource,
    waiting: Sequence[NeuronId],
    listen: Listener,
) -> None:
    """How it is done and what it will take, before it starts."""
    listen(Noted("simulation", opened.simulator.name))
    if waiting:
        speeds = opened.models.measure_speeds()
        rest = estimate_method(spec, records, waiting, opened.simulation, speeds)
        listen(Noted("estimate", rest.sentence()))
