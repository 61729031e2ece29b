"""Pilots stand for all units, and what is learned from them comes near to what is true."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import isotonic_regression

from neuron_explainer.pipeline.cascade_gain import (
    GainCurve,
    Part,
    draw_pilots,
    mean_gain,
    shrink,
)
from neuron_explainer.records.neuron import NeuronId

FloatArray = npt.NDArray[np.float64]
SHAPES: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    "falls": lambda x: 0.3 * (1 - x),
    "flat": lambda x: 0 * x + 0.1,
    "peaks": lambda x: 0.3 * np.exp(-(((x - 0.5) / 0.15) ** 2)),
    "steps": lambda x: 0.25 * (x < 0.3),
    "rises": lambda x: 0.2 * x,
    "nothing": lambda x: 0 * x,
}
SCORES = {NeuronId(i % 3, i): ((i * 37) % 101) / 101 for i in range(101)}


def pilots_of(parts: tuple[Part, ...]) -> list[NeuronId]:
    return [neuron_id for part in parts for neuron_id in part.pilots]


@pytest.mark.parametrize("n_pilots", [1, 7, 20, 40, 101, 500])
def test_pilots_are_as_many_as_asked_each_once_and_spread_over_the_scores(n_pilots: int) -> None:
    parts = draw_pilots(SCORES, n_pilots, seed=3)
    pilots = pilots_of(parts)
    assert len(pilots) == len(set(pilots)) == min(n_pilots, len(SCORES))
    assert sum(part.n_units for part in parts) == len(SCORES)
    sizes = [len(part.pilots) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    if n_pilots >= 20:
        for k in range(5):
            of_fifth = [i for i in pilots if k / 5 <= SCORES[i] < (k + 1) / 5]
            assert of_fifth


def test_pilots_depend_on_the_seed_and_the_scores_alone() -> None:
    backwards = dict(reversed(SCORES.items()))
    assert draw_pilots(SCORES, 20, seed=1) == draw_pilots(backwards, 20, seed=1)
    assert draw_pilots(SCORES, 20, seed=1) != draw_pilots(SCORES, 20, seed=2)
    assert draw_pilots({}, 20, seed=1) == ()


def test_the_pilots_mean_gain_is_unbiased_and_its_interval_mostly_holds_the_truth() -> None:
    rng = np.random.default_rng(0)
    truth = {i: 0.3 * (1 - score) for i, score in SCORES.items()}
    mean = np.mean(list(truth.values()))
    estimates, n_held = [], 0
    for seed in range(200):
        parts = draw_pilots(SCORES, 25, seed)
        noisy = {i: truth[i] + rng.normal(0, 0.1) for i in pilots_of(parts)}
        found = mean_gain(parts, noisy, seed)
        assert found is not None and found.low is not None and found.high is not None
        assert found.n_pilots == 25
        estimates.append(found.mean)
        n_held += found.low <= mean <= found.high
    assert np.mean(estimates) == pytest.approx(mean, abs=3 * np.std(estimates) / 200**0.5)
    assert n_held >= 0.85 * 200  # a percentile interval of five a part is somewhat narrow


def test_gains_weigh_as_the_units_that_their_part_stands_for() -> None:
    ids = [NeuronId(0, i) for i in range(4)]
    parts = (Part(30, (ids[0], ids[1])), Part(10, (ids[2], ids[3])))
    found = mean_gain(parts, {ids[0]: 0.0, ids[1]: 0.2, ids[2]: 0.5, ids[3]: 0.5}, seed=0)
    assert found is not None
    assert found.mean == pytest.approx(0.75 * 0.1 + 0.25 * 0.5)


def test_a_pilot_without_a_gain_is_no_zero() -> None:
    parts = (Part(10, (NeuronId(0, 0), NeuronId(0, 1), NeuronId(0, 2))),)
    found = mean_gain(parts, {NeuronId(0, 0): 0.4, NeuronId(0, 1): 0.2}, seed=0)
    assert found is not None
    assert (found.n_pilots, found.mean) == (2, pytest.approx(0.3))
    alone = mean_gain(parts, {NeuronId(0, 0): 0.4}, seed=0)
    assert alone is not None
    assert (alone.mean, alone.low, alone.high) == (0.4, None, None)
    assert mean_gain(parts, {}, seed=0) is None


def drawn_gains(shape: str, n: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """(pilot,) scores so far and gains: half of them 0, as where the stage does not win; the others
    so that the mean is the shape's."""
    x = rng.beta(2, 2, n)
    gains = np.where(rng.random(n) < 0.5, 0, 2 * SHAPES[shape](x) + rng.normal(0, 0.15, n))
    return x, gains


def errors(shape: str, n: int) -> dict[str, float]:
    """Mean squared error of the curve, and of isotonic regression, over scores as they come."""
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {"curve": [], "isotonic": []}
    for _ in range(100):
        x, gains = drawn_gains(shape, n, rng)
        asked = rng.beta(2, 2, 200)
        curve = GainCurve.fit(x.tolist(), gains.tolist())
        assert curve is not None
        order = np.argsort(x)
        falling = isotonic_regression(gains[order], increasing=False).x
        guesses = {
            "curve": np.array([curve.at(score) for score in asked]),
            "isotonic": np.interp(asked, x[order], falling),
        }
        for name, guess in guesses.items():
            found[name].append(float(((guess - SHAPES[shape](asked)) ** 2).mean()))
    return {name: float(np.mean(values)) for name, values in found.items()}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_curve_is_nearer_to_the_truth_than_an_isotonic_regression(shape: str) -> None:
    for n in (20, 40):
        found = errors(shape, n)
        assert found["curve"] < found["isotonic"]
    assert found["curve"] < 0.1**2


def test_many_pilots_find_the_shape() -> None:
    rng = np.random.default_rng(1)
    for shape in ("falls", "rises", "peaks"):
        curve = GainCurve.fit(*(a.tolist() for a in drawn_gains(shape, 4000, rng)))
        assert curve is not None
        found = np.array([curve.at(score) for score in curve.scores])
        np.testing.assert_allclose(found, SHAPES[shape](np.array(curve.scores)), atol=0.06)


def test_means_that_differ_by_chance_alone_are_drawn_together() -> None:
    rng = np.random.default_rng(0)
    spreads = []
    for _ in range(100):
        bins = [rng.normal(0.1, 0.2, 6) for _ in range(5)]
        means = np.array([values.mean() for values in bins])
        spreads.append((shrink(bins).var(), means.var()))
        apart = [values + 3 * k for k, values in enumerate(bins)]
        np.testing.assert_allclose(shrink(apart), means + 3 * np.arange(5), atol=0.05)
    shrunk, plain = np.mean(spreads, axis=0)
    assert shrunk < 0.4 * plain


def test_without_noise_nothing_is_drawn_together() -> None:
    bins = [np.full(4, 0.3), np.full(4, 0.0)]
    assert shrink(bins).tolist() == [0.3, 0.0]


def test_beyond_the_pilots_the_curve_is_flat_and_without_pilots_there_is_none() -> None:
    curve = GainCurve.fit([0.2] * 4 + [0.6] * 4, [0.3] * 4 + [0.1] * 4)
    assert curve is not None
    assert [curve.at(x) for x in (-1, 0.2, 0.4, 0.6, 1)] == pytest.approx([0.3, 0.3, 0.2, 0.1, 0.1])
    assert GainCurve.fit([], []) is None
