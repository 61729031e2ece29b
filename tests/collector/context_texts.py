"""Fit windows made up for context means, their activations, and a slow count of them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from neuron_explainer.collector.contexts import NOT_MEANT, ContextPlan, ContextSums, find_rows
from neuron_explainer.stores.windows import WindowCounts, WindowWriter

Windows: TypeAlias = Sequence[Sequence[int]]
Context: TypeAlias = tuple[int, int, int]
Values: TypeAlias = NDArray[np.float32]

N_UNITS = 3
OTHER_TEXT = [6, 6, 6, 6, 6, 6, 6]
"""A window that is no fit window: nothing of it may be counted."""


def written(folder: Path, windows: Windows) -> Path:
    """Fit windows, each a document, between others that are not."""
    writer = WindowWriter(folder)
    for number, window in enumerate(windows):
        writer.add_document(f"{number}", window, [(0, len(window))], is_fit=True)
        writer.add_document("other", OTHER_TEXT, [(0, len(OTHER_TEXT))], is_fit=False)
    writer.finish(WindowCounts())
    return folder


def drawn(
    n_windows: int, n_vocabulary: int = 6, longest: int = 9, seed: int = 0
) -> list[list[int]]:
    """Windows of 1 to so many tokens, in which some tokens are far more frequent than others."""
    rng = random.Random(seed)
    weights = [1 / (1 + token) for token in range(n_vocabulary)]
    return [
        rng.choices(range(n_vocabulary), weights, k=rng.randint(1, longest))
        for _ in range(n_windows)
    ]


def activations_of(windows: Windows, seed: int = 1) -> list[Values]:
    """(seq, unit) a window, in eighths: their sums are exact in any order."""
    rng = np.random.default_rng(seed)
    drawn_values = [rng.integers(-16, 40, (len(window), N_UNITS)) for window in windows]
    return [(values / 8).astype(np.float32) for values in drawn_values]


def in_blocks(windows: Windows, size: int, seed: int = 0) -> Iterator[list[int]]:
    """Numbers of windows of one length, so many at a time, the blocks in some order."""
    by_length: dict[int, list[int]] = {}
    for number, window in enumerate(windows):
        by_length.setdefault(len(window), []).append(number)
    blocks = [
        members[first : first + size]
        for members in by_length.values()
        for first in range(0, len(members), size)
    ]
    random.Random(seed).shuffle(blocks)
    yield from blocks


def summed(
    plan: ContextPlan,
    windows: Windows,
    activations: Sequence[Values],
    counted: Sequence[Sequence[bool]] | None = None,
    size: int = 4,
    seed: int = 0,
) -> ContextSums:
    sums = ContextSums(plan, N_UNITS)
    for block in in_blocks(windows, size, seed):
        tokens = torch.tensor([windows[i] for i in block], dtype=torch.int64)
        mask = None if counted is None else torch.tensor([list(counted[i]) for i in block])
        flat = torch.from_numpy(np.concatenate([activations[i] for i in block]))
        sums.add(*find_rows(plan, tokens, mask), flat)
    return sums


def is_at(context: Context, window: Sequence[int], place: int) -> bool:
    """Whether the context ends at the place; one of a token before any ends right behind it."""
    start = place - 2
    return all(
        wanted == NOT_MEANT or (start + i >= 0 and window[start + i] == wanted)
        for i, wanted in enumerate(context)
    )


def slow_sums(
    contexts: Iterable[Context],
    windows: Windows,
    activations: Sequence[Values],
    counted: Sequence[Sequence[bool]] | None = None,
) -> tuple[list[list[float]], list[int]]:
    """(context, unit) sums and (context,) counts, position by position."""
    sums, counts = [], []
    for context in contexts:
        positions = [
            (number, place)
            for number, window in enumerate(windows)
            for place in range(len(window))
            if is_at(context, window, place) and (counted is None or counted[number][place])
        ]
        of_unit = np.zeros(N_UNITS)
        for number, place in positions:
            of_unit += activations[number][place]
        sums.append(of_unit.tolist())
        counts.append(len(positions))
    return sums, counts


def rows_of(plan: ContextPlan) -> list[Context]:
    return [tuple(row) for row in plan.tokens().tolist()]


CASES = {
    "many": drawn(80),
    "short": drawn(120, longest=2),
    "one token each": [[0], [1], [0]],
    "a vocabulary of one": [[0] * 8, [0], [0, 0]] * 3,
    "one length": [window[:4] for window in drawn(200) if len(window) > 4],
}
