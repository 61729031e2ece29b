"""Revision: an explanation is tested on new text, written anew, and both versions are scored.

Bills et al. 2023, "Revising explanations":
1. A model writes ten sentences that the explanation says the unit responds to; the subject reads
   them. Every second one is kept back for scoring.
2. A model sees the train windows, the explanation and the other sentences with the real
   activations, and revises the explanation. In place of the sentences it can be shown windows
   with some activation, drawn from the strata ("revision with random sentences").
3. Old and new explanation are scored on the valid windows, and on those with the sentences kept
   back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np

from neuron_explainer.errors import AuthFailed, CannotExplain, LLMError
from neuron_explainer.explainers.revision import NewEvidence, Reviser, SentenceWriter
from neuron_explainer.llm.budget import charged_to
from neuron_explainer.pipeline.bounded import map_bounded
from neuron_explainer.pipeline.patience import failure_reason
from neuron_explainer.prompts.revise import NewTexts, active_tokens
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import DEAD_UNIT, ActivationRecord, NeuronId, NeuronRecord
from neuron_explainer.records.score import Score, ScoredSimulation
from neuron_explainer.records.splits import Split, split_records
from neuron_explainer.scoring.on_sentences import METRIC, score_on_sentences
from neuron_explainer.scoring.simulation import SimulationScorer

FALSE_POSITIVE_SHARE = "false_positive_share"
MAX_CONCURRENT = 16
N_SENTENCES = 10
"""Published: five to revise by and five to score on."""
ReadActivations: TypeAlias = Callable[[NeuronId, Sequence[str]], Sequence[ActivationRecord | None]]
"""One record a text, None for a text of which no position counts; may block."""


class RevisionEvidence(StrEnum):
    """What the reviser learns beside the windows that the explanation was made from."""

    SENTENCES = "sentences"
    """Every second of the sentences written to test the explanation."""
    RANDOM = "random"
    """As many windows with some activation, drawn from the strata in proportion to population."""


@dataclass(frozen=True, slots=True)
class RevisionMethod:
    """Who is asked, and how."""

    writer: SentenceWriter
    reviser: Reviser
    read_activations: ReadActivations
    scorer: SimulationScorer
    """Scores both versions; its train split is what the reviser is shown."""
    evidence: RevisionEvidence = RevisionEvidence.SENTENCES
    n_sentences: int = N_SENTENCES
    seed: int = 0
    """Of the random evidence; joined with the unit's id, so the order of units plays no part."""
    purpose: str = "revision"
    """What the requests are charged to, with the unit's id behind it, as in `purpose/2:417/`."""


@dataclass(frozen=True, slots=True)
class WrittenSentence:
    """A sentence that should make the unit active if the old explanation is right."""

    text: str
    is_for_scoring: bool
    """Else the reviser may see it."""
    record: ActivationRecord | None
    """What the unit did on it; None: no position of it counts."""
    is_false_positive: bool | None
    """No token is as active as those that the reviser sees marked; None without a record.

    The paper compares with a simulation; here the writer was asked for what should be active.
    """


@dataclass(frozen=True, slots=True)
class Version:
    """An explanation and how it scores."""

    explanation: Explanation
    scored: ScoredSimulation
    """On the usual windows."""
    with_sentences: Score
    """On the valid windows and the sentences for scoring together, one correlation."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One explanation before and after."""

    old: Version
    new: Version
    sentences: tuple[WrittenSentence, ...]
    false_positive_share: Score
    """Of the sentences that were read; the paper found about 42 % (GPT-2 XL, GPT-4)."""
    evidence: RevisionEvidence


@dataclass(frozen=True, slots=True)
class RevisionOutcome:
    """One unit: its revision, or the reason there is none."""

    neuron_id: NeuronId
    revision: Revision | None
    reason: str | None
    error: LLMError | None = None
    """What kept the unit from an answer; it is tried again another time."""


async def revise_units(
    method: RevisionMethod,
    explained: Iterable[tuple[NeuronRecord, Explanation]],
    n_at_once: int = MAX_CONCURRENT,
) -> AsyncIterator[RevisionOutcome]:
    """Outcomes as they come, a bounded number of units at a time.

    `explained` may be lazy: a unit is taken only when there is room for it. AuthFailed and
    BudgetExceeded end it: no other unit would fare better.
    """

    async def revise_one(unit: tuple[NeuronRecord, Explanation]) -> RevisionOutcome:
        record, explanation = unit
        charged_to.set(f"{method.purpose}/{record.neuron_id}/")  # each unit is a task of its own
        try:
            revision = await revise_explanation(method, record, explanation)
        except CannotExplain as error:
            return RevisionOutcome(record.neuron_id, None, error.reason)
        except AuthFailed:
            raise
        except LLMError as error:
            return RevisionOutcome(record.neuron_id, None, failure_reason(error), error)
        return RevisionOutcome(record.neuron_id, revision, None)

    async for outcome in map_bounded(revise_one, explained, n_at_once):
        yield outcome


async def revise_explanation(
    method: RevisionMethod, record: NeuronRecord, explanation: Explanation
) -> Revision:
    """CannotExplain, with the reason, when no revision comes about."""
    if record.is_dead:
        raise CannotExplain(DEAD_UNIT)
    sentences = await _write_sentences(method, record, explanation)
    revised = await method.reviser.revise(
        explanation,
        split_records(record, Split.TRAIN, method.scorer.n_per_split).top,
        _new_evidence(method, record, sentences),
        record.max_activation,
    )
    for_scoring = [s.record for s in sentences if s.is_for_scoring and s.record is not None]
    old, new = await asyncio.gather(
        _score(method.scorer, explanation, record, for_scoring),
        _score(method.scorer, revised, record, for_scoring),
    )
    return Revision(old, new, sentences, _false_positive_share(sentences), method.evidence)


async def _write_sentences(
    method: RevisionMethod, record: NeuronRecord, explanation: Explanation
) -> tuple[WrittenSentence, ...]:
    texts = await method.writer.write(explanation, method.n_sentences)
    read = await asyncio.to_thread(method.read_activations, record.neuron_id, texts)

    def is_silent(sentence: ActivationRecord) -> bool:
        return not any(active_tokens(sentence, record.max_activation, method.reviser.mark_from))

    return tuple(
        WrittenSentence(
            text=text,
            is_for_scoring=number % 2 == 1,
            record=sentence,
            is_false_positive=None if sentence is None else is_silent(sentence),
        )
        for number, (text, sentence) in enumerate(zip(texts, read, strict=True))
    )


def _new_evidence(
    method: RevisionMethod, record: NeuronRecord, sentences: Sequence[WrittenSentence]
) -> NewEvidence:
    if method.evidence is RevisionEvidence.SENTENCES:
        shown = [s.record for s in sentences if not s.is_for_scoring and s.record is not None]
        if not shown:
            raise CannotExplain("no test sentence could be read: none of their positions counts")
        return NewEvidence(tuple(shown), NewTexts.WRITTEN)
    drawn = draw_active_windows(record, (method.n_sentences + 1) // 2, method.seed)
    if not drawn:
        raise CannotExplain("no active window outside the top windows and the splits")
    return NewEvidence(drawn, NewTexts.RANDOM)


def draw_active_windows(
    record: NeuronRecord, n_windows: int, seed: int
) -> tuple[ActivationRecord, ...]:
    """Windows with a positive activation, from the strata: none of them is in any split.

    Each window stands for its share of its stratum's population, and takes no part where that is
    not said; fewer when there are fewer.
    """
    weighted = [
        (window, stratum.population / len(stratum.records))
        for stratum in record.strata
        if stratum.population is not None
        for window in stratum.records
        if window.max_activation > 0
    ]
    if not weighted:
        return ()
    weights = np.array([weight for _, weight in weighted])
    unit = record.neuron_id
    rng = np.random.default_rng((seed, unit.layer_index, unit.neuron_index))
    n_drawn = min(n_windows, len(weighted))
    places = rng.choice(len(weighted), n_drawn, replace=False, p=weights / weights.sum())
    return tuple(weighted[place][0] for place in places)


async def _score(
    scorer: SimulationScorer,
    explanation: Explanation,
    record: NeuronRecord,
    sentences: Sequence[ActivationRecord],
) -> Version:
    scored = await scorer.score(explanation, record)
    return Version(
        explanation, scored, await _with_sentences(scorer, scored, explanation, sentences)
    )


async def _with_sentences(
    scorer: SimulationScorer,
    scored: ScoredSimulation,
    explanation: Explanation,
    sentences: Sequence[ActivationRecord],
) -> Score:
    if not scored.windows:  # not simulated at all: the score says why
        reason = scored.score.reason or "no window to score on"
    elif not sentences:
        reason = "no sentence to score on"
    else:
        return await score_on_sentences(
            scorer.simulator, explanation, sentences, scored.windows, scorer.max_missing_share
        )
    return Score(METRIC.value, None, n_tokens=0, reason=reason)


def _false_positive_share(sentences: Sequence[WrittenSentence]) -> Score:
    read = [s for s in sentences if s.record is not None]
    n_tokens = sum(len(s.record.tokens) for s in read if s.record is not None)
    if not read:
        return Score(FALSE_POSITIVE_SHARE, None, 0, reason="no test sentence could be read")
    share = sum(bool(s.is_false_positive) for s in read) / len(read)
    return Score(FALSE_POSITIVE_SHARE, share, n_tokens)
