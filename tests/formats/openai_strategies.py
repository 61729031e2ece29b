"""Records and JSON at random, by hypothesis; the same ones each time."""

from __future__ import annotations

from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st

from neuron_explainer.published.documents import Content
from neuron_explainer.published.locations import Kind
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import (
    ActivationRecord,
    Moments,
    NeuronId,
    NeuronRecord,
    Stratum,
)
from neuron_explainer.records.published import (
    ABSOLUTE_DEV_AS_FOUND,
    RSQUARED_AS_FOUND,
    Distribution,
    NeuronsByWeight,
    PublishedExplanation,
    PublishedRecord,
    PublishedResults,
    PublishedSimulation,
    PublishedWindow,
    RelatedNeuron,
    RelatedNeurons,
    TokensByActivation,
    TokensByWeight,
    TokenValue,
)
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.score import (
    EXPLAINED_VARIANCE,
    TOP_AND_RANDOM,
    TOP_ONLY,
    Score,
    ScoredSimulation,
    ScoredWindow,
)
from neuron_explainer.records.simulation import SequenceSimulation

T = TypeVar("T")
REPEATABLE = settings(derandomize=True, database=None, deadline=None, max_examples=60)

characters = st.characters(codec="utf-8") | st.sampled_from("\x85\u2028\ufffd\r\n\x1c\x00")
texts = st.text(characters, max_size=4)
numbers = st.floats(allow_nan=False, allow_infinity=False)
values = st.none() | numbers
neuron_ids = st.builds(NeuronId, st.integers(0, 47), st.integers(0, 6399))


def few(items: st.SearchStrategy[T], least: int = 0, most: int = 3) -> st.SearchStrategy[Any]:
    return st.lists(items, min_size=least, max_size=most).map(tuple)


@st.composite
def windows(draw: st.DrawFn) -> ActivationRecord:
    activations = draw(few(values, 1, 4).filter(lambda found: set(found) != {None}))
    return ActivationRecord(draw(few(texts, len(activations), len(activations))), activations)


@st.composite
def published_records(draw: st.DrawFn) -> PublishedRecord:
    bands = draw(few(few(windows(), 0, 2)))
    n_boundaries = len(bands) + 1 if bands else 0
    return PublishedRecord(
        draw(neuron_ids),
        top=draw(few(windows())),
        random=draw(few(windows())),
        bands=bands,
        boundaries=draw(few(values, n_boundaries, n_boundaries)),
        mean=draw(values), variance=draw(values), skewness=draw(values), kurtosis=draw(values),
    )  # fmt: skip


@st.composite
def sequence_simulations(draw: st.DrawFn) -> SequenceSimulation:
    tokens = draw(few(texts))
    expected = draw(few(values, len(tokens), len(tokens)))
    return SequenceSimulation(tokens, expected, draw(st.sampled_from(ActivationScale)))


@st.composite
def distributions(draw: st.DrawFn) -> Distribution:
    of_token = draw(few(values))
    return Distribution(of_token, draw(few(values, len(of_token), len(of_token))))


@st.composite
def published_simulations(draw: st.DrawFn, *, is_whole: bool = True) -> PublishedSimulation:
    predicted = draw(sequence_simulations())
    n_tokens = len(predicted.tokens)
    return PublishedSimulation(
        predicted,
        draw(st.just(()) | few(distributions(), n_tokens, n_tokens)),
        draw(st.none() | published_simulations(is_whole=False)) if is_whole else None,
    )


@st.composite
def published_windows(draw: st.DrawFn) -> PublishedWindow:
    simulation = draw(published_simulations())
    n_tokens = len(simulation.predicted.tokens)
    true = draw(few(values, n_tokens, n_tokens))
    return PublishedWindow(simulation, true, draw(values), draw(values), draw(values))


claims = texts.filter(str.strip)
published_explanations = st.builds(
    PublishedExplanation, claims, few(published_windows(), 0, 2), values, values, values
)
token_values = few(st.builds(TokenValue, texts, values))
related = few(st.builds(RelatedNeuron, neuron_ids, values))
directions = st.none() | st.builds(NeuronsByWeight, related, related)
contents: dict[Kind, st.SearchStrategy[Content]] = {
    Kind.ACTIVATIONS: published_records(),
    Kind.EXPLANATIONS: st.builds(
        PublishedResults, neuron_ids, few(published_explanations, 0, 2)
    ),
    Kind.TOKENS_BY_ACTIVATION: st.builds(TokensByActivation, token_values),
    Kind.TOKENS_BY_WEIGHT: st.builds(
        TokensByWeight, token_values, token_values, token_values, token_values
    ),
    Kind.RELATED_NEURONS: st.builds(RelatedNeurons, directions, directions),
}  # fmt: skip


@st.composite
def neuron_records(draw: st.DrawFn) -> NeuronRecord:
    """Ours: top windows in order, bands side by side."""
    n_bands = draw(st.integers(0, 3))
    edges = [None, *sorted(draw(few(numbers, n_bands, n_bands))), None]
    top = draw(few(windows()))
    return NeuronRecord(
        draw(neuron_ids),
        top=tuple(sorted(top, key=lambda window: -window.max_activation)),
        strata=tuple(
            Stratum(edges[i], edges[i + 1], draw(st.integers(0, 9)), draw(few(windows(), 0, 2)))
            for i in range(n_bands + 1)
        ) if n_bands else (),
        random=draw(few(windows())),
        moments=Moments(draw(st.integers(0, 9)), draw(numbers), draw(numbers), *draw(
            st.tuples(values, values)
        )),
    )  # fmt: skip


scores = st.builds(Score, st.just("metric"), numbers, st.integers(0, 99), values, values) | st.just(
    Score("metric", None, 0, reason="why not")
)


@st.composite
def scored_windows(draw: st.DrawFn, subset: str) -> ScoredWindow:
    simulation = draw(sequence_simulations())
    n_tokens = len(simulation.tokens)
    return ScoredWindow(subset, simulation, draw(few(values, n_tokens, n_tokens)), draw(scores))


@st.composite
def scored_explanations(draw: st.DrawFn) -> tuple[Explanation, ScoredSimulation]:
    """Ours: as many top windows as random ones."""
    n = draw(st.integers(0, 2))
    names = (TOP_AND_RANDOM, TOP_ONLY, EXPLAINED_VARIANCE, RSQUARED_AS_FOUND, ABSOLUTE_DEV_AS_FOUND)
    scored = ScoredSimulation(
        scorer="simulation",
        simulator="all_at_once",
        scores={name: draw(scores) for name in names},
        windows=(
            *draw(few(scored_windows("top"), n, n)), *draw(few(scored_windows("random"), n, n))
        ),
        headline=TOP_AND_RANDOM,
    )  # fmt: skip
    explanation = Explanation(draw(neuron_ids), draw(claims), "summary", draw(st.none() | texts))
    return explanation, scored


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
