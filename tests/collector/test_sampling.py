"""Windows drawn by hash: as the plain arithmetic says, evenly, and however the table is read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from neuron_explainer.collector.sampling import draw_windows, hash_windows
from neuron_explainer.stores.windows import FIT, RECORD, WindowTable, WindowWriter
from tests.fakes import ChunkedTable

N_WINDOWS = 120
MASK = 2**64 - 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Windows of one token each; every third one is fitted on."""
    folder = tmp_path_factory.mktemp("windows")
    writer = WindowWriter(folder)
    for i in range(N_WINDOWS):
        writer.add_document(f"{i}", [i], [(0, 1)], is_fit=i % 3 == 0)
    writer.close()
    return folder


def split_mix_64(window_id: int, seed: int, purpose: str) -> int:
    """Steele, Lea and Flood 2014, over the id and a key; its upper 31 bits."""
    key = hashlib.blake2b(f"{seed}:{purpose}".encode(), digest_size=8).digest()
    z = ((window_id + 1) * 0x9E3779B97F4A7C15 & MASK) ^ int.from_bytes(key, "big")
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
    return (z ^ z >> 31) >> 33


@pytest.mark.parametrize(("seed", "purpose"), [(0, "band"), (1, "band"), (0, "drawn"), (-5, "x")])
def test_hashes_are_those_of_arithmetic_on_unsigned_integers(seed: int, purpose: str) -> None:
    ids = [0, 1, 2, 3, 1000, 2**31 - 1, 2**31, 2**40 + 17, *range(10_000, 10_100)]
    expected = [split_mix_64(i, seed, purpose) for i in ids]
    assert hash_windows(torch.tensor(ids), seed, purpose).tolist() == expected
    assert all(0 <= value < 2**31 for value in expected)


def test_a_hash_depends_on_its_window_alone() -> None:
    ids = torch.arange(50)
    alone = [hash_windows(ids[i : i + 1], 0, "band").item() for i in range(50)]
    assert hash_windows(ids, 0, "band").tolist() == alone
    assert hash_windows(ids.flip(0).view(5, 10), 0, "band").flatten().tolist() == alone[::-1]


@pytest.mark.parametrize("other", [(1, "band"), (0, "drawn")])
def test_seeds_and_purposes_give_unrelated_orders(other: tuple[int, str]) -> None:
    ids = torch.arange(2000)
    ranks = [hash_windows(ids, *key).argsort().argsort().double() for key in ((0, "band"), other)]
    assert abs(torch.corrcoef(torch.stack(ranks))[0, 1].item()) < 0.1


@pytest.mark.parametrize("n_windows", [1, 10, 40, 41, 1000])
def test_the_windows_with_the_smallest_hashes_are_drawn(folder: Path, n_windows: int) -> None:
    drawn = draw_windows(WindowTable(folder), FIT, n_windows, 3, "drawn")
    ranked = sorted(range(0, N_WINDOWS, 3), key=lambda i: split_mix_64(i, 3, "drawn"))
    assert drawn.tolist() == sorted(ranked[:n_windows])


@pytest.mark.parametrize("chunk_size", [1, 7, 80, 1000])
def test_what_is_drawn_does_not_depend_on_how_the_table_is_read(
    folder: Path, chunk_size: int
) -> None:
    expected = draw_windows(WindowTable(folder), RECORD, 12, 0, "drawn")
    found = draw_windows(ChunkedTable(folder, chunk_size), RECORD, 12, 0, "drawn")
    assert found.tolist() == expected.tolist()


def test_every_window_is_drawn_about_equally_often(folder: Path) -> None:
    table, n_draws = WindowTable(folder), 400
    counts = np.zeros(N_WINDOWS)
    for seed in range(n_draws):
        counts[draw_windows(table, RECORD, 20, seed, "drawn")] += 1
    expected = n_draws * 20 / 80
    record = counts[np.arange(N_WINDOWS) % 3 != 0]
    assert counts.sum() == record.sum() == n_draws * 20
    spread = 4.5 * np.sqrt(expected * 60 / 80)  # binomial
    assert np.abs(record - expected).max() < spread
