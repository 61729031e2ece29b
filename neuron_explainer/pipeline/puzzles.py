"""What a simulator and an explainer make of neuron puzzles, whose true explanation is known.

Bills et al. 2023, "Explaining constructed puzzles": with GPT-4 as simulator the true explanation
scores best among the false ones in 16 of 19 puzzles, and is among the best two in 18. Whether an
explainer has found the true one was judged by people (5 of 19): here its explanation is scored on
the sentences it was made from, which are not held out, beside the true one.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from neuron_explainer.errors import CannotExplain, UsageError
from neuron_explainer.explainers.base import Explainer
from neuron_explainer.formats.puzzles import Puzzle
from neuron_explainer.llm.budget import charged_to
from neuron_explainer.pipeline.bounded import map_bounded
from neuron_explainer.pipeline.explain import MAX_CONCURRENT
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.methods import (
    check_method,
    explainer_name,
    make_explainer,
    make_simulator,
    resolve_simulation,
    simulator_name,
)
from neuron_explainer.pipeline.model_checks import check_models
from neuron_explainer.pipeline.models import OpenModels
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.records.explanation import Explanation, TokenLookupTable
from neuron_explainer.records.neuron import Moments, NeuronId, NeuronRecord
from neuron_explainer.records.score import Score
from neuron_explainer.records.splits import TOP_SPLITS
from neuron_explainer.scoring.on_sentences import MAX_MISSING_SHARE, score_on_sentences
from neuron_explainer.simulators.base import Simulator

WRITTEN_BY_HAND = "puzzle"


@dataclass(frozen=True, slots=True)
class Rank:
    """Where the true explanation stands among all, from 1; two numbers where that is not sure."""

    best: int
    """If every tie, and every false explanation without a score, falls its way."""
    worst: int
    """If none does."""


@dataclass(frozen=True, slots=True)
class ScoredText:
    """An explanation of a puzzle."""

    text: str
    score: Score
    """ρ over all sentences together."""


@dataclass(frozen=True, slots=True)
class PuzzleResult:
    """One puzzle."""

    name: str
    true: ScoredText
    false: tuple[ScoredText, ...]
    found: ScoredText | None
    """The explainer's own, scored on what it was made from; None: it was not asked, or has none."""
    reason: str | None
    """Why the explainer has none."""

    @property
    def rank(self) -> Rank | None:
        """None when the true explanation has no score."""
        true = self.true.score.value
        if true is None:
            return None
        values = [text.score.value for text in self.false]
        n_better = sum(value is not None and value > true for value in values)
        n_unsure = sum(value is None or value == true for value in values)
        return Rank(best=1 + n_better, worst=1 + n_better + n_unsure)


@dataclass(frozen=True, slots=True)
class PuzzleSummary:
    """Counts over all puzzles; `…_at_best` adds those that ties or missing scores leave open."""

    n_puzzles: int
    n_first: int
    n_first_at_best: int
    n_top_two: int
    n_top_two_at_best: int
    n_tied: int
    """Puzzles in which a false explanation scores exactly as the true one."""
    n_true_unscored: int
    n_false_unscored: int
    """False explanations without a score, in all puzzles."""
    n_found: int
    """Puzzles to which the explainer had an explanation, with a score."""
    mean_found: float | None
    """Mean score of those; None: there are none."""
    mean_true: float | None
    """Mean score of the true explanations that have one."""


def run_puzzles(spec: RunSpec, folder: RunFolder, puzzles: Sequence[Puzzle]) -> list[PuzzleResult]:
    """With the simulator of the spec, and its explainer if that is a language model.

    Answers and costs are kept in the folder. UsageError for the token lookup table as simulator: a
    made-up unit has none.
    """
    check_method(spec)
    if simulator_name(spec) is None:
        raise UsageError(
            "a puzzle has no token lookup table; give --simulator openai:MODEL or hf:MODEL"
        )
    check_models(spec)
    n_window_tokens = max(len(s.tokens) for puzzle in puzzles for s in puzzle.sentences)
    with folder.locked(), OpenModels(spec, folder) as models:
        simulation = resolve_simulation(spec, models)
        simulator = make_simulator(spec, models, simulation, n_window_tokens)
        explainer = None
        if explainer_name(spec) is not None:
            most_sentences = max(len(puzzle.sentences) for puzzle in puzzles)
            shows_all = replace(spec, n_per_split=most_sentences)
            explainer = make_explainer(shows_all, models, _no_table)

        async def solve_all() -> list[PuzzleResult]:
            try:
                return await solve_puzzles(
                    puzzles, simulator, explainer, spec.max_missing_share, models.n_at_once
                )
            finally:
                await models.close_clients()

        return asyncio.run(solve_all())


def _no_table(_: NeuronId) -> TokenLookupTable:
    raise CannotExplain("a puzzle has no token lookup table")


async def solve_puzzles(
    puzzles: Sequence[Puzzle],
    simulator: Simulator,
    explainer: Explainer | None = None,
    max_missing_share: float = MAX_MISSING_SHARE,
    n_at_once: int = MAX_CONCURRENT,
) -> list[PuzzleResult]:
    """In the order of the puzzles; what a language model's server raises ends it.

    n_at_once: puzzles under way, so that a batch can be filled.
    """

    async def solve(number: int) -> tuple[int, PuzzleResult]:
        puzzle = puzzles[number]
        charged_to.set(f"puzzle/{puzzle.name}")
        return number, await solve_puzzle(number, puzzle, simulator, explainer, max_missing_share)

    places = range(len(puzzles))
    by_place = {n: result async for n, result in map_bounded(solve, places, n_at_once)}
    return [by_place[number] for number in places]


async def solve_puzzle(
    number: int,
    puzzle: Puzzle,
    simulator: Simulator,
    explainer: Explainer | None = None,
    max_missing_share: float = MAX_MISSING_SHARE,
) -> PuzzleResult:
    """Scores the true and the false explanations, and the explainer's if there is one."""
    record = puzzle_record(number, puzzle)

    async def score(explanation: Explanation) -> ScoredText:
        sentences = puzzle.sentences
        found = await score_on_sentences(
            simulator, explanation, sentences, max_missing_share=max_missing_share
        )
        return ScoredText(explanation.text, found)

    true, *false = await asyncio.gather(
        *(
            score(Explanation(record.neuron_id, text, WRITTEN_BY_HAND))
            for text in (puzzle.explanation, *puzzle.false_explanations)
        )
    )
    found, reason = None, None
    if explainer is not None:
        try:
            explanation, *_ = await explainer.explain(record)
            found = await score(explanation)
        except CannotExplain as error:
            reason = error.reason
    return PuzzleResult(puzzle.name, true, tuple(false), found, reason)


def puzzle_record(number: int, puzzle: Puzzle) -> NeuronRecord:
    """The puzzle as a unit with every sentence in its train split, the most active first.

    An explainer sees every fourth top window, so each sentence is there four times. The other
    splits hold the same sentences: nothing is held out.
    """
    ordered = sorted(puzzle.sentences, key=lambda sentence: -sentence.max_activation)
    values = [a for s in puzzle.sentences for a in s.activations if a is not None]
    return NeuronRecord(
        neuron_id=NeuronId(0, number),
        top=tuple(sentence for sentence in ordered for _ in TOP_SPLITS),
        strata=(),
        random=(),
        moments=Moments(
            n_tokens=len(values),
            mean=statistics.fmean(values),
            variance=statistics.pvariance(values),
            skewness=None,
            kurtosis=None,
        ),
    )


def summarize_puzzles(results: Sequence[PuzzleResult]) -> PuzzleSummary:
    """Counts over all puzzles; one that cannot be ranked is counted, and in no rank."""
    ranks = [result.rank for result in results]
    known = [rank for rank in ranks if rank is not None]
    found = _values(result.found for result in results if result.found is not None)
    true = _values(result.true for result in results)
    return PuzzleSummary(
        n_puzzles=len(results),
        n_first=sum(rank.worst == 1 for rank in known),
        n_first_at_best=sum(rank.best == 1 for rank in known),
        n_top_two=sum(rank.worst <= 2 for rank in known),
        n_top_two_at_best=sum(rank.best <= 2 for rank in known),
        n_tied=sum(map(_has_tie, results)),
        n_true_unscored=len(ranks) - len(known),
        n_false_unscored=sum(t.score.value is None for r in results for t in r.false),
        n_found=len(found),
        mean_found=statistics.fmean(found) if found else None,
        mean_true=statistics.fmean(true) if true else None,
    )


def _has_tie(result: PuzzleResult) -> bool:
    true = result.true.score.value
    return true is not None and any(text.score.value == true for text in result.false)


def _values(texts: Iterable[ScoredText]) -> list[float]:
    return [text.score.value for text in texts if text.score.value is not None]
