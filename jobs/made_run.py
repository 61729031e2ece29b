"""A made-up run folder of any size, with what a real one takes on disk, for jobs that measure.

A unit has 20 top windows, ten in each of five bands and 32 random ones, all of 64 tokens, and two
methods' explanations with five scores and ten simulated windows each (the defaults of `run`). Some
layers share their files: what a unit's record takes to read is the same, and a store of 307,200
units fits a small disk. Results are filled in directly, in one transaction.
"""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.made_dataset import MadeDataset
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.spec import COLLECT, RunSpec
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.score import Score, ScoredWindow
from neuron_explainer.records.simulation import SequenceSimulation
from neuron_explainer.stores.neuron_store import LayerRecords, StoreWriter
from neuron_explainer.stores.results import BASELINE, Results
from neuron_explainer.stores.scored_windows import pack_windows
from neuron_explainer.stores.store_manifest import StoreManifest
from neuron_explainer.stores.windows import WindowCounts, WindowWriter

N_CTX, N_TOP, N_BANDS, N_A_BAND, N_RANDOM, N_SCORED = 64, 20, 5, 10, 32, 10
N_WINDOWS, N_MEANS = 4000, 1600
N_BLOBS = 64
"""Different sets of simulated windows; units take them in turn."""
SCORES = {"top_and_random": "ev_correlation_score", "full_distribution": "ev_correlation_score",
          "random_only": "ev_correlation_score", "top_only": "ev_correlation_score",
          "by_chance": "ev_correlation_score", "explained_variance": "explained_variance",
          "absolute_dev_explained_score": "absolute_dev_explained_score"}  # fmt: skip
NO_EXPLANATION, NO_SCORE = 0.02, 0.03
"""Shares of the units."""
METHODS = ("token_lookup", "openai:made-model")
WHEN = "2026-01-01T00:00:00+00:00"


@dataclass(frozen=True)
class MadeRun:
    """Sizes; the defaults are those of GPT-2 XL."""

    n_layers: int = 48
    n_units: int = 6400
    """A layer."""
    n_different_layers: int = 4
    """Whose records are made; the others are these again."""
    seed: int = 0

    def write(self, folder: RunFolder, texts: Sequence[str]) -> None:
        """Into a folder without a run. texts: of explanations."""
        spec = RunSpec()
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.claim({**spec.choices(COLLECT), "layers": [*range(self.n_layers)]})
        self._write_store(folder.store)
        self._write_results(folder.results, texts)

    def _write_store(self, path: Path) -> None:
        rng = np.random.default_rng(self.seed)
        writer = StoreWriter(path)
        words = MadeDataset(self.seed).words
        vocabulary = tuple(f"{word}{number}" for number, word in enumerate(words))
        _write_windows(writer.windows_folder, rng, len(vocabulary))
        writer.write_vocabulary(vocabulary)
        writer.write_coverage(np.arange(N_MEANS, dtype=np.int64))
        for layer in range(min(self.n_different_layers, self.n_layers)):
            writer.write_records(layer, _made_records(rng, self.n_units))
            means = rng.normal(0, 0.3, (self.n_units, N_MEANS + 1)).astype(np.float32)
            writer.write_token_means(layer, means, rng.integers(1, 900, N_MEANS + 1))
        for layer in range(self.n_different_layers, self.n_layers):
            made = path / f"layer_{layer % self.n_different_layers:03d}"
            (path / f"layer_{layer:03d}").mkdir()
            for file in made.iterdir():
                os.link(file, path / f"layer_{layer:03d}" / file.name)
        writer.finish(
            StoreManifest(
                fingerprint="made", subject="made", site="mlp_post_act",
                layers=tuple(range(self.n_layers)), n_units=self.n_units, n_ctx=N_CTX,
                corpus="made", corpus_hash="made", n_documents=1, n_duplicates=0,
                n_near_duplicates=0, n_windows=N_WINDOWS, n_tokens=N_WINDOWS * N_CTX,
                n_record_tokens=N_WINDOWS * N_CTX // 2, coverage=0.9,
            )
        )  # fmt: skip

    def _write_results(self, path: Path, texts: Sequence[str]) -> None:
        rng = random.Random(self.seed)
        with Results(path) as results:
            results.use_method("lookup", {"explainer": METHODS[0], "simulator": METHODS[0]})
            choices = {"explainer": METHODS[1], "simulator": METHODS[1], BASELINE: "lookup"}
            results.use_method("words", choices)
        blobs = [pack_windows(_made_windows(rng)) for _ in range(N_BLOBS)]
        rows = list(self._explanations(rng, texts))
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.executemany(
                "INSERT INTO explanations (id, fingerprint, layer_index, neuron_index, explainer, "
                "model, prompt_version, text, reason, created_at) VALUES (?,?,?,?,?,?,?,?,?,?)",
                rows,
            )
            connection.executemany(
                "INSERT INTO scores VALUES (?,?,?,?,?,?,?,?,?,?,?)",
                (score for row in rows for score in _made_scores(rng, row)),
            )
            connection.executemany(
                "INSERT INTO scored_windows VALUES (?,?,?,?)",
                (
                    (number, "simulation", METHODS[method == "words"], blobs[number % N_BLOBS])
                    for number, method, *_, text, _reason, _when in rows
                    if text is not None
                ),
            )
            connection.executemany(
                "INSERT INTO costs VALUES (?, 6, 5200, 0, 700, 1200000000)",
                ((row[0],) for row in rows if row[1] == "words"),
            )

    def _explanations(self, rng: random.Random, texts: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Rows of the table, the methods one after the other."""
        number = 0
        for method, made_by in (
            ("lookup", ("token_lookup", None, None)),
            ("words", ("token_activation", METHODS[1], "token_activation-1")),
        ):
            for layer in range(self.n_layers):
                for unit in range(self.n_units):
                    number += 1
                    is_there = rng.random() > NO_EXPLANATION
                    text = f"{rng.choice(texts)} {rng.choice(texts)}" if is_there else None
                    reason = None if is_there else "never active: nothing was recorded"
                    yield (number, method, layer, unit, *made_by, text, reason, WHEN)


def _write_windows(folder: Path, rng: np.random.Generator, n_vocabulary: int) -> None:
    """Half are to fit on; words are as common as Zipf's law says."""
    shares = 1 / (np.arange(n_vocabulary) + 3)
    writer = WindowWriter(folder)
    for number in range(N_WINDOWS):
        ids = rng.choice(n_vocabulary, N_CTX, p=shares / shares.sum())
        writer.add_document(f"document {number}", ids, [(0, N_CTX)], is_fit=number % 2 == 0)
    counts = WindowCounts(n_documents=N_WINDOWS, n_windows=N_WINDOWS, n_tokens=N_WINDOWS * N_CTX)
    writer.finish(counts)


def _made_records(rng: np.random.Generator, n_units: int) -> LayerRecords:
    def ids(*shape: int) -> NDArray[np.int64]:
        return 2 * rng.integers(0, N_WINDOWS // 2, shape) + 1

    def rows(*shape: int, peak: float) -> NDArray[np.float16]:
        """(…, seq) mostly about -0.1, with a few tokens about the peak."""
        values = rng.uniform(-0.16, 0.05, (*shape, N_CTX)).astype(np.float16)
        is_high = rng.random(values.shape, dtype=np.float32) < 2 / N_CTX
        values[is_high] = peak * rng.uniform(0.5, 1, int(is_high.sum()))
        return values

    moments = np.abs(rng.normal(1, 0.3, (n_units, 4)))
    return LayerRecords(
        top_ids=ids(n_units, N_TOP),
        top_rows=rows(n_units, N_TOP, peak=6.0),
        band_boundaries=np.tile(np.arange(1, N_BANDS, dtype=np.float32), (n_units, 1)),
        band_population=rng.integers(10, 400, (n_units, N_BANDS)),
        band_ids=ids(n_units, N_BANDS, N_A_BAND),
        band_rows=rows(n_units, N_BANDS, N_A_BAND, peak=3.0),
        random_rows=rows(n_units, N_RANDOM, peak=0.3),
        random_ids=ids(N_RANDOM),
        moments=moments,
        n_counted=np.array([N_WINDOWS * N_CTX // 2]),
        n_positive=rng.integers(0, N_WINDOWS * N_CTX // 4, n_units),
    )


def _made_windows(rng: random.Random) -> tuple[ScoredWindow, ...]:
    words = MadeDataset(0).words
    return tuple(
        ScoredWindow(
            "top" if number < N_SCORED // 2 else "random",
            SequenceSimulation(
                tuple(rng.choices(words, k=N_CTX)),
                tuple(round(rng.uniform(0, 10), 6) for _ in range(N_CTX)),
                ActivationScale.NORMALIZED,
            ),
            tuple(round(rng.uniform(-0.16, 6), 4) for _ in range(N_CTX)),
            Score("ev_correlation_score", rng.random(), N_CTX),
        )
        for number in range(N_SCORED)
    )


def _made_scores(rng: random.Random, row: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Rows of the table for one of the explanations; none where there is no text."""
    number, method, text = row[0], row[1], row[7]
    if text is None:
        return
    is_scored = rng.random() > NO_SCORE
    reason = None if is_scored else "constant prediction: no correlation"
    for name, metric in SCORES.items():
        value = rng.betavariate(1.5, 3) if is_scored else None
        low, high = (None, None) if value is None else (value - 0.1, value + 0.1)
        is_headline = name == "top_and_random"
        yield (number, "simulation", METHODS[method == "words"], name, metric, is_headline,
               value, N_SCORED * N_CTX, low, high, reason)  # fmt: skip
