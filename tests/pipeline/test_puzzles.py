"""A simulator that knows the truth ranks it first; ties and missing scores leave a rank open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from neuron_explainer.errors import CannotExplain
from neuron_explainer.explainers.base import Explainer
from neuron_explainer.formats.puzzles import Puzzle, read_puzzles
from neuron_explainer.pipeline.puzzles import (
    PuzzleResult,
    Rank,
    puzzle_record,
    solve_puzzle,
    solve_puzzles,
    summarize_puzzles,
)
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import ActivationRecord, NeuronRecord
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.simulation import SequenceSimulation
from neuron_explainer.records.splits import Split, split_records
from neuron_explainer.simulators.base import Simulator

PUZZLE = Puzzle(
    name="rivers",
    explanation="Rhine Elbe",
    false_explanations=("flows Elbe", "nothing", "The"),
    sentences=(
        ActivationRecord(("No", " river", " here"), (0.0, 0.0, 0.0)),
        ActivationRecord(("The", " Rhine", " flows"), (0.0, 9.0, 0.0)),
        ActivationRecord(("The", " Elbe", " too", " flows"), (0.0, 10.0, 0.0, 0.0)),
    ),
)
Predict = Callable[[str, str], float | None]


@dataclass
class RuleSimulator:
    """Predicts each token by a rule of the explanation and the token."""

    predict: Predict
    name: str = "rule"

    async def simulate(self, explanation: Explanation, tokens: Sequence[str]) -> SequenceSimulation:
        predicted = tuple(self.predict(explanation.text, token.strip()) for token in tokens)
        return SequenceSimulation(tuple(tokens), predicted, ActivationScale.NORMALIZED)


@dataclass
class TruthSimulator:
    """Predicts the truth from the true explanation, and the lengths of tokens from any other."""

    puzzle: Puzzle
    name: str = "truth"

    async def simulate(self, explanation: Explanation, tokens: Sequence[str]) -> SequenceSimulation:
        (sentence,) = {s for s in self.puzzle.sentences if s.tokens == tuple(tokens)}
        if explanation.text == self.puzzle.explanation:
            predicted = sentence.activations
        else:
            predicted = tuple(float(len(token)) for token in tokens)
        return SequenceSimulation(tuple(tokens), predicted, ActivationScale.NEURON)


@dataclass
class OneText:
    """Explains every unit in the same way; remembers what it was shown."""

    text: str | None
    name: str = "one text"

    async def explain(self, record: NeuronRecord) -> tuple[Explanation, ...]:
        if self.text is None:
            raise CannotExplain("no idea")
        return (Explanation(record.neuron_id, self.text, self.name),)


def overlap(explanation: str, token: str) -> float:
    """The simplest idea of meaning: the token is a word of the explanation."""
    return 10.0 * (token in explanation.split())


def solve(
    simulator: Simulator, explainer: Explainer | None = None, puzzle: Puzzle = PUZZLE
) -> PuzzleResult:
    return asyncio.run(solve_puzzle(0, puzzle, simulator, explainer))


def test_a_better_explanation_ranks_before_a_worse_one() -> None:
    result = solve(RuleSimulator(overlap))
    assert result.true.text == PUZZLE.explanation
    assert result.true.score.value == pytest.approx(1, abs=0.01)
    assert result.rank == Rank(1, 2)  # “nothing” has no score: it predicts nothing at all
    assert [text.score.reason for text in result.false] == [None, "constant prediction", None]


def test_a_false_explanation_that_scores_higher_takes_the_first_place() -> None:
    swapped = replace(PUZZLE, explanation="flows Elbe", false_explanations=("Rhine Elbe", "The"))
    assert solve(RuleSimulator(overlap), puzzle=swapped).rank == Rank(2, 2)


def test_a_tie_leaves_the_rank_open() -> None:
    tied = replace(PUZZLE, false_explanations=("Elbe Rhine", "The"))
    result = solve(RuleSimulator(overlap), puzzle=tied)
    assert result.rank == Rank(1, 2)
    assert summarize_puzzles([result]).n_tied == 1


def test_a_simulator_that_ignores_the_explanation_ranks_nothing() -> None:
    result = solve(RuleSimulator(lambda _, token: float(len(token))))
    assert result.rank == Rank(1, 4)
    summary = summarize_puzzles([result])
    assert (summary.n_first, summary.n_first_at_best, summary.n_tied) == (0, 1, 1)
    assert (summary.n_top_two, summary.n_top_two_at_best) == (0, 1)


def test_without_a_score_of_the_true_one_there_is_no_rank() -> None:
    result = solve(RuleSimulator(lambda text, _: None if text == PUZZLE.explanation else 1.0))
    assert result.rank is None
    assert result.true.score.reason is not None
    summary = summarize_puzzles([result])
    assert (summary.n_true_unscored, summary.n_false_unscored, summary.mean_true) == (1, 3, None)
    assert (summary.n_first_at_best, summary.n_top_two_at_best) == (0, 0)


def test_what_an_explainer_found_is_scored_beside_the_true_one() -> None:
    result = solve(RuleSimulator(overlap), OneText("Elbe"))
    assert result.found is not None
    assert (result.found.text, result.reason) == ("Elbe", None)
    assert result.true.score.value is not None and result.found.score.value is not None
    assert 0 < result.found.score.value < result.true.score.value
    summary = summarize_puzzles([result])
    assert (summary.n_found, summary.mean_found) == (1, result.found.score.value)


def test_an_explainer_that_finds_nothing_has_a_reason_and_no_score() -> None:
    result = solve(RuleSimulator(overlap), OneText(None))
    assert (result.found, result.reason) == (None, "no idea")
    summary = summarize_puzzles([result])
    assert (summary.n_found, summary.mean_found) == (0, None)


def test_an_explainer_sees_every_sentence_once_the_most_active_first() -> None:
    record = puzzle_record(3, PUZZLE)
    train = split_records(record, Split.TRAIN, n_per_split=100).top
    assert train == tuple(reversed(PUZZLE.sentences))
    assert record.max_activation == 10
    assert not record.is_dead
    assert record.moments.mean == pytest.approx(1.9)


def test_the_order_of_the_results_is_the_order_of_the_puzzles() -> None:
    puzzles = [replace(PUZZLE, name=str(number)) for number in range(10)]

    async def collect() -> list[str]:
        return [r.name for r in await solve_puzzles(puzzles, RuleSimulator(overlap))]

    assert asyncio.run(collect()) == [puzzle.name for puzzle in puzzles]


@pytest.mark.shared_data
def test_a_simulator_that_predicts_the_truth_ranks_it_first_in_every_published_puzzle(
    shared_data: Path,
) -> None:
    puzzles = read_puzzles(shared_data / "published" / "neuron_puzzles.json")
    results = [solve(TruthSimulator(puzzle), puzzle=puzzle) for puzzle in puzzles]
    summary = summarize_puzzles(results)
    assert (summary.n_puzzles, summary.n_first, summary.n_top_two) == (19, 19, 19)
    assert summary.mean_true == pytest.approx(1)
