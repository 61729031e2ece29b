"""Search of a library by meaning: the explanations whose vectors are nearest to the query's.

    LIBRARY.vectors/{library's name}-{model's fingerprint}/   stores/vectors.py

The vectors lie beside the library and grow with it: each explanation is embedded once by each
model. Filters are exact: the nearest of those that pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuron_explainer.errors import UsageError
from neuron_explainer.llm.embedding import EmbeddingModel
from neuron_explainer.records.listed import ListedExplanation
from neuron_explainer.stores.library import Library
from neuron_explainer.stores.library_search import Filters
from neuron_explainer.stores.sqlite_file import is_writable
from neuron_explainer.stores.vectors import Near, Vectors

TEXTS_AT_ONCE = 4096
"""Embedded, then on disk: so many are lost at the most when the process ends."""
MOST_LISTED = 10_000
"""Explanations that pass a filter, to be looked at one by one."""
NEAR_AT_ONCE = 256
"""Looked up at a time, where more pass."""
OnEmbedded = Callable[[int, int], None]
"""Is told how many explanations have a vector, and how many there are."""


class SemanticHit(NamedTuple):
    """One of the nearest."""

    explanation: ListedExplanation
    similarity: float
    """Cosine of the explanation's vector and the query's."""


def search_semantically(
    library: Library,
    words: str,
    model: EmbeddingModel,
    filters: Filters,
    *,
    limit: int,
    elsewhere: Path,
    on_embedded: OnEmbedded = lambda _n, _of: None,
) -> tuple[SemanticHit, ...]:
    """Nearest first. elsewhere: a folder for the vectors where they cannot be beside the library.

    UsageError for a query without a word, StoreError for a source that the library does not have.
    """
    if not words.strip():
        raise UsageError("nothing to search for; give some words")
    library.passing(filters, most=0)  # a source that is not there is said before the work
    vectors = update_vectors(library, model, elsewhere=elsewhere, on_embedded=on_embedded)
    return find_nearest(library, vectors, model.embed_query(words), filters, limit=limit)


def find_nearest(
    library: Library,
    vectors: Vectors,
    query: NDArray[np.float32],
    filters: Filters,
    *,
    limit: int,
) -> tuple[SemanticHit, ...]:
    """Nearest first. Few that pass are listed, and ranked alone; of many, all are ranked, and those
    that do not pass are passed over."""
    among = library.passing(filters, most=MOST_LISTED)
    ranked = vectors.ranked(query, among)
    if among is None and filters != Filters():
        ranked = _that_pass(library, filters, ranked)
    near = list(islice(ranked, limit))
    listed = library.read([one.id for one in near])
    return tuple(SemanticHit(e, n.cosine) for e, n in zip(listed, near, strict=True))


def _that_pass(library: Library, filters: Filters, ranked: Iterator[Near]) -> Iterator[Near]:
    while batch := list(islice(ranked, NEAR_AT_ONCE)):
        passing = library.that_pass(filters, [one.id for one in batch])
        yield from (one for one in batch if one.id in passing)


def update_vectors(
    library: Library,
    model: EmbeddingModel,
    *,
    elsewhere: Path,
    on_embedded: OnEmbedded = lambda _n, _of: None,
) -> Vectors:
    """All vectors of the library's explanations by now; those that are not there yet are made."""
    beside = library.path.with_name(f"{library.path.name}.vectors")
    folder = beside if is_writable(beside) else elsewhere / "vectors"
    vectors = Vectors(folder / f"{library.name}-{model.fingerprint()}")
    texts = library.texts(vectors.last_id)
    while batch := list(islice(texts, TEXTS_AT_ONCE)):
        ids = [explanation_id for explanation_id, _ in batch]
        vectors.add(ids, model.embed_documents([text.strip() for _, text in batch]))
        on_embedded(len(vectors), library.last_id)
    return vectors
