"""Train, calibration, valid and test parts of a unit's windows, interleaved as published.

Bills et al. 2023, `activations.py`: split i of n takes every n-th record from the i-th on. Top
records are dealt to all four splits, random records to the last three, so `train` is top alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from neuron_explainer.records.neuron import ActivationRecord, NeuronRecord


class Split(StrEnum):
    TRAIN = "train"
    CALIBRATION = "calibration"
    VALID = "valid"
    TEST = "test"


TOP_SPLITS = (Split.TRAIN, Split.CALIBRATION, Split.VALID, Split.TEST)
RANDOM_SPLITS = (Split.CALIBRATION, Split.VALID, Split.TEST)


class SplitRecords(NamedTuple):
    """One split of a unit's windows; the published order is top first, then random."""

    top: tuple[ActivationRecord, ...]
    random: tuple[ActivationRecord, ...]


def deal(
    records: Sequence[ActivationRecord], split: Split, splits: Sequence[Split], n_per_split: int
) -> tuple[ActivationRecord, ...]:
    """The records of `split`; fewer than `n_per_split` when there are too few records.

    `slice(i, n·stride, stride)`: a split never shares a record with another one.
    """
    if split not in splits:
        return ()
    stride = len(splits)
    return tuple(records[splits.index(split) : n_per_split * stride : stride])


def split_records(record: NeuronRecord, split: Split, n_per_split: int = 5) -> SplitRecords:
    """The unit's windows of one split, `n_per_split` of each kind (published: 5)."""
    return SplitRecords(
        top=deal(record.top, split, TOP_SPLITS, n_per_split),
        random=deal(record.random, split, RANDOM_SPLITS, n_per_split),
    )
