"""Our records as published ones and back: equal as far as the format goes, the rest counted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.formats.openai import read_record, write_record
from neuron_explainer.formats.openai_mapping import (
    FIELD_OF_SCORE,
    NOT_IN_FILE,
    from_published_explanation,
    from_published_record,
    to_published_explanation,
    to_published_record,
)
from neuron_explainer.formats.openai_results import read_results, write_results
from neuron_explainer.published.locations import Kind
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import Moments, NeuronRecord, Stratum
from neuron_explainer.records.published import PublishedResults
from neuron_explainer.records.score import TOP_AND_RANDOM, TOP_ONLY, Score, ScoredSimulation
from tests.formats.openai_documents import plain_record, plain_results, read
from tests.formats.openai_schema import assert_loadable
from tests.formats.openai_strategies import REPEATABLE, neuron_records, scored_explanations
from tests.scoring.builders import NEURON_ID, window

RECORD = NeuronRecord(
    NEURON_ID,
    top=(window([3, 9]), window([8.5])),
    strata=(Stratum(None, 1.5, 40, (window([1]),)), Stratum(1.5, None, 2, ())),
    random=(window([0, -0.1]),),
    moments=Moments(n_tokens=1000, mean=0.1, variance=0.5, skewness=None, kurtosis=None),
)


@REPEATABLE
@given(record=neuron_records())
def test_a_record_of_ours_comes_back_equal(record: NeuronRecord) -> None:
    written = write_record(to_published_record(record).value)
    assert_loadable(written.document)
    published = read_record(written.document, "here").value
    reading = from_published_record(
        published,
        n_tokens=record.moments.n_tokens,
        populations=[stratum.population for stratum in record.strata],
    )
    assert reading.value == record
    assert reading.left_out == {}


def test_what_the_format_cannot_hold_of_a_record_is_counted() -> None:
    assert to_published_record(RECORD).left_out == {
        "Stratum.population": 2, "Moments.n_tokens": 1
    }  # fmt: skip
    gap = replace(RECORD, strata=(replace(RECORD.strata[0], high=1.25), RECORD.strata[1]))
    assert to_published_record(gap).left_out["Stratum.high"] == 1


def test_what_a_file_does_not_say_is_not_said() -> None:
    reading = from_published_record(to_published_record(RECORD).value)
    assert reading.value == replace(
        RECORD,
        strata=tuple(replace(stratum, population=None) for stratum in RECORD.strata),
        moments=replace(RECORD.moments, n_tokens=None),
    )
    assert reading.left_out == {}


def test_as_many_populations_as_bands_are_demanded() -> None:
    published = to_published_record(RECORD).value
    with pytest.raises(ValueError, match="1 populations for 2 bands"):
        from_published_record(published, n_tokens=1000, populations=[7])


def test_top_windows_are_put_in_order_and_counted() -> None:
    published = to_published_record(RECORD).value
    turned = replace(published, top=published.top[::-1])
    reading = from_published_record(turned, n_tokens=1000, populations=[40, 2])
    assert reading.value == RECORD
    assert reading.left_out == {"place of a top window": 2}


def test_a_record_without_a_variance_comes_without_one() -> None:
    published = read(Kind.ACTIVATIONS, plain_record() | {"variance": None}).value
    assert from_published_record(published).value.moments.variance is None


@REPEATABLE
@given(ours=scored_explanations())
def test_an_explanation_of_ours_comes_back_in_all_that_the_format_holds(
    ours: tuple[Explanation, ScoredSimulation],
) -> None:
    explanation, scored = ours
    published = to_published_explanation(explanation, scored).value
    written = write_results(PublishedResults(explanation.neuron_id, (published,)))
    assert_loadable(written.document)
    (back,) = read_results(written.document, "here").value.explanations
    reading = from_published_explanation(
        back,
        explanation.neuron_id,
        explainer=explanation.explainer,
        model=explanation.model,
        simulator=scored.simulator,
    )
    found, rescored = reading.value
    assert found == explanation
    assert {name: score.value for name, score in rescored.scores.items()} == {
        name: scored.scores[name].value for name in FIELD_OF_SCORE
    }
    for window_found, window_ours in zip(rescored.windows, scored.windows, strict=True):
        assert window_found.subset == window_ours.subset
        assert window_found.simulation == window_ours.simulation
        assert window_found.true_activations == window_ours.true_activations
        assert window_found.score.value == window_ours.score.value
    assert (rescored.scorer, rescored.simulator) == (scored.scorer, scored.simulator)
    assert rescored.headline == scored.headline
    assert reading.left_out == {}


def published_explanation(n_windows: int = 10) -> tuple[Explanation, ScoredSimulation]:
    (explanation,) = read(Kind.EXPLANATIONS, plain_results()).value.explanations
    explanation = replace(explanation, windows=explanation.windows[:n_windows])
    return from_published_explanation(explanation, NEURON_ID).value


def test_a_published_explanation_becomes_ours() -> None:
    explanation, scored = published_explanation()
    assert explanation == Explanation(NEURON_ID, " numbers below ten.", "published")
    assert scored.score.value == 0.75
    assert scored.score.metric == "ev_correlation_score"
    assert [window.subset for window in scored.windows] == ["top"] * 5 + ["random"] * 5
    assert scored.windows[0].score.n_tokens == 3
    assert scored.scores[TOP_AND_RANDOM].n_tokens == 30


def test_over_how_many_tokens_a_score_without_windows_is_is_not_said() -> None:
    _, scored = published_explanation(n_windows=0)
    assert scored.score == Score("ev_correlation_score", 0.75, None)


def test_a_score_that_is_null_has_a_reason() -> None:
    _, scored = published_explanation()
    score = scored.scores["absolute_dev_explained_as_found"]
    assert (score.value, score.reason) == (None, NOT_IN_FILE)


def test_what_our_records_cannot_hold_of_an_explanation_is_counted() -> None:
    (explanation,) = read(Kind.EXPLANATIONS, plain_results()).value.explanations
    assert from_published_explanation(explanation, NEURON_ID).left_out == {
        "distributions of a window": 10,
        "rsquared_score of a window": 10,
        "absolute_dev_explained_score of a window": 10,
    }


def test_an_odd_number_of_windows_cannot_be_halved() -> None:
    with pytest.raises(RecordFormatError, match="9 windows cannot be half top"):
        published_explanation(n_windows=9)
    (explanation,) = read(Kind.EXPLANATIONS, plain_results()).value.explanations
    _, scored = from_published_explanation(explanation, NEURON_ID, n_top=1).value
    assert [window.subset for window in scored.windows] == ["top"] + ["random"] * 9


def test_what_the_format_cannot_hold_of_an_explanation_is_counted() -> None:
    explanation, scored = published_explanation()
    windows = (replace(scored.windows[0], subset="random"), *scored.windows[1:])
    scores = {**scored.scores, TOP_ONLY: scored.score}
    reading = to_published_explanation(explanation, replace(scored, windows=windows, scores=scores))
    assert reading.left_out == {
        "Explanation.explainer": 1, "ScoredSimulation.scorer": 1, "ScoredSimulation.simulator": 1,
        "score top_only": 1, "Score.reason": 1, "ScoredWindow.subset": 1,
    }  # fmt: skip
