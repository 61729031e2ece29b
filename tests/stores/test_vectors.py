"""The nearest vectors are the nearest ones, whatever the parts they lie in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neuron_explainer.errors import StoreError
from neuron_explainer.stores.vectors import Vectors

DIMENSION = 8


def unit_vectors(n: int, seed: int = 0) -> np.ndarray:
    """(n, DIMENSION), of length 1."""
    drawn = np.random.default_rng(seed).normal(size=(n, DIMENSION)).astype(np.float32)
    lengths: np.ndarray = np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn / lengths


def nearest_slowly(rows: np.ndarray, query: np.ndarray, k: int) -> list[int]:
    kept = rows.astype(np.float16).astype(np.float32)
    cosines = [(-float(row @ query), i + 1) for i, row in enumerate(kept)]
    return [i for _, i in sorted(cosines)[:k]]


@pytest.mark.parametrize("n_a_part", [1, 7, 300])
def test_the_nearest_are_exact_for_any_parts(tmp_path: Path, n_a_part: int) -> None:
    rows, queries = unit_vectors(300), unit_vectors(5, seed=1)
    vectors = Vectors(tmp_path)
    for start in range(0, len(rows), n_a_part):
        part = rows[start : start + n_a_part]
        vectors.add(range(start + 1, start + 1 + len(part)), part)
    for opened in (vectors, Vectors(tmp_path)):
        assert (len(opened), opened.last_id) == (300, 300)
        for query in queries:
            near = opened.nearest(query, 10)
            assert [one.id for one in near] == nearest_slowly(rows, query, 10)
            assert [one.cosine for one in near] == sorted((n.cosine for n in near), reverse=True)


def test_rows_whose_rough_cosines_are_the_same_are_told_apart(tmp_path: Path) -> None:
    """More of them than are found at first; float16 tells a few dozen apart."""
    query = unit_vectors(1, seed=1)[0]
    near = query + 0.01 * unit_vectors(1000)
    rows = near / np.linalg.norm(near, axis=1, keepdims=True)
    vectors = Vectors(tmp_path)
    vectors.add(range(1, 601), rows[:600])
    vectors.add(range(601, 1001), rows[600:])
    kept = rows.astype(np.float16).astype(np.float32)
    cosines = np.concatenate([[0], (kept * query).sum(axis=1)])  # by id
    for among in (None, range(3, 1000, 3)):
        found = list(vectors.ranked(query, among))
        ids = [one.id for one in found]
        assert sorted(ids) == list(among or range(1, 1001))
        assert [one.cosine for one in found] == cosines[ids].tolist()
        assert ids == sorted(ids, key=lambda i: (-cosines[i], i))


def test_only_those_that_pass_are_chosen_from(tmp_path: Path) -> None:
    vectors = Vectors(tmp_path)
    vectors.add(range(1, 101), unit_vectors(100))
    query = unit_vectors(1, seed=1)[0]
    order = [one.id for one in vectors.nearest(query, 100)]
    allowed = sorted(order[50:])
    assert [one.id for one in vectors.nearest(query, 7, allowed)] == order[50:57]
    assert vectors.nearest(query, 7, []) == ()
    assert vectors.nearest(query, 7, [500, 600]) == ()


def test_equal_ones_are_in_the_order_of_their_ids(tmp_path: Path) -> None:
    vectors = Vectors(tmp_path)
    vectors.add([3, 9], np.ones((2, DIMENSION), np.float32))
    vectors.add([10, 12], np.ones((2, DIMENSION), np.float32))
    assert [one.id for one in vectors.nearest(np.ones(DIMENSION, np.float32), 3)] == [3, 9, 10]


def test_an_empty_folder_has_nothing_near(tmp_path: Path) -> None:
    vectors = Vectors(tmp_path / "none")
    assert (len(vectors), vectors.last_id) == (0, 0)
    assert vectors.nearest(np.ones(DIMENSION, np.float32), 3) == ()


def test_rows_that_two_processes_added_count_once(tmp_path: Path) -> None:
    rows = unit_vectors(20)
    one, other = Vectors(tmp_path), Vectors(tmp_path)
    one.add(range(1, 11), rows[:10])
    other.add(range(1, 16), rows[:15])
    one.add(range(11, 21), rows[10:])
    opened = Vectors(tmp_path)
    assert len(opened) == 20
    assert [n.id for n in opened.nearest(rows[0], 20)] == nearest_slowly(rows, rows[0], 20)


def test_ids_must_follow(tmp_path: Path) -> None:
    vectors = Vectors(tmp_path)
    vectors.add([5], unit_vectors(1))
    with pytest.raises(ValueError, match="do not follow 5"):
        vectors.add([5], unit_vectors(1))


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    (tmp_path / "1-2.npy").write_bytes(b"no array")
    with pytest.raises(StoreError, match=r"1-2\.npy.*made anew"):
        Vectors(tmp_path)
    np.save(tmp_path / "1-2.npy", np.zeros(3))
    with pytest.raises(StoreError, match="no vectors"):
        Vectors(tmp_path)
