"""Rescore: explanations that are there, and new ones, on the same held-out windows, side by side.

1. The explanations are kept, of a run, of the published dataset or of a list, and scored with the
   simulator that is named.
2. With another explainer named, new ones are made, and scored with the same simulator.
3. They are compared unit by unit: new against kept, and the kept ones as they score now against how
   they scored before.

Every step is a method of its own in the results: nothing that was there is changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from neuron_explainer.errors import UsageError
from neuron_explainer.pipeline.events import Listener, Noted, ReportWritten
from neuron_explainer.pipeline.explain import Method, explain
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.kept import KEPT_FROM, Kept, KeptExplainer
from neuron_explainer.pipeline.methods import (
    SCORERS,
    check_method,
    explainer_name,
    simulator_name,
)
from neuron_explainer.pipeline.model_checks import check_models
from neuron_explainer.pipeline.opening import OpenMethod, open_method
from neuron_explainer.pipeline.patterns import check_patterns, find_patterns
from neuron_explainer.pipeline.progress import ProgressFile
from neuron_explainer.pipeline.record_units import check_token_means
from neuron_explainer.pipeline.records import read_subject_choices
from neuron_explainer.pipeline.rescore_source import RescoreSource, Rescoring, open_rescoring
from neuron_explainer.pipeline.run import report
from neuron_explainer.pipeline.sides import Compared, compare_methods
from neuron_explainer.pipeline.spec import TOKEN_LOOKUP, WINDOWS, RunSpec
from neuron_explainer.records.score import reason_kind
from neuron_explainer.stores.comparison import PairedScores
from neuron_explainer.stores.results import BASELINE, BASELINE_LABEL, Results

KEPT = "kept explanations"
OWN = RescoreSource()


@dataclass(frozen=True, slots=True)
class Rescored:
    """What came of it."""

    compared: tuple[Compared, ...]
    """New against kept, where new ones were made; then kept now against before. Again for each
    further scorer."""
    kept: str
    """Fingerprint of the kept explanations with the new simulator, and the first scorer."""
    new: str | None
    """Fingerprint of the new explanations; None: none were made."""
    left_out: Mapping[str, int]
    """What was not taken over, by reason; most frequent first."""

    @property
    def paired(self) -> PairedScores:
        """The first comparison."""
        return self.compared[0].paired

    @property
    def why_nothing(self) -> str | None:
        """Why no unit has a score, by reason; None: one has."""
        if any(unit.value is not None for each in self.compared for unit in each.units):
            return None
        reasons = [unit.reason for unit in self.compared[0].units if unit.reason is not None]
        counts = Counter(map(reason_kind, reasons)) + Counter(self.left_out)
        said = ", ".join(f"{reason} {n:,}" for reason, n in counts.most_common())
        return said or "no neuron got an answer"


def run_rescore(
    spec: RunSpec,
    folder: RunFolder,
    listen: Listener,
    source: RescoreSource = OWN,
    scorers: Sequence[str] = tuple(SCORERS),
) -> Rescored:
    """Over the units that are chosen of those that have an explanation to keep."""
    check_rescoring(spec)
    listen = ProgressFile(folder.progress, listen)
    with folder.locked():
        spec = replace(spec, seed=read_subject_choices(folder).get("seed", spec.seed))
        with open_rescoring(source, spec, folder, listen) as (opened, results):
            if explainer_name(spec) is not None:
                check_token_means(spec, opened.records)
                check_patterns(spec, opened.records)
            done = [_rescore(spec, folder, opened, results, name, listen) for name in scorers]
            compared = [compare_methods(results, name) for both in done for name in both if name]
            left_out = dict(Counter(+opened.left_out).most_common())
        report(folder)
        listen(ReportWritten(folder.report, is_final=True))
    new, kept = done[0]
    return Rescored(tuple(compared), kept, new, left_out)


def check_rescoring(spec: RunSpec, *, are_asked: bool = True) -> None:
    """UsageError for choices that cannot be meant. are_asked: as `check_models` has it."""
    check_method(spec)
    if simulator_name(spec) is None:
        raise UsageError("rescoring takes a simulator: --simulator openai:MODEL or hf:MODEL")
    check_models(spec, are_asked=are_asked)


def keeping(spec: RunSpec) -> RunSpec:
    """With the same simulator, and an explainer that asks nobody."""
    return replace(
        spec, explainer=TOKEN_LOOKUP, simulator=str(simulator_name(spec)), evidence=WINDOWS
    )


def _rescore(
    spec: RunSpec,
    folder: RunFolder,
    rescoring: Rescoring,
    results: Results,
    scorer: str,
    listen: Listener,
) -> tuple[str | None, str]:
    """Fingerprints of the new explanations, if any are made, and of the kept ones."""
    records, kept, neuron_ids = rescoring.records, rescoring.kept, rescoring.neuron_ids
    with open_method(keeping(spec), records, folder, kept.origin, listen) as opened:
        method = _keep(_with_scorer(opened, spec, scorer), kept)
        listen(Noted("simulation", opened.simulator.name))
        explain(method, records, results, neuron_ids, listen)
    if rescoring.listed is not None:
        rescoring.listed.write_scores(results, method.fingerprint)
    if explainer_name(spec) is None:
        return None, method.fingerprint
    find_patterns(spec, records, folder, neuron_ids, listen)
    with open_method(spec, records, folder, method.fingerprint, listen) as opened:
        new = _with_scorer(opened, spec, scorer)
        new = replace(new, choices={**new.choices, BASELINE_LABEL: KEPT, KEPT_FROM: kept.origin})
        explain(new, records, results, neuron_ids, listen)
    return new.fingerprint, method.fingerprint


def _with_scorer(opened: OpenMethod, spec: RunSpec, scorer: str) -> Method:
    choices = {**opened.method.choices, "scorer": scorer}
    return replace(opened.method, scorer=SCORERS[scorer](spec, opened.simulator), choices=choices)


def _keep(method: Method, kept: Kept) -> Method:
    choices = {
        **method.choices, "explainer": KeptExplainer.name, "explainer_prompt": None,
        KEPT_FROM: kept.origin, BASELINE: kept.origin, BASELINE_LABEL: kept.label,
    }  # fmt: skip
    return replace(method, explainer=KeptExplainer(kept.explanations), choices=choices)
