"""Our records as those of the published dataset, and back; what does not fit is counted.

    ours                                  published
    NeuronRecord.top, random              most_positive_activation_records, random_sample
    Stratum.records                       one list of random_sample_by_quantile
    Stratum.low, and the last one's high  quantile_boundaries, one more than there are lists
    Stratum.population                    -
    Moments, None for a constant unit     mean, variance, skewness, kurtosis, null
    Moments.n_tokens, NeuronRecord.density  -
    Explanation.text                      explanation, as it is
    Explanation.explainer, model, …       -
    ScoredSimulation.scores               top_and_random is ev_correlation_score, RSQUARED_AS_FOUND
                                          and ABSOLUTE_DEV_AS_FOUND are the other two; no others
    ScoredWindow.score, .subset           ev_correlation_score; top windows first, then random ones
    Score.value None, and its reason      null
    Score.n_tokens, low, high             -
    a missing activation or prediction    null
    -                                     distributions, uncalibrated_simulation, the other two
                                          scores of a window

A record of ours that goes there and comes back is equal, given its populations and n_tokens. An
explanation comes back with its text, its windows, and the values of those scores that have a place.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.formats.openai_json import LeftOut, Reading
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import Moments, NeuronId, NeuronRecord, Stratum
from neuron_explainer.records.published import (
    ABSOLUTE_DEV_AS_FOUND,
    RSQUARED_AS_FOUND,
    PublishedExplanation,
    PublishedRecord,
    PublishedSimulation,
    PublishedWindow,
    Values,
)
from neuron_explainer.records.score import (
    TOP_AND_RANDOM,
    Score,
    ScoredSimulation,
    ScoredWindow,
)

PUBLISHED = "published"
"""Explainer and simulator of what was read: the files do not say."""
NOT_IN_FILE = "not in the published file"
FIELD_OF_SCORE = {
    TOP_AND_RANDOM: "ev_correlation_score",
    RSQUARED_AS_FOUND: "rsquared_score",
    ABSOLUTE_DEV_AS_FOUND: "absolute_dev_explained_score",
}
"""Name of a score of ours -> its field, which is its metric's name too."""


def to_published_record(record: NeuronRecord) -> Reading[PublishedRecord]:
    """left_out: populations, n_tokens, density, and the upper end of a band that the next one does
    not begin with."""
    strata, moments = record.strata, record.moments
    gaps = sum(low.high != high.low for low, high in itertools.pairwise(strata))
    published = PublishedRecord(
        neuron_id=record.neuron_id,
        top=record.top,
        random=record.random,
        bands=tuple(stratum.records for stratum in strata),
        boundaries=(*(stratum.low for stratum in strata), strata[-1].high) if strata else (),
        mean=moments.mean,
        variance=moments.variance,
        skewness=moments.skewness,
        kurtosis=moments.kurtosis,
    )
    counts = {
        "Stratum.population": sum(stratum.population is not None for stratum in strata),
        "Stratum.high": gaps,
        "Moments.n_tokens": int(moments.n_tokens is not None),
        "NeuronRecord.density": int(record.density is not None),
    }
    return Reading(published, +Counter(counts))


def from_published_record(
    published: PublishedRecord,
    *,
    n_tokens: int | None = None,
    populations: Sequence[int] | None = None,
) -> Reading[NeuronRecord]:
    """n_tokens, populations: what the files do not say; None: nobody else does.

    Top windows are put in descending order, those out of place counted.
    """
    left_out: LeftOut = Counter()
    top = tuple(sorted(published.top, key=lambda window: -window.max_activation))
    left_out["place of a top window"] = sum(
        a is not b for a, b in zip(top, published.top, strict=True)
    )
    record = NeuronRecord(
        neuron_id=published.neuron_id,
        top=top,
        strata=_strata(published, populations or [None] * len(published.bands)),
        random=published.random,
        moments=Moments(
            n_tokens, published.mean, published.variance, published.skewness, published.kurtosis
        ),
    )
    return Reading(record, +left_out)


def to_published_explanation(
    explanation: Explanation, scored: ScoredSimulation
) -> Reading[PublishedExplanation]:
    """left_out: what made it, its other scores, all intervals and reasons.

    Scores are of the windows' activations as they stand there; those after calibration have no
    place in the format. A Score of any metric is worth its value alone.
    """
    left_out: LeftOut = Counter(
        f"Explanation.{name}"
        for name in ("explainer", "model", "prompt_version", "rule")
        if getattr(explanation, name) is not None
    )
    left_out.update(("ScoredSimulation.scorer", "ScoredSimulation.simulator"))
    left_out.update(f"score {name}" for name in scored.scores if name not in FIELD_OF_SCORE)
    kept = [score for name, score in scored.scores.items() if name in FIELD_OF_SCORE]
    _count_of_scores([*kept, *(window.score for window in scored.windows)], left_out)
    subsets = [window.subset for window in scored.windows]
    n_top = len(subsets) // 2
    left_out["ScoredWindow.subset"] = sum(
        subset != _subset(i, n_top) for i, subset in enumerate(subsets)
    )
    published = PublishedExplanation(
        explanation.text,
        tuple(map(_to_published_window, scored.windows)),
        **{
            field: scored.scores[name].value if name in scored.scores else None
            for name, field in FIELD_OF_SCORE.items()
        },
    )
    return Reading(published, +left_out)


def from_published_explanation(
    published: PublishedExplanation,
    neuron_id: NeuronId,
    *,
    explainer: str = PUBLISHED,
    model: str | None = None,
    simulator: str = PUBLISHED,
    n_top: int | None = None,
) -> Reading[tuple[Explanation, ScoredSimulation]]:
    """explainer, model, simulator: what the files do not say.

    n_top: how many windows are top ones; None: as many as there are random ones, as published,
    and RecordFormatError when there is an odd number. Scores keep the values of the file; their
    n_tokens are the tokens that have both activations; None where there are no windows.
    """
    if n_top is None:
        n_top = count_top(published)
        if n_top is None:
            raise RecordFormatError(
                neuron_id, f"{len(published.windows)} windows cannot be half top, half random ones"
            )
    left_out: LeftOut = Counter()
    for window in published.windows:
        _count_of_window(window, left_out)
    n_tokens = sum(map(_n_tokens, published.windows)) if published.windows else None
    scored = ScoredSimulation(
        scorer="simulation",
        simulator=simulator,
        scores={
            name: _score(field, getattr(published, field), n_tokens)
            for name, field in FIELD_OF_SCORE.items()
        },
        windows=tuple(
            ScoredWindow(
                _subset(i, n_top),
                window.simulation.predicted,
                window.true_activations,
                _score("ev_correlation_score", window.ev_correlation_score, _n_tokens(window)),
            )
            for i, window in enumerate(published.windows)
        ),
        headline=TOP_AND_RANDOM,
    )
    explanation = Explanation(neuron_id, published.text, explainer, model)
    return Reading((explanation, scored), +left_out)


def count_top(published: PublishedExplanation) -> int | None:
    """How many windows, from the first, are top ones: half; None: there is an odd number."""
    n_top, left = divmod(len(published.windows), 2)
    return None if left else n_top


def _strata(published: PublishedRecord, populations: Sequence[int | None]) -> tuple[Stratum, ...]:
    if len(populations) != len(published.bands):
        raise ValueError(f"{len(populations)} populations for {len(published.bands)} bands")
    edges = published.boundaries
    return tuple(
        Stratum(edges[i], edges[i + 1], population, published.bands[i])
        for i, population in enumerate(populations)
    )


def _to_published_window(window: ScoredWindow) -> PublishedWindow:
    simulation = PublishedSimulation(window.simulation)
    return PublishedWindow(simulation, window.true_activations, window.score.value)


def _score(metric: str, value: float | None, n_tokens: int | None) -> Score:
    return Score(metric, value, n_tokens, reason=NOT_IN_FILE if value is None else None)


def _n_tokens(window: PublishedWindow) -> int:
    pairs: Iterable[Values] = zip(
        window.true_activations, window.simulation.predicted.expected_activations, strict=True
    )
    return sum(None not in pair for pair in pairs)


def _subset(number: int, n_top: int) -> str:
    return "top" if number < n_top else "random"


def _count_of_scores(scores: Iterable[Score], left_out: LeftOut) -> None:
    for score in scores:
        left_out["Score.low and high"] += score.low is not None or score.high is not None
        left_out["Score.reason"] += score.reason is not None


def _count_of_window(window: PublishedWindow, left_out: LeftOut) -> None:
    left_out["distributions of a window"] += bool(window.simulation.distributions)
    left_out["uncalibrated_simulation"] += window.simulation.uncalibrated is not None
    left_out["rsquared_score of a window"] += window.rsquared_score is not None
    left_out["absolute_dev_explained_score of a window"] += (
        window.absolute_dev_explained_score is not None
    )
