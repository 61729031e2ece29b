"""What a stage of a cascade is expected to gain, learned from pilot units drawn at random.

1. Pilots. The units are cut into equal parts by their score so far (quantiles), and each part gives
   equally many at random. They go through every stage whatever comes of it.
2. A pilot's gain is the score after the stage less the score before it, on the valid split; which
   of the two explanations stands was decided on the calibration split. So it is the true gain
   with noise, and 0 where the stage's explanation did not win.
3. The mean gain over all units is the mean of the parts' means, each with its share of the units,
   with a bootstrap interval from resampling within the parts.
4. The expected gain of a unit by its score so far: pilots are binned by that score, the bins' means
   are drawn towards the common mean by as much as they differ by chance alone, and between the
   bins' centres runs a line. Shrinkage: Efron & Morris 1975, JASA 70:311; variance between bins
   by moments: DerSimonian & Laird 1986, Controlled Clinical Trials 7:177.

Step 4 does not assume that low scores gain most: units that nothing explains gain as little as
those that are explained already. With 20 or 40 pilots and a gain that falls, rises, peaks, steps or
is flat in the score, its squared error was 0.3 to 0.9 times that of an isotonic regression, which
follows single pilots at its ends and knows one direction (`tests/pipeline/test_cascade_gain.py`).

Regression to the mean: the score so far is the best of several, on ten windows, so it flatters.
The gain must not be taken as (new - old) on the calibration split, where units with bad luck seem
to gain most. Here the score so far only says which units are alike, with all its noise, and the
gain is measured on windows that played no part in it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neuron_explainer.records.neuron import NeuronId

N_PARTS = 5
"""At most, of the units by their score so far, and bins of pilots."""
MIN_A_PART = 4
"""Pilots of a part, where there are enough for two parts."""
N_RESAMPLES = 1000

FloatArray = npt.NDArray[np.float64]


class Part(NamedTuple):
    """Units with scores so far in one range, and the pilots drawn from them."""

    n_units: int
    pilots: tuple[NeuronId, ...]


@dataclass(frozen=True, slots=True)
class MeanGain:
    """Of a stage over all units, estimated from the pilots."""

    n_pilots: int
    """That have a gain."""
    mean: float
    low: float | None
    """95 % bootstrap interval, over pilots; None: a part has a single pilot."""
    high: float | None


def draw_pilots(scores: Mapping[NeuronId, float], n_pilots: int, seed: int) -> tuple[Part, ...]:
    """n_pilots: of all together; all units where there are no more. The order of `scores` plays no
    part, and one seed gives the same pilots for the same scores."""
    if not scores:
        return ()
    ranked = sorted(scores, key=lambda i: (scores[i], i))
    n_pilots = min(n_pilots, len(ranked))
    n_parts = _n_parts(n_pilots)
    rng = random.Random(seed)
    parts = []
    for k in range(n_parts):
        units = ranked[len(ranked) * k // n_parts : len(ranked) * (k + 1) // n_parts]
        n_drawn = n_pilots * (k + 1) // n_parts - n_pilots * k // n_parts
        parts.append(Part(len(units), tuple(rng.sample(units, min(n_drawn, len(units))))))
    return tuple(parts)


def mean_gain(parts: Sequence[Part], gains: Mapping[NeuronId, float], seed: int) -> MeanGain | None:
    """gains: of the pilots that have one. None: none has.

    A part without a gain takes no part: the mean is then over the units of the others.
    """
    found = [(part.n_units, [gains[i] for i in part.pilots if i in gains]) for part in parts]
    kept = [(n_units, np.array(values)) for n_units, values in found if values]
    if not kept:
        return None
    shares = np.array([n_units for n_units, _ in kept], dtype=np.float64)
    shares /= shares.sum()
    mean = float(shares @ np.array([values.mean() for _, values in kept]))
    n_pilots = sum(len(values) for _, values in kept)
    if min(len(values) for _, values in kept) < 2:
        return MeanGain(n_pilots, mean, None, None)
    rng = np.random.default_rng(seed)
    resampled = np.zeros(N_RESAMPLES)
    for share, (_, values) in zip(shares, kept, strict=True):
        drawn = rng.integers(len(values), size=(N_RESAMPLES, len(values)))
        resampled += share * values[drawn].mean(axis=1)
    low, high = np.quantile(resampled, (0.025, 0.975))
    return MeanGain(n_pilots, mean, float(low), float(high))


@dataclass(frozen=True, slots=True)
class GainCurve:
    """Expected gain by the score so far: lines between points, and flat beyond them."""

    scores: tuple[float, ...]
    """Ascending; the mean score so far of each bin's pilots."""
    gains: tuple[float, ...]
    """Shrunk mean of each bin's pilots."""

    @classmethod
    def fit(cls, scores: Sequence[float], gains: Sequence[float]) -> GainCurve | None:
        """One entry a pilot. None: no pilot has a gain, and nothing can be expected."""
        if not scores:
            return None
        x, y = np.array(scores, dtype=np.float64), np.array(gains, dtype=np.float64)  # (pilot,)
        bins = np.array_split(np.argsort(x, kind="stable"), _n_parts(len(x)))
        shrunk = shrink([y[members] for members in bins])
        return cls(
            scores=tuple(float(x[members].mean()) for members in bins),
            gains=tuple(shrunk.tolist()),
        )

    def at(self, score: float) -> float:
        return float(np.interp(score, self.scores, self.gains))


def shrink(bins: Sequence[FloatArray]) -> FloatArray:
    """(bin,): means of the bins' values, drawn towards the common mean.

    Each has the variance v = σ²/n by chance, with σ² common to all bins; τ² is what the means vary
    beyond that. A mean keeps τ²/(τ² + v) of its distance.
    """
    sizes = np.array([len(values) for values in bins])
    means: FloatArray = np.array([values.mean() for values in bins])
    n_free = int(sizes.sum()) - len(bins)
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in bins)
    if len(bins) == 1 or n_free == 0 or squares == 0:
        return means
    v = squares / n_free / sizes
    w = 1 / v
    common = (w @ means) / w.sum()
    excess = w @ (means - common) ** 2 - (len(bins) - 1)
    tau2 = max(0.0, excess / (w.sum() - (w @ w) / w.sum()))
    shrunk: FloatArray = common + tau2 / (tau2 + v) * (means - common)
    return shrunk


def _n_parts(n_pilots: int) -> int:
    return max(1, min(N_PARTS, n_pilots // MIN_A_PART))
