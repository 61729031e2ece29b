"""Sums over rows in which no column's bits depend on the columns beside it.

A matrix product, or torch's own sum, takes another path through a column, and so rounds it in
another way, when there are more or fewer columns. A bag adds a column's rows one after the other.
So a unit that is collected alone has the sums that it has among all others.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

ROWS_A_SUM = 64
"""Rows added in float32; the sums of these are added in float64."""


def sum_groups(rows: Tensor) -> Tensor:
    """(row, column) float32 -> (group, column): sums of ROWS_A_SUM rows, the last of fewer."""
    order = torch.arange(len(rows), device=rows.device)
    return F.embedding_bag(order, rows, order[::ROWS_A_SUM], mode="sum")


def add_in_turn(total: Tensor, sums: Tensor) -> None:
    """Adds sums (group, ...) to `total` (...), float64, one after the other."""
    for group in sums:
        total += group


def sum_rows(rows: Tensor) -> Tensor:
    """(row, column) float32 -> (column,) float64."""
    total = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
    add_in_turn(total, sum_groups(rows))
    return total
