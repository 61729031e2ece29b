"""What revision did over many units; Bills et al. 2023, "Revising explanations"."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from neuron_explainer.pipeline.revise import Revision, RevisionOutcome
from neuron_explainer.records.score import Score, reason_kind


@dataclass(frozen=True, slots=True)
class Comparison:
    """Scores before and after, over the units that have both."""

    n_units: int
    mean_old: float | None
    """None: no unit has both."""
    mean_new: float | None
    n_better: int
    n_worse: int
    reasons: Mapping[str, int]
    """Why a version of a unit has no score, by kind, the commonest first."""


@dataclass(frozen=True, slots=True)
class RevisionSummary:
    """Over all units that were tried."""

    n_units: int
    n_revised: int
    n_unchanged: int
    """Of the revised, those whose explanation was left as it was."""
    on_windows: Comparison
    """By the headline score."""
    with_sentences: Comparison
    """By the correlation over the valid windows and the sentences for scoring."""
    false_positive_share: float | None
    """Of all sentences that were read (GPT-2 XL, GPT-4: about 42 %)."""
    share_with_false_positive: float | None
    """Of the units with such sentences, those with a false positive (published: 86 %)."""
    reasons: Mapping[str, int]
    """Why there is no revision, by kind, the commonest first."""


def summarize_revisions(outcomes: Sequence[RevisionOutcome]) -> RevisionSummary:
    """What came of all units together, whatever became of each."""
    revisions = [outcome.revision for outcome in outcomes if outcome.revision is not None]
    read = [
        [s.is_false_positive for s in revision.sentences if s.is_false_positive is not None]
        for revision in revisions
    ]
    all_read = [is_false_positive for of_unit in read for is_false_positive in of_unit]
    has_any = [any(of_unit) for of_unit in read if of_unit]
    return RevisionSummary(
        n_units=len(outcomes),
        n_revised=len(revisions),
        n_unchanged=sum(r.old.explanation.text == r.new.explanation.text for r in revisions),
        on_windows=_compare([(r.old.scored.score, r.new.scored.score) for r in revisions]),
        with_sentences=_compare([_with_sentences(revision) for revision in revisions]),
        false_positive_share=statistics.fmean(all_read) if all_read else None,
        share_with_false_positive=statistics.fmean(has_any) if has_any else None,
        reasons=_count(outcome.reason for outcome in outcomes),
    )


def _with_sentences(revision: Revision) -> tuple[Score, Score]:
    return revision.old.with_sentences, revision.new.with_sentences


def _compare(pairs: Sequence[tuple[Score, Score]]) -> Comparison:
    both = [
        (old.value, new.value)
        for old, new in pairs
        if old.value is not None and new.value is not None
    ]
    return Comparison(
        n_units=len(both),
        mean_old=statistics.fmean(old for old, _ in both) if both else None,
        mean_new=statistics.fmean(new for _, new in both) if both else None,
        n_better=sum(new > old for old, new in both),
        n_worse=sum(new < old for old, new in both),
        reasons=_count(score.reason for pair in pairs for score in pair),
    )


def _count(reasons: Iterable[str | None]) -> dict[str, int]:
    return dict(Counter(reason_kind(r) for r in reasons if r is not None).most_common())
