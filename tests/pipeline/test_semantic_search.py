"""Semantic search finds the nearest of those that pass, and embeds each explanation once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from neuron_explainer.errors import StoreError, UsageError
from neuron_explainer.llm.embedding import EmbeddingModel
from neuron_explainer.pipeline import semantic_search
from neuron_explainer.pipeline.embedding_models import load_embedding_model
from neuron_explainer.pipeline.semantic_search import SemanticHit, search_semantically
from neuron_explainer.records.listed import ListedExplanation, ListedScore
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.library import Library
from neuron_explainer.stores.library_search import Filters
from tests.tiny_embedding import WORDS, save_tiny_embedding

TEXTS = [f" {a} and {b}" for a in WORDS for b in WORDS]


def listed(texts: list[str], first: int = 0) -> Iterator[ListedExplanation]:
    for unit, text in enumerate(texts, start=first):
        score = (ListedScore(unit / 100),) if unit % 2 else ()
        yield ListedExplanation(NeuronId(unit % 3, unit), text, "abc"[unit % 3], scores=score)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingModel:
    return load_embedding_model(str(save_tiny_embedding(tmp_path_factory.mktemp("model"))))


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library(tmp_path / "library.sqlite") as library:
        library.add(listed(TEXTS))
        yield library


def search(
    library: Library,
    model: EmbeddingModel,
    words: str,
    filters: Filters | None = None,
    limit: int = 10,
) -> tuple[SemanticHit, ...]:
    elsewhere = library.path.parent / "elsewhere"
    return search_semantically(
        library, words, model, filters or Filters(), limit=limit, elsewhere=elsewhere
    )


def passes(explanation: ListedExplanation, filters: Filters) -> bool:
    score = explanation.score
    return (
        filters.layer_index in (None, explanation.neuron_id.layer_index)
        and (filters.min_score is None or (score is not None and score.value >= filters.min_score))
        and filters.source in (None, explanation.source)
    )


def test_what_says_the_same_is_nearest(library: Library, model: EmbeddingModel) -> None:
    for text in TEXTS[::17]:
        (hit, *_) = search(library, model, text.strip())
        assert hit.explanation.text == text
        assert hit.similarity == pytest.approx(1, abs=2e-3)


def test_the_order_is_that_of_the_cosines(library: Library, model: EmbeddingModel) -> None:
    query = model.embed_query("bridges")
    cosines = model.embed_documents([text.strip() for text in TEXTS]) @ query
    hits = search(library, model, "bridges")
    best = np.sort(cosines)[::-1][:10]
    np.testing.assert_allclose([hit.similarity for hit in hits], best, atol=2e-3)


@pytest.mark.parametrize("most_listed", [0, 10_000])
@pytest.mark.parametrize(
    "filters",
    [Filters(layer_index=1), Filters(min_score=0.5), Filters(source="b"), Filters(0, 0.2, "a")],
)
def test_filters_are_exact(
    library: Library,
    model: EmbeddingModel,
    filters: Filters,
    most_listed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(semantic_search, "MOST_LISTED", most_listed)
    everything = search(library, model, "time", limit=len(TEXTS))
    assert len(everything) == len(TEXTS)
    expected = [hit for hit in everything if passes(hit.explanation, filters)]
    assert search(library, model, "time", filters) == tuple(expected[:10])
    assert search(library, model, "time", Filters(layer_index=10**30)) == ()


def test_each_explanation_is_embedded_once(library: Library, model: EmbeddingModel) -> None:
    asked: list[int] = []

    def search_counting() -> None:
        search_semantically(
            library, "time", model, Filters(), limit=3, elsewhere=library.path.parent,
            on_embedded=lambda n, _of: asked.append(n),
        )  # fmt: skip

    search_counting()
    search_counting()
    library.add(listed(["years about years about years"], first=200))
    search_counting()
    assert asked == [len(TEXTS), len(TEXTS) + 1]
    (hit, *_) = search(library, model, "years about years about years")
    assert hit.explanation.neuron_id.neuron_index == 200


def test_a_library_made_anew_has_vectors_of_its_own(tmp_path: Path, model: EmbeddingModel) -> None:
    path = tmp_path / "library.sqlite"
    for text in ("rivers", "time"):
        path.unlink(missing_ok=True)
        with Library(path) as library:
            library.add(listed([text]))
            (hit,) = search(library, model, text)
            assert hit.similarity == pytest.approx(1, abs=2e-3)


def test_what_cannot_be_searched_is_refused(library: Library, model: EmbeddingModel) -> None:
    with pytest.raises(UsageError, match="nothing to search for"):
        search(library, model, " ")
    with pytest.raises(StoreError, match="no source 'z'"):
        search(library, model, "time", Filters(source="z"))
