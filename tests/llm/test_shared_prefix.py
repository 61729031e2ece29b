"""Kept keys and values are never changed, and never more than there is room for."""

from __future__ import annotations

import torch

from neuron_explainer.llm.shared_prefix import NO_TOKENS, KeyValues, KeyValueStore, key_values_of


def key_values(*ids: int, n_layers: int = 2) -> KeyValues:
    """Whose numbers are the ids."""
    tensor = torch.tensor(ids, dtype=torch.float32)[None, None, :, None].expand(1, 2, -1, 3)
    return KeyValues(ids, tuple((tensor.clone(), -tensor) for _ in range(n_layers)))


def new_tokens(n_rows: int, n_tokens: int) -> torch.Tensor:
    return torch.full((n_rows, 2, n_tokens, 3), 99.0)


def test_a_fixed_cache_shows_what_is_new_and_does_not_keep_it() -> None:
    kept = key_values(1, 2, 3)
    cache = kept.fixed()
    for _ in range(2):
        keys, values = cache.update(new_tokens(1, 2), -new_tokens(1, 2), 1)
        assert keys[0, 0, :, 0].tolist() == [1, 2, 3, 99, 99]
        assert values[0, 0, :, 0].tolist() == [-1, -2, -3, -99, -99]
        assert cache.get_seq_length() == 3


def test_a_growing_cache_keeps_what_is_new_and_leaves_its_beginning_alone() -> None:
    kept = key_values(1, 2)
    cache = kept.growing(5)
    for layer in range(2):
        cache.update(new_tokens(1, 1), new_tokens(1, 1), layer)
    grown = key_values_of((1, 2, 99), cache)
    for layer in range(2):
        cache.update(-new_tokens(1, 2), -new_tokens(1, 2), layer)
    assert cache.get_seq_length() == 5
    assert grown.layers[1][0][0, 0, :, 0].tolist() == [1, 2, 99]
    assert torch.equal(kept.layers[0][0], key_values(1, 2).layers[0][0])
    grown.layers[0][0].zero_()
    assert torch.equal(kept.layers[0][0], key_values(1, 2).layers[0][0])


def test_nothing_is_a_beginning_of_everything() -> None:
    assert NO_TOKENS.growing(1).get_seq_length() == 0
    assert NO_TOKENS.fixed().get_seq_length() == 0
    assert key_values(1, 2).first(0) == NO_TOKENS
    assert KeyValueStore(100).longest((1, 2)) == NO_TOKENS


def test_the_longest_common_beginning_is_found() -> None:
    store = KeyValueStore(1 << 20)
    for ids in ((1, 2, 3, 4), (1, 2, 9), (7,)):
        store.put(key_values(*ids))
    found = store.longest((1, 2, 3, 5))
    assert found.ids == (1, 2, 3)
    assert found.layers[0][0][0, 0, :, 0].tolist() == [1, 2, 3]
    assert store.longest((1, 2, 9)).ids == (1, 2, 9)
    assert store.longest((8,)).ids == ()


def test_those_used_last_are_kept_within_the_limit() -> None:
    size = key_values(1, 2).size_bytes
    assert size == 2 * 2 * (2 * 2 * 3) * 4
    store = KeyValueStore(2 * size)
    store.put(key_values(1, 2))
    store.put(key_values(3, 4))
    store.longest((1,))
    store.put(key_values(5, 6))
    assert store.size_bytes == 2 * size
    assert [store.longest(ids).ids for ids in ((1, 2), (3, 4), (5, 6))] == [(1, 2), (), (5, 6)]


def test_one_that_is_larger_than_the_limit_is_kept_alone() -> None:
    store = KeyValueStore(1)
    store.put(key_values(1, 2))
    store.put(key_values(3, 4))
    assert store.size_bytes == key_values(3, 4).size_bytes
    assert store.longest((3, 4)).ids == (3, 4)


def test_a_longer_one_takes_the_place_of_its_beginning_or_of_what_is_like_it() -> None:
    store = KeyValueStore(1 << 20)
    store.put(key_values(1, 2, 3, 4))
    store.put(key_values(1, 2, 3, 4, 5))
    assert store.size_bytes == key_values(1, 2, 3, 4, 5).size_bytes
    store.put(key_values(1, 2, 3, 8, 9))
    assert store.size_bytes == 2 * key_values(1, 2, 3, 4, 5).size_bytes
    store.put(key_values(1, 2, 3, 6), similar_share=0.5)
    assert store.size_bytes == key_values(1, 2, 3, 6).size_bytes
