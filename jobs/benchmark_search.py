"""How quickly a library of explanations is searched, by kind of query.

    python jobs/benchmark_search.py                         307,200 made-up explanations
    python jobs/benchmark_search.py --lists a.csv b.json    texts made of the ones in these files
    python jobs/benchmark_search.py --json                  {"n_rows", "median_ms": {...}, ...}

Semantic search is timed without its model: the vectors are made up, of DIMENSION numbers each. The
model's own share of a query is timed apart, with one of all-MiniLM-L6-v2's size.
Every made explanation takes one or two clauses of real or made-up ones, so that words are as
common as they are there. The published dataset has 307,200 explanations.
"""

from __future__ import annotations

import json
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from transformers import BertConfig, BertModel

from neuron_explainer.formats.tables import read_table
from neuron_explainer.pipeline.semantic_search import find_nearest
from neuron_explainer.records.listed import ListedExplanation, ListedScore
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.library import Library
from neuron_explainer.stores.library_search import Filters
from neuron_explainer.stores.vectors import Vectors

NEURONS_A_LAYER = 6400
STARTS = ("words related to", "phrases related to", "words and phrases about", "references to",
          "instances of the word", "names of")  # fmt: skip
SOURCES = ("published", "own")
QUERIES_A_KIND = 12
DIMENSION, VECTORS_AT_ONCE, N_NEAREST = 384, 4096, 20
QUERY_TOKENS = 8
ListsOption = Annotated[
    list[Path] | None,
    typer.Option("--lists", exists=True, dir_okay=False, help="Tables of explanations."),
]


def main(
    n_rows: Annotated[int, typer.Option(help="Explanations in the library.")] = 307_200,
    lists: ListsOption = None,
    n_rounds: Annotated[int, typer.Option(help="Times each query is asked.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the made explanations.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Milliseconds a query, median and worst, and the time to fill the library."""
    rng = random.Random(seed)
    texts = read_texts(lists) if lists else made_texts(rng)
    with TemporaryDirectory() as folder:
        answer = measure(Path(folder) / "library.sqlite", texts, n_rows, n_rounds, rng)
    if as_json:
        print(json.dumps(answer))
    else:
        print_table(answer)


def measure(
    path: Path, texts: Sequence[str], n_rows: int, n_rounds: int, rng: random.Random
) -> dict[str, Any]:
    """Fills a library and asks it every kind of query."""
    vectors = Vectors(path.with_suffix(".vectors"))
    drawn = np.random.default_rng(rng.getrandbits(32))
    with Library(path) as library:
        started_s = time.perf_counter()
        added = library.add(made_explanations(texts, n_rows, rng))
        fill_s = time.perf_counter() - started_s
        for first in range(1, added.n_added + 1, VECTORS_AT_ONCE):
            n_vectors = min(VECTORS_AT_ONCE, added.n_added + 1 - first)
            vectors.add(range(first, first + n_vectors), unit_vectors(n_vectors, drawn))
        queries = all_queries(library, texts, n_rows, rng)
        queries |= semantic_queries(library, vectors, drawn)
        times_ms = {
            kind: [time_ms(query) for _ in range(n_rounds) for query in of_kind]
            for kind, of_kind in queries.items()
        }
    return {
        "n_rows": added.n_added,
        "fill_s": round(fill_s, 2),
        "size_mb": round(path.stat().st_size / 1e6, 1),
        "query_embedding_ms": round(embedding_ms(n_rounds), 2),
        "median_ms": {k: round(statistics.median(times), 2) for k, times in times_ms.items()},
        "worst_ms": {kind: round(max(times), 2) for kind, times in times_ms.items()},
    }


def all_queries(
    library: Library, texts: Sequence[str], n_rows: int, rng: random.Random
) -> dict[str, list[Callable[[], object]]]:
    """By kind, with words as common as the kind says."""
    counts = Counter(word for text in texts for word in set(re.findall(r"[a-z]{3,}", text.lower())))
    by_count = [word for word, _ in counts.most_common()]
    common, rare = by_count[:QUERIES_A_KIND], by_count[len(by_count) // 2 :]
    middle = by_count[len(common) : max(200, 3 * QUERIES_A_KIND)] or by_count

    def some(words: Sequence[str], n: int) -> list[str]:
        return [" ".join(rng.choices(words, k=n)) for _ in range(QUERIES_A_KIND)]

    def phrases() -> Iterator[str]:
        for words in (text.split() for text in rng.choices(texts, k=QUERIES_A_KIND)):
            yield f'"{" ".join(words[:3])}"'

    searches: dict[str, tuple[Sequence[str], dict[str, Any]]] = {
        "rare word": (some(rare, 1), {}),
        "word": (some(middle, 1), {}),
        "commonest word": (common, {}),
        "three words": (some(middle, 3), {}),
        "ten words": (some(by_count, 10), {}),
        "three of the commonest": (some(common, 3), {}),
        "phrase": ([*phrases()], {}),
        "phrase of the commonest": (['"words related to"', '"of the"', '"related to"'], {}),
        "nothing found": (["xyzzy", "qqq zzz", '"no such phrase xyzzy"'], {}),
        "word, layer and score": (some(middle, 1), {"layer_index": 3, "min_score": 0.5}),
        "commonest, layer": (common, {"layer_index": (n_rows - 1) // NEURONS_A_LAYER}),
        "commonest, high score": (common, {"min_score": 0.99}),
        "commonest, layer, score, source": (
            common, {"layer_index": 0, "min_score": 0.9, "source": SOURCES[1]},
        ),
    }  # fmt: skip
    queries: dict[str, list[Callable[[], object]]] = {
        kind: [bind_search(library, words, filters) for words in queries]
        for kind, (queries, filters) in searches.items()
    }
    units = [rng.randrange(n_rows) for _ in range(QUERIES_A_KIND)]
    queries["one unit"] = [bind_unit(library, unit_id(number)) for number in units]
    return queries


def semantic_queries(
    library: Library, vectors: Vectors, drawn: np.random.Generator
) -> dict[str, list[Callable[[], object]]]:
    def bind(query: NDArray[np.float32], filters: Filters) -> Callable[[], object]:
        def search() -> object:
            return find_nearest(library, vectors, query, filters, limit=N_NEAREST)

        return search

    kinds = {
        "semantic": Filters(),
        "semantic, layer": Filters(layer_index=0),
        "semantic, score": Filters(min_score=0.3),
        "semantic, high score": Filters(min_score=0.95),
        "semantic, source": Filters(source=SOURCES[1]),
        "semantic, layer, score, source": Filters(0, 0.3, SOURCES[1]),
    }
    return {
        kind: [bind(query, filters) for query in unit_vectors(QUERIES_A_KIND, drawn)]
        for kind, filters in kinds.items()
    }


def embedding_ms(n_rounds: int) -> float:
    """Median time that an untrained encoder takes to read one query."""
    shape = BertConfig(
        hidden_size=DIMENSION, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    encoder = BertModel(shape).eval()
    tokens = torch.arange(1000, 1000 + QUERY_TOKENS)[None]  # (1, token)
    with torch.inference_mode():
        encoder(input_ids=tokens)
        return statistics.median(
            time_ms(lambda: encoder(input_ids=tokens)) for _ in range(n_rounds)
        )


def unit_vectors(n_vectors: int, drawn: np.random.Generator) -> NDArray[np.float32]:
    """(vector, DIMENSION), each of length 1."""
    made = drawn.standard_normal((n_vectors, DIMENSION), dtype=np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


def bind_search(library: Library, words: str, filters: dict[str, Any]) -> Callable[[], object]:
    return lambda: library.search(words, **filters)


def bind_unit(library: Library, neuron_id: NeuronId) -> Callable[[], object]:
    return lambda: library.of_unit(neuron_id)


def time_ms(query: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    query()
    return (time.perf_counter() - started_s) * 1000


def read_texts(lists: Sequence[Path]) -> list[str]:
    """Of every explanation in the files."""
    left_out: Counter[str] = Counter()
    return [explanation.text for path in lists for explanation in read_table(path, left_out)]


def made_texts(rng: random.Random, n_texts: int = 20_000, n_words: int = 12_000) -> list[str]:
    """Of made-up words, the n-th commonest in a share of 1/n of the places (Zipf's law)."""
    words = [
        "".join(rng.choices("bdfgklmnprst", k=2)) + "aeiou"[n % 5] + str(n) for n in range(n_words)
    ]
    words = [re.sub(r"\d", lambda digit: "aeioubdfgk"[int(digit[0])], word) for word in words]
    weights = [1 / (rank + 20) for rank in range(n_words)]
    return [
        f" {rng.choice(STARTS)} {a} and {b}, {c} or {d}."
        for a, b, c, d in (rng.choices(words, weights, k=4) for _ in range(n_texts))
    ]


def made_explanations(
    texts: Sequence[str], n_rows: int, rng: random.Random
) -> Iterator[ListedExplanation]:
    """One a unit; a third are the real ones, the others a clause of one and the rest of another."""
    for number in range(n_rows):
        text = rng.choice(texts)
        if rng.random() > 1 / 3:
            text = f"{text.partition(',')[0].rstrip('. ')}, {rng.choice(texts).strip()}"
        source = SOURCES[rng.random() < 0.1]
        score = ListedScore(rng.betavariate(1.5, 3), "ev_correlation_score")
        yield ListedExplanation(unit_id(number), text, source, "gpt2-xl", scores=(score,))


def unit_id(number: int) -> NeuronId:
    return NeuronId(*divmod(number, NEURONS_A_LAYER))


def print_table(answer: dict[str, Any]) -> None:
    title = (
        f"{answer['n_rows']:,} explanations, {answer['size_mb']} MB, filled in {answer['fill_s']} s"
    )
    table = Table("query", "median ms", "worst ms", title=title)
    for kind, median_ms in answer["median_ms"].items():
        table.add_row(kind, f"{median_ms:.2f}", f"{answer['worst_ms'][kind]:.2f}")
    Console().print(table)
    Console().print(f"semantic: and {answer['query_embedding_ms']} ms to embed the query")


if __name__ == "__main__":
    typer.run(main)
