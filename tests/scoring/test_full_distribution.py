"""What a score is on the whole record text, and what it is by chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neuron_explainer.records.neuron import Stratum
from neuron_explainer.records.score import Score, ScoredSimulation
from neuron_explainer.scoring.metrics import correlation
from tests.scoring.builders import (
    FakeSimulator,
    guess,
    neuron_record,
    noisy_record,
    pooled,
    score,
    truth,
    window,
)


def populations(*counts: int) -> tuple[Stratum, ...]:
    return tuple(Stratum(None, None, n, ()) for n in counts)


def turn_round(scored: ScoredSimulation, rng: np.random.Generator) -> ScoredSimulation:
    """Each window's simulation by a random number of tokens, at least one."""
    windows = []
    for w in scored.windows:
        values = w.simulation.expected_activations
        k = int(rng.integers(1, len(values)))
        turned = replace(w.simulation, expected_activations=values[k:] + values[:k])
        windows.append(replace(w, simulation=turned))
    return replace(scored, windows=tuple(windows))


@pytest.mark.parametrize(("n_top", "n_others"), [(20, 35), (30, 1000), (20, 100_000)])
def test_the_full_distribution_equals_each_window_written_out_as_often_as_it_stands(
    n_top: int, n_others: int
) -> None:
    record = replace(noisy_record(n_top), strata=populations(n_others - 5, 5))
    scored = score(FakeSimulator(guess(record)), record)
    often = {"top": n_top // 5, "random": n_others // 5}
    written_out = [w for w in scored.windows for _ in range(often[w.subset])]
    found = scored.scores["full_distribution"]
    assert found.n_tokens == 160
    assert found.value == pytest.approx(
        correlation(*pooled(replace(scored, windows=tuple(written_out)), ("top", "random"))),
        abs=1e-12,
    )
    assert found.value is not None and found.low is not None and found.high is not None
    assert found.low < found.value < found.high
    random_only = scored.scores["random_only"].value
    if n_others == 100_000:
        assert found.value == pytest.approx(random_only, abs=0.01)


def test_windows_that_all_stand_for_as_many_have_the_plain_score_and_interval() -> None:
    record = replace(noisy_record(n_top=20), strata=populations(15, 5))
    scored = score(FakeSimulator(guess(record)), record)
    full, plain = scored.scores["full_distribution"], scored.score
    assert (full.value, full.low, full.high) == pytest.approx((plain.value, plain.low, plain.high))


def test_an_explanation_that_is_too_broad_loses_in_the_full_distribution_alone() -> None:
    top = [window([0.0, 5.0 + i, 0.0, 0.0], f"t{i}") for i in range(20)]
    record = neuron_record(top, [window([0.0] * 4, f"r{i}") for i in range(15)], n_others=10_000)
    exact = truth(record)
    broad = {**exact, "r4.1": 5.0}
    narrow_scores, broad_scores = (score(FakeSimulator(p), record).scores for p in (exact, broad))
    for name, least_loss in (("top_and_random", 0.0), ("full_distribution", 0.5)):
        before, after = narrow_scores[name].value, broad_scores[name].value
        assert before is not None and after is not None
        assert before - after > least_loss
    assert broad_scores["top_and_random"].value > 0.85


@pytest.mark.parametrize("strata", [(), (Stratum(None, None, None, ()),)])
def test_records_without_populations_have_no_full_distribution(strata: tuple[Stratum, ...]) -> None:
    record = replace(noisy_record(), strata=strata)
    scored = score(FakeSimulator(guess(record)), record)
    assert scored.scores["full_distribution"] == Score(
        "ev_correlation_score", None, n_tokens=0, reason="populations not on record"
    )
    assert scored.score.value is not None


def test_chance_is_the_score_of_simulations_that_are_turned_round() -> None:
    record = noisy_record()
    simulator = FakeSimulator(guess(record))
    first, again = (score(simulator, record).scores["by_chance"] for _ in range(2))
    assert first == again
    scored = score(simulator, record)
    turned = [
        correlation(*pooled(turn_round(scored, np.random.default_rng(seed)), ("top", "random")))
        for seed in range(300)
    ]
    assert first.value == pytest.approx(np.mean(turned), abs=0.02)
    assert (first.low, first.high) == pytest.approx(np.quantile(turned, [0.025, 0.975]), abs=0.06)
    assert first.high is not None and scored.score.value is not None
    assert first.high < scored.score.value
