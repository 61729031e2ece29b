"""Prompts that begin alike, as one tree of tokens that a model reads in one pass.

A token sees its ancestors and itself (the tree attention of SpecInfer, Miao et al. 2024,
arXiv:2305.09781), so each path is read as if it stood alone, and what paths share is read once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class TokenTree:
    """Nodes are numbered from 0, the root; a parent comes before its children."""

    def __init__(self, root: int) -> None:
        self.ids = [root]
        """Token id of each node."""
        self.depths = [0]
        """Tokens between the root and each node."""
        self._parents = [0]
        self._children: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, ids: Sequence[int]) -> list[int]:
        """Adds a path from the root; its nodes, the root first: nodes[i] precedes ids[i]."""
        nodes = [0]
        for token in ids:
            nodes.append(self.extend(nodes[-1], token))
        return nodes

    def extend(self, node: int, token: int) -> int:
        """The node of `token` after `node`, made if there is none yet."""
        known = self._children.get((node, token))
        if known is not None:
            return known
        child = len(self.ids)
        self._children[node, token] = child
        self.ids.append(token)
        self.depths.append(self.depths[node] + 1)
        self._parents.append(node)
        return child

    def sees(self) -> NDArray[np.bool_]:
        """(node, node): whether the first sees the second."""
        sees = np.eye(len(self), dtype=np.bool_)
        for node in range(1, len(self)):
            sees[node] |= sees[self._parents[node]]
        return sees
