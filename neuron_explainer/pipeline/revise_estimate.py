"""What revising will ask of language models, before it asks.

As `estimate.py`: the method itself is run over a few units, with clients that count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace

from neuron_explainer.errors import CannotExplain
from neuron_explainer.explainers.revision import Reviser, SentenceWriter
from neuron_explainer.llm.messages import Completion, CompletionRequest
from neuron_explainer.pipeline.counting import CountingModels
from neuron_explainer.pipeline.estimate import (
    TEXT,
    Estimate,
    any_completion,
    scale_up,
    some_of,
)
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.methods import make_scorer, make_simulator, resolve_simulation
from neuron_explainer.pipeline.records import open_records, read_subject_choices
from neuron_explainer.pipeline.revise import (
    N_SENTENCES,
    RevisionEvidence,
    RevisionMethod,
    revise_explanation,
)
from neuron_explainer.pipeline.run_revise import (
    asked_model,
    check_revising,
    explained_units,
    method_to_revise,
)
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import ActivationRecord, NeuronId, NeuronRecord
from neuron_explainer.stores.results import Results


def estimate_revise(spec: RunSpec, folder: RunFolder, evidence: RevisionEvidence) -> Estimate:
    """Of all the units that are chosen, those that are revised already among them; and of all
    that is simulated, though answers about the old version may be kept.

    Nobody is asked, and no weights are read: what a sentence does to the unit is made up, and which
    of them it is active on changes little. Errors as of `run_revise`.
    """
    check_revising(spec, are_asked=False)
    records = open_records(folder)
    spec = replace(spec, seed=read_subject_choices(folder).get("seed", spec.seed))
    with Results(folder.results, read_only=True) as results:
        chosen = explained_units(spec, records, results, method_to_revise(results))
    models = CountingModels(spec, _sentences)
    simulator = make_simulator(
        spec, models, resolve_simulation(spec, models), records.manifest.n_ctx
    )
    asked = asked_model(spec, models)
    method = RevisionMethod(
        writer=SentenceWriter(asked),
        reviser=Reviser(asked),
        read_activations=_active_at_the_end,
        scorer=make_scorer(spec, simulator),
        evidence=evidence,
        seed=spec.seed,
    )
    some = [chosen[i] for i in some_of(chosen)]
    tried = [(records.read_neuron(neuron_id), explanation) for neuron_id, explanation in some]
    asyncio.run(_try(method, tried))
    return scale_up(models.tallies, len(tried), len(chosen), models.find_price, {})


async def _try(
    method: RevisionMethod, explained: Iterable[tuple[NeuronRecord, Explanation]]
) -> None:
    for record, explanation in explained:
        try:
            await revise_explanation(method, record, explanation)
        except CannotExplain:
            continue  # as it will be


def _sentences(request: CompletionRequest) -> Completion:
    """Reads as sentences, and as a description; a number for who wants one."""
    if request.n_top_logprobs is not None:
        return any_completion(request)
    lines = (f"<answer>{TEXT}, number {i}</answer>" for i in range(N_SENTENCES))
    return replace(any_completion(request), text="\n".join(lines))


def _active_at_the_end(_neuron_id: NeuronId, texts: Sequence[str]) -> list[ActivationRecord | None]:
    tokens = [tuple(f" {word}" for word in text.split()) for text in texts]
    return [ActivationRecord(of_text, (*[0.0] * (len(of_text) - 1), 1.0)) for of_text in tokens]
