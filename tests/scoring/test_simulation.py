"""Score by simulation: held-out windows, one score over all their tokens, reasons for no score."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId, NeuronRecord, Stratum
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.score import Score, ScoredSimulation
from neuron_explainer.records.simulation import SequenceSimulation
from neuron_explainer.records.splits import Split, split_records
from neuron_explainer.scoring.metrics import (
    absolute_dev_explained,
    correlation,
    explained_variance,
)
from neuron_explainer.scoring.simulation import METRIC_BY_NAME, SimulationScorer
from neuron_explainer.simulators.calibration import LinearCalibration
from neuron_explainer.simulators.token_lookup import TokenLookupSimulator
from tests.scoring.builders import (
    FakeSimulator,
    explanation,
    guess,
    lookup_table,
    neuron_record,
    noisy_record,
    pooled,
    score,
    truth,
    window,
)


def assert_no_score(scored: ScoredSimulation, reason: str) -> None:
    assert set(scored.scores) == set(METRIC_BY_NAME)
    assert {s.reason for s in scored.scores.values()} == {reason}
    assert {s.value for s in scored.scores.values()} == {None}


def test_the_truth_scores_one() -> None:
    record = noisy_record()
    scored = score(FakeSimulator(truth(record)), record)
    assert (scored.scorer, scored.simulator, scored.headline) == (
        "simulation",
        "fake",
        "top_and_random",
    )
    assert {name: s.value for name, s in scored.scores.items() if name != "by_chance"} == {
        name: pytest.approx(1) for name in METRIC_BY_NAME if name != "by_chance"
    }
    assert scored.score.n_tokens == 160
    assert scored.score.low == scored.score.high == pytest.approx(1)


def test_each_score_is_that_of_its_windows_tokens_taken_together() -> None:
    record = noisy_record()
    scored = score(FakeSimulator(guess(record)), record)
    for name, subsets in (
        ("top_and_random", ("top", "random")),
        ("top_only", ("top",)),
        ("random_only", ("random",)),
    ):
        found = scored.scores[name]
        assert found.metric == "ev_correlation_score"
        assert found.value == correlation(*pooled(scored, subsets))
        assert found.low is not None and found.high is not None and found.value is not None
        assert found.low < found.value < found.high


def test_each_window_has_the_score_of_its_own_tokens() -> None:
    record = noisy_record()
    scored = score(FakeSimulator(guess(record)), record)
    assert [w.subset for w in scored.windows] == ["top"] * 5 + ["random"] * 5
    for scored_window in scored.windows:
        predicted = [v or 0.0 for v in scored_window.simulation.expected_activations]
        assert scored_window.score.value == correlation(scored_window.true_activations, predicted)


def test_the_score_is_not_the_mean_of_the_windows_scores() -> None:
    record = noisy_record()
    scored = score(FakeSimulator(guess(record)), record)
    mean = np.mean([w.score.value for w in scored.windows if w.score.value is not None])
    assert scored.score.value != pytest.approx(mean, abs=0.01)


def test_the_scored_windows_are_those_of_the_valid_split() -> None:
    record = noisy_record()
    scored = score(FakeSimulator(truth(record)), record)
    valid = split_records(record, Split.VALID)
    assert [w.simulation.tokens for w in scored.windows] == [
        w.tokens for w in (*valid.top, *valid.random)
    ]
    assert [w.true_activations for w in scored.windows] == [
        w.activations for w in (*valid.top, *valid.random)
    ]


def test_no_split_shares_a_window_with_another() -> None:
    record = noisy_record()
    splits = [split_records(record, split) for split in Split]
    shown = [w.tokens for split in splits for w in (*split.top, *split.random)]
    assert len(shown) == len(set(shown)) == 35


def test_only_the_calibration_and_valid_windows_are_simulated() -> None:
    record = noisy_record()
    simulator = FakeSimulator(truth(record))
    score(simulator, record)
    used = (split_records(record, s) for s in (Split.CALIBRATION, Split.VALID))
    expected = [w.tokens for split in used for w in (*split.top, *split.random)]
    assert simulator.seen == expected


def test_calibration_is_fitted_on_its_own_split_alone() -> None:
    record = noisy_record()
    guessed = guess(record)
    scored = score(FakeSimulator(guessed), record)
    calibration = split_records(record, Split.CALIBRATION)
    windows = (*calibration.top, *calibration.random)
    line = LinearCalibration.fit(
        [guessed[token] for w in windows for token in w.tokens],
        [value for w in windows for value in w.activations],
    )
    real, simulated = pooled(scored, ("top", "random"))
    calibrated = line.apply(np.array(simulated))
    for name, metric in (
        ("explained_variance", explained_variance),
        ("absolute_dev_explained_score", absolute_dev_explained),
    ):
        assert scored.scores[name].metric == name
        assert scored.scores[name].value == pytest.approx(metric(real, calibrated))


def test_a_simulation_on_another_scale_gets_the_same_scores() -> None:
    record = noisy_record()
    guessed = guess(record)
    tenfold = {t: 10 * v + 3 for t, v in guessed.items() if v is not None}
    raw = score(FakeSimulator(guessed), record)
    other = score(FakeSimulator(tenfold, scale=ActivationScale.NORMALIZED), record)
    for name in METRIC_BY_NAME:
        assert other.scores[name].value == pytest.approx(raw.scores[name].value, abs=1e-9)


def test_the_order_of_random_windows_within_their_splits_does_not_matter() -> None:
    record = noisy_record()
    simulator = FakeSimulator(guess(record))
    triples = [record.random[i : i + 3] for i in range(0, 15, 3)]
    turned = replace(record, random=tuple(w for triple in triples[::-1] for w in triple))
    before, after = score(simulator, record), score(simulator, turned)
    for name in set(METRIC_BY_NAME) - {"by_chance"}:  # which draws
        assert after.scores[name].value == pytest.approx(before.scores[name].value, rel=1e-12)


def test_the_same_seed_gives_the_same_scores_in_any_order_of_units() -> None:
    units = [noisy_record(neuron_id=NeuronId(0, i)) for i in range(3)]
    scorer = SimulationScorer(FakeSimulator(guess(units[0])))

    async def score_all(records: Sequence[NeuronRecord]) -> dict[NeuronId, ScoredSimulation]:
        return {r.neuron_id: await scorer.score(explanation(), r) for r in records}

    forward = asyncio.run(score_all(units))
    assert forward == asyncio.run(score_all(units[::-1]))
    assert len({scored.score.low for scored in forward.values()}) == 3
    other_seed = score(scorer.simulator, units[0], seed=1).score
    assert other_seed.value == forward[NeuronId(0, 0)].score.value
    assert other_seed.low != forward[NeuronId(0, 0)].score.low


def test_a_dead_unit_has_a_reason_and_costs_no_simulation() -> None:
    silent = [window([-0.1, 0.0, -0.2], f"w{i}") for i in range(20)]
    simulator = FakeSimulator({})
    scored = score(simulator, neuron_record(silent, silent[:15]))
    assert_no_score(scored, "dead unit: never active on the recorded text")
    assert scored.windows == () and simulator.seen == []


def test_a_unit_active_in_a_stratum_alone_is_not_dead() -> None:
    silent = [window([-0.1, 0.0, -0.2], f"w{i}") for i in range(20)]
    active = Stratum(low=0.0, high=None, population=9, records=(window([0.0, 1.0], "s"),))
    record = replace(neuron_record(silent, silent[:15]), strata=(active,))
    assert score(FakeSimulator({"w0.0": 1.0}), record).score.reason != (
        "dead unit: never active on the recorded text"
    )


@pytest.mark.parametrize(
    ("n_top", "n_random", "reason"),
    [
        (18, 15, "too few windows: 4 top and 5 random in the valid split, 5 of each needed"),
        (20, 4, "too few windows: 5 top and 1 random in the valid split, 5 of each needed"),
        (0, 0, "too few windows: 0 top and 0 random in the valid split, 5 of each needed"),
    ],
)
def test_too_few_windows_says_how_many_there_are(n_top: int, n_random: int, reason: str) -> None:
    simulator = FakeSimulator({})
    scored = score(simulator, noisy_record(n_top=n_top, n_random=n_random))
    assert_no_score(scored, reason)
    assert scored.windows == () and simulator.seen == []


def test_fewer_windows_a_split_are_enough_when_asked_for() -> None:
    record = noisy_record(n_top=8, n_random=6)
    scored = score(FakeSimulator(guess(record)), record, n_per_split=2)
    assert scored.score.value is not None and len(scored.windows) == 4


def test_a_constant_prediction_has_no_correlation_but_has_errors() -> None:
    scored = score(FakeSimulator({}), noisy_record())
    for name in ("top_and_random", "top_only", "random_only"):
        assert scored.scores[name] == Score(
            "ev_correlation_score",
            None,
            n_tokens=160 if name == "top_and_random" else 80,
            reason="constant prediction",
        )
    assert {w.score.reason for w in scored.windows} == {"constant prediction"}
    explained = scored.scores["explained_variance"].value
    assert explained is not None and explained == pytest.approx(0, abs=0.05)


def test_windows_where_the_unit_is_silent_have_a_reason_of_their_own() -> None:
    top = [window([0.0, i + 1.0, 2.0, 0.0], f"t{i}") for i in range(20)]
    silent = [window([0.0] * 4, f"r{i}") for i in range(15)]
    record = neuron_record(top, silent)
    scored = score(FakeSimulator(guess(record)), record)
    assert scored.scores["random_only"].reason == "no activations"
    assert [w.score.reason for w in scored.windows] == [None] * 5 + ["no activations"] * 5
    assert scored.score.value is not None


def test_activations_that_do_not_vary_have_a_reason() -> None:
    flat = [window([3.0] * 4, f"w{i}") for i in range(20)]
    record = neuron_record(flat, flat[:15])
    scored = score(FakeSimulator({"w2.0": 1.0}), record)
    assert scored.score.reason == "constant activations"
    assert scored.scores["explained_variance"].reason == "constant activations"


def test_missing_tokens_are_left_out_and_not_zero() -> None:
    record = noisy_record()
    guessed = guess(record)
    valid = split_records(record, Split.VALID)
    missing = {w.tokens[3] for w in (*valid.top, *valid.random)}
    scored = score(FakeSimulator({**guessed, **dict.fromkeys(missing)}), record)
    kept = [
        (real, guessed[token])
        for w in (*valid.top, *valid.random)
        for token, real in zip(w.tokens, w.activations, strict=True)
        if token not in missing
    ]
    assert scored.score.n_tokens == len(kept) == 150
    assert scored.score.value == correlation(*map(list, zip(*kept, strict=True)))


def test_too_many_missing_tokens_are_counted_where_they_are_missing() -> None:
    record = noisy_record()
    top = split_records(record, Split.VALID).top
    missing = {token for w in top for token in w.tokens[:3]}
    simulator = FakeSimulator({**guess(record), **dict.fromkeys(missing)})
    scores = score(simulator, record).scores
    assert scores["top_only"].reason == "too many missing predictions: 15 of 80 scored tokens"
    assert scores["random_only"].value is not None
    assert scores["top_and_random"].value is not None
    strict = score(simulator, record, max_missing_share=0.05).scores
    assert strict["top_and_random"].reason == (
        "too many missing predictions: 15 of 160 scored tokens"
    )


def test_a_window_without_any_prediction_has_no_score_whatever_share_is_allowed() -> None:
    record = noisy_record()
    first = split_records(record, Split.VALID).top[0]
    simulator = FakeSimulator({**guess(record), **dict.fromkeys(first.tokens)})
    scored = score(simulator, record, max_missing_share=1.0)
    assert scored.windows[0].score.reason == (
        "too many missing predictions: 16 of 16 scored tokens"
    )
    assert scored.score.n_tokens == 144


def test_missing_tokens_of_the_calibration_split_leave_the_correlation() -> None:
    record = noisy_record()
    calibration = split_records(record, Split.CALIBRATION)
    missing = {token for w in calibration.top for token in w.tokens}
    scored = score(FakeSimulator({**guess(record), **dict.fromkeys(missing)}), record)
    assert scored.score.value is not None
    assert scored.scores["explained_variance"].reason == (
        "too many missing predictions: 80 of 160 calibration tokens"
    )


def test_an_explanation_the_simulator_cannot_use_is_unscored_with_its_reason() -> None:
    scored = score(TokenLookupSimulator(), noisy_record())
    assert_no_score(scored, "no token lookup table behind the token_lookup explanation")


def test_a_token_lookup_table_is_scored_end_to_end() -> None:
    record = noisy_record()
    exact = score(TokenLookupSimulator(), record, explanation(lookup_table(truth(record))))
    assert exact.simulator == "token_lookup"
    assert exact.score.value == pytest.approx(1)
    unseen = score(TokenLookupSimulator(), record, explanation(lookup_table({}, default=0.3)))
    assert unseen.score.reason == "constant prediction"


def test_an_error_of_the_simulator_ends_the_other_windows() -> None:
    ended: list[str] = []

    class Failing:
        name = "failing"

        async def simulate(
            self, explanation: Explanation, tokens: Sequence[str]
        ) -> SequenceSimulation:
            assert explanation.text
            if not ended:
                ended.append("failed")
                raise RuntimeError("no more money")
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                ended.append(tokens[0])
                raise
            raise AssertionError("never reached")

    async def run() -> None:
        with pytest.raises(RuntimeError, match="no more money"):
            await SimulationScorer(Failing()).score(explanation(), noisy_record())
        await asyncio.sleep(0)

    asyncio.run(run())
    assert len(ended) == 20


def test_a_simulation_of_other_tokens_is_an_error() -> None:
    class Short(FakeSimulator):
        async def simulate(
            self, explanation: Explanation, tokens: Sequence[str]
        ) -> SequenceSimulation:
            return await super().simulate(explanation, tokens[1:])

    with pytest.raises(ValueError, match="15 predictions for a window of 16 tokens"):
        score(Short({}), noisy_record())
