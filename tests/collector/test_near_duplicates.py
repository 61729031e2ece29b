"""No window that is kept shares most of its n-grams with windows kept before."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from neuron_explainer.collector import near_duplicates
from neuron_explainer.collector.corpus import Document
from neuron_explainer.collector.near_duplicates import N_GRAM, SeenText
from neuron_explainer.collector.plans import WindowPlan
from neuron_explainer.collector.windows import write_windows
from neuron_explainer.stores.windows import WindowTable
from neuron_explainer.subject.tokens import SubjectTokenizer
from tests.tiny_models import byte_tokenizer


def grams(tokens: np.ndarray) -> list[tuple[int, ...]]:
    n = min(N_GRAM, len(tokens))
    return [(n, *tokens[i : i + n].tolist()) for i in range(len(tokens) - n + 1)]


def random_document(rng: np.random.Generator, pieces: list[np.ndarray]) -> np.ndarray:
    """New text and repeated pieces, in turn."""
    parts = []
    for _ in range(rng.integers(1, 6)):
        parts.append(rng.integers(0, 1000, rng.integers(1, 40)))
        parts.append(pieces[rng.integers(len(pieces))])
    return np.concatenate(parts).astype(np.int32)


@pytest.mark.parametrize("max_overlap", [0.0, 0.3, 0.5, 0.9])
def test_it_keeps_what_an_exact_set_of_n_grams_keeps(max_overlap: float) -> None:
    rng = np.random.default_rng(0)
    pieces = [rng.integers(0, 1000, rng.integers(5, 60)) for _ in range(10)]
    seen, exact = SeenText(n_tokens=1), set()
    n_left_out = 0
    for _ in range(100):
        tokens = random_document(rng, pieces)
        spans = [(start, min(32, len(tokens) - start)) for start in range(0, len(tokens), 32)]
        expected = []
        for start, length in spans:
            own = grams(tokens[start : start + length])
            if sum(gram in exact for gram in own) / len(own) <= max_overlap:
                expected.append((start, length))
                exact.update(own)
        assert seen.keep_new(tokens, spans, max_overlap) == expected
        n_left_out += len(spans) - len(expected)
    assert n_left_out > 20


def test_many_windows_of_one_document_are_as_those_of_few(monkeypatch) -> None:
    rng = np.random.default_rng(1)
    tokens = np.tile(rng.integers(0, 50, 300), 4).astype(np.int32)
    spans = [(start, min(20, len(tokens) - start)) for start in range(0, len(tokens), 20)]
    whole = SeenText(1).keep_new(tokens, spans, 0.5)
    monkeypatch.setattr(near_duplicates, "SPANS_AT_ONCE", 3)
    assert SeenText(1).keep_new(tokens, spans, 0.5) == whole
    assert len(whole) == 15


def test_a_full_filter_seldom_takes_new_text_for_old() -> None:
    rng = np.random.default_rng(2)
    seen = SeenText(1)
    n_tokens = near_duplicates.MIN_BITS // near_duplicates.BITS_A_TOKEN
    chance = 1 - (1 - 1 / near_duplicates.MIN_BITS) ** (n_tokens * near_duplicates.N_PROBES)
    seen._bits[:] = np.packbits(rng.random(8 * (1 << 20)) < chance).repeat(32)
    windows = rng.integers(0, 50_000, (400, 64)).astype(np.int32)
    shares = [seen._share(seen._places(near_duplicates._hash_grams(w))) for w in windows]
    assert np.mean(shares) < 0.01
    assert max(shares) < 0.15


def test_near_duplicates_are_counted_and_in_no_table(tmp_path: Path) -> None:
    rng = random.Random(0)
    words = [f"w{i:03d}" for i in range(400)]
    texts = [" ".join(rng.choices(words, k=60)) for _ in range(60)]
    changed = [text.replace("w00", "x00", 2) for text in texts[:20]]
    documents = [Document(f"{i}", text) for i, text in enumerate([*texts, *changed])]
    tokenizer = SubjectTokenizer(byte_tokenizer())
    plan = WindowPlan(n_ctx=32, n_tokens=1_000_000)
    counts = write_windows(documents, tokenizer, plan, tmp_path)
    table = WindowTable(tmp_path)
    seen: set[tuple[int, ...]] = set()
    for window_id in range(len(table)):
        own = grams(table.tokens(window_id))
        assert sum(gram in seen for gram in own) <= 0.5 * len(own)
        seen.update(own)
    assert counts.n_near_duplicates > 100
    everything = write_windows(
        documents, tokenizer, WindowPlan(n_ctx=32, n_tokens=1_000_000, max_overlap=1), tmp_path
    )
    assert everything.n_near_duplicates == 0
    assert everything.n_windows == counts.n_windows + counts.n_near_duplicates
