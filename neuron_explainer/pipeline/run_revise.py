"""The revise command: explanations of a run, tested on new text, revised, and scored again.

The revised explanations become a method of their own, read beside the one that they revise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from neuron_explainer.errors import UsageError
from neuron_explainer.explainers.revision import AskedModel, Reviser, SentenceWriter
from neuron_explainer.pipeline.batching import require_batch
from neuron_explainer.pipeline.collected import load_collected, open_collected
from neuron_explainer.pipeline.events import (
    Listener,
    MoneySpent,
    ReportWritten,
    StageAdvanced,
    StageFinished,
    StageStarted,
    UnitExplained,
)
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.kept import read_explanations
from neuron_explainer.pipeline.methods import (
    N_THOUGHT_TOKENS,
    Models,
    check_method,
    explainer_name,
    make_scorer,
    make_simulator,
    method_choices,
    resolve_simulation,
)
from neuron_explainer.pipeline.model_checks import check_models
from neuron_explainer.pipeline.models import OpenModels
from neuron_explainer.pipeline.patience import Patience
from neuron_explainer.pipeline.progress import ProgressFile
from neuron_explainer.pipeline.records import open_records, read_subject_choices
from neuron_explainer.pipeline.revise import (
    Revision,
    RevisionEvidence,
    RevisionMethod,
    RevisionOutcome,
    revise_units,
)
from neuron_explainer.pipeline.revision_summary import RevisionSummary, summarize_revisions
from neuron_explainer.pipeline.run import report
from neuron_explainer.pipeline.spec import RunSpec, fingerprint
from neuron_explainer.pipeline.text_activations import TextReader
from neuron_explainer.pipeline.unit_choice import choose_neurons
from neuron_explainer.prompts.revise import REVISION_VERSION, SENTENCES_VERSION
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId, NeuronRecord
from neuron_explainer.records.score import TOP_AND_RANDOM, Score, ScoredSimulation
from neuron_explainer.stores.record_source import RecordSource
from neuron_explainer.stores.results import BASELINE, BASELINE_LABEL, Results

STAGE = "revise"
NAME = "revision"
BEFORE = "before revision"
WITH_SENTENCES = "with_sentences"
BEFORE_WITH_SENTENCES = "before_with_sentences"
FALSE_POSITIVES = "false_positive_share"
MAX_TOKENS = 1000


def run_revise(
    spec: RunSpec, folder: RunFolder, evidence: RevisionEvidence, listen: Listener
) -> RevisionSummary:
    """Revises what the run's current method says of the chosen units, as far as it is not done.

    The summary is of the units that were done now.
    """
    check_revising(spec)
    listen = ProgressFile(folder.progress, listen)
    with folder.locked(), Results(folder.results) as results:
        store = open_records(folder)
        spec = replace(spec, seed=read_subject_choices(folder).get("seed", spec.seed))
        revised = method_to_revise(results)
        with OpenModels(spec, folder, listen) as models:
            job = _open(spec, folder, store, models, evidence, revised)
            results.use_method(job.fingerprint, job.choices)
            waiting = _choose(spec, store, results, job)
            outcomes = asyncio.run(_revise_all(job, store, results, waiting, models, listen))
        report(folder)
        listen(ReportWritten(folder.report, is_final=True))
    return summarize_revisions(outcomes)


def check_revising(spec: RunSpec, *, are_asked: bool = True) -> None:
    """UsageError for choices that cannot be meant. are_asked: as `check_models` has it."""
    check_method(spec)
    if explainer_name(spec) is None:
        raise UsageError("revising takes a language model: name one with --explainer")
    check_models(spec, are_asked=are_asked)


@dataclass(frozen=True, slots=True)
class _Job:
    """What is needed to revise, and the choices behind it."""

    method: RevisionMethod
    choices: dict[str, object]
    fingerprint: str
    revised: str
    """Fingerprint of the method whose explanations are revised."""


def method_to_revise(results: Results) -> str:
    """The current method; if it is a revision, the one it revises: none is revised twice."""
    current = results.current_method()
    choices = results.choices(current)
    return str(choices[BASELINE]) if choices.get(BASELINE_LABEL) == BEFORE else current


def _open(
    spec: RunSpec,
    folder: RunFolder,
    store: RecordSource,
    models: OpenModels,
    evidence: RevisionEvidence,
    revised: str,
) -> _Job:
    simulation = resolve_simulation(spec, models)
    require_batch(spec, simulation)
    simulator = make_simulator(spec, models, simulation, store.manifest.n_ctx)
    choices = {
        **method_choices(spec, store.manifest.fingerprint, models, simulation),
        "explainer_prompt": [SENTENCES_VERSION, REVISION_VERSION],
        "evidence": str(evidence),
        BASELINE: revised,
        BASELINE_LABEL: BEFORE,
    }
    asked = asked_model(spec, models)
    method = RevisionMethod(
        writer=SentenceWriter(asked),
        reviser=Reviser(asked),
        read_activations=_reader(spec, folder, store).read_activations,
        scorer=make_scorer(spec, simulator),
        evidence=evidence,
        seed=spec.seed,
        purpose=fingerprint(choices),
    )
    return _Job(method, choices, fingerprint(choices), revised)


def asked_model(spec: RunSpec, models: Models) -> AskedModel:
    """Who writes sentences and revises; UsageError for a model that does not chat."""
    name = explainer_name(spec)
    assert name is not None
    model = models.text_model(name)
    if not model.is_chat:
        raise UsageError(f"{name} has no chat template; revising takes a model that chats")
    if not model.is_reasoning:
        return AskedModel(model.client, name.model, str(name), MAX_TOKENS)
    return AskedModel(
        model.client,
        name.model,
        str(name),
        MAX_TOKENS + N_THOUGHT_TOKENS,
        temperature=None,
        reasoning_effort=spec.reasoning_effort,
    )


def _reader(spec: RunSpec, folder: RunFolder, store: RecordSource) -> TextReader:
    """The subject, as it read the corpus."""
    subject = load_collected(spec, folder)
    return TextReader(open_collected(subject, folder), subject.tokenizer, store.manifest.n_ctx)


def _choose(
    spec: RunSpec, store: RecordSource, results: Results, job: _Job
) -> list[tuple[NeuronId, Explanation]]:
    """The explanations to revise, of the chosen units that are not done yet."""
    done = results.finished(job.fingerprint)
    chosen = explained_units(spec, store, results, job.revised)
    return [(neuron_id, explanation) for neuron_id, explanation in chosen if neuron_id not in done]


def explained_units(
    spec: RunSpec, store: RecordSource, results: Results, method: str
) -> list[tuple[NeuronId, Explanation]]:
    """The chosen units that a method explains, with what it says."""
    explained = read_explanations(results, method)
    chosen = choose_neurons(spec.neurons, store.neuron_ids(), spec.seed)
    return [(neuron_id, explained[neuron_id]) for neuron_id in chosen if neuron_id in explained]


async def _revise_all(
    job: _Job,
    store: RecordSource,
    results: Results,
    waiting: Sequence[tuple[NeuronId, Explanation]],
    models: OpenModels,
    listen: Listener,
) -> list[RevisionOutcome]:
    def explained() -> Iterator[tuple[NeuronRecord, Explanation]]:
        for neuron_id, explanation in waiting:
            yield store.read_neuron(neuron_id), explanation

    listen(StageStarted(STAGE, len(waiting), "neurons"))
    outcomes: list[RevisionOutcome] = []
    patience = Patience(has_seen_answers=False)
    try:
        async for outcome in revise_units(job.method, explained(), models.n_at_once):
            outcomes.append(outcome)
            _write(results, job, outcome, models)
            patience.note(outcome.error)
            listen(UnitExplained(results.unit(job.fingerprint, outcome.neuron_id)))
            listen(MoneySpent(models.total()))
            listen(StageAdvanced(STAGE, len(outcomes)))
    finally:
        await models.close_clients()
    n_revised = sum(outcome.revision is not None for outcome in outcomes)
    listen(StageFinished(STAGE, f"{n_revised:,} of {len(outcomes):,} neurons revised"))
    return outcomes


def _write(results: Results, job: _Job, outcome: RevisionOutcome, models: OpenModels) -> None:
    cost = models.cost_of(f"{job.method.purpose}/{outcome.neuron_id}/")
    if outcome.revision is None:
        assert outcome.reason is not None
        is_final = outcome.error is None
        results.add_unexplained(
            job.fingerprint, outcome.neuron_id, NAME, outcome.reason, is_final=is_final, cost=cost
        )
        return
    new = outcome.revision.new
    results.add_explained(
        job.fingerprint, new.explanation, _all_scores(outcome.revision), cost=cost
    )


def _all_scores(revision: Revision) -> ScoredSimulation:
    """The new version's, with those that take the test sentences in, and the old version's."""
    old, new = revision.old, revision.new
    more: dict[str, Score] = {
        WITH_SENTENCES: new.with_sentences,
        f"before_{TOP_AND_RANDOM}": old.scored.score,
        BEFORE_WITH_SENTENCES: old.with_sentences,
        FALSE_POSITIVES: revision.false_positive_share,
    }
    return replace(new.scored, scores={**new.scored.scores, **more})
