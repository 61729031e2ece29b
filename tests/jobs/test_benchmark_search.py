"""The benchmark of search fills a library of the size it is told and asks every kind of query."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from jobs.benchmark_search import made_texts, measure, read_texts


def test_every_kind_of_query_is_timed(tmp_path: Path) -> None:
    texts = made_texts(random.Random(0), n_texts=500, n_words=300)
    answer = measure(tmp_path / "library.sqlite", texts, 7000, 1, random.Random(0))
    assert answer["n_rows"] == 7000
    assert answer["query_embedding_ms"] > 0
    assert answer["median_ms"].keys() == answer["worst_ms"].keys()
    assert {
        "rare word",
        "commonest word",
        "phrase",
        "nothing found",
        "one unit",
        "semantic",
        "semantic, layer",
        "semantic, score",
    } <= {*answer["median_ms"]}
    assert all(0 < answer["median_ms"][k] <= answer["worst_ms"][k] for k in answer["median_ms"])


def test_made_texts_have_common_and_rare_words() -> None:
    words = " ".join(made_texts(random.Random(0), n_texts=2000, n_words=1000)).split()
    assert words.count("words") > 500
    assert sum(words.count(word) == 1 for word in {*words}) > 50


@pytest.mark.shared_data
def test_texts_may_be_those_of_lists(shared_data: Path) -> None:
    assert len(read_texts([shared_data / "published" / "gpt2xl_explanations_960.csv"])) == 960
