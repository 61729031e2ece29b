"""A tree of prompts holds each shared beginning once, and each path as it is."""

from __future__ import annotations

import random

from neuron_explainer.llm.token_tree import TokenTree


def test_a_node_sees_its_path_and_nothing_else() -> None:
    rng = random.Random(0)
    paths = [rng.choices(range(3), k=rng.randint(0, 8)) for _ in range(30)]
    tree = TokenTree(9)
    nodes = [tree.add(path) for path in paths]
    sees = tree.sees()
    for path, on_path in zip(paths, nodes, strict=True):
        assert [tree.ids[node] for node in on_path] == [9, *path]
        assert [tree.depths[node] for node in on_path] == list(range(len(path) + 1))
        for i, node in enumerate(on_path):
            assert sees[node].nonzero()[0].tolist() == on_path[: i + 1]


def test_what_paths_share_is_there_once() -> None:
    tree = TokenTree(0)
    for path in ([1, 2, 3], [1, 2, 4], [1, 2, 3]):
        tree.add(path)
    assert tree.ids == [0, 1, 2, 3, 4]
    assert tree.extend(2, 4) == 4
    assert len(tree) == 5
