"""Splits interleave as published, and never share a window."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from neuron_explainer.records.neuron import ActivationRecord
from neuron_explainer.records.splits import (
    RANDOM_SPLITS,
    TOP_SPLITS,
    Split,
    SplitRecords,
    deal,
    split_records,
)
from tests.records.published import read_published_records
from tests.scoring.builders import neuron_record, window

TOP = [window([100 - i], f"top{i}") for i in range(23)]
RANDOM = [window([i], f"random{i}") for i in range(17)]
RECORD = neuron_record(TOP, RANDOM)


def places(found: tuple[ActivationRecord, ...], among: list[ActivationRecord]) -> list[int]:
    return [among.index(record) for record in found]


@pytest.mark.parametrize(
    ("split", "top", "random"),
    [
        (Split.TRAIN, [0, 4, 8, 12, 16], []),
        (Split.CALIBRATION, [1, 5, 9, 13, 17], [0, 3, 6, 9, 12]),
        (Split.VALID, [2, 6, 10, 14, 18], [1, 4, 7, 10, 13]),
        (Split.TEST, [3, 7, 11, 15, 19], [2, 5, 8, 11, 14]),
    ],
)
def test_each_split_takes_every_nth_window(split: Split, top: list[int], random: list[int]) -> None:
    found = split_records(RECORD, split)
    assert places(found.top, TOP) == top
    assert places(found.random, RANDOM) == random


@pytest.mark.shared_data
def test_published_splits_are_dealt_back_into_themselves(shared_data: Path) -> None:
    random, train, valid = read_published_records(shared_data)
    top = list(TOP[:20])
    top[0:20:4], top[2:20:4] = train, valid[:5]
    sample = list(RANDOM[:15])
    sample[:3] = random
    sample[1:15:3] = [random[1], *valid[6:]]
    record = neuron_record(TOP, sample)
    assert deal(top, Split.TRAIN, TOP_SPLITS, 5) == tuple(train)
    assert deal(top, Split.VALID, TOP_SPLITS, 5) == tuple(valid[:5])
    assert split_records(record, Split.VALID).random == tuple(valid[5:])
    maxima = [r.max_activation for pair in zip(train, valid[:5], strict=True) for r in pair]
    assert maxima == sorted(maxima, reverse=True)


@pytest.mark.parametrize("n_per_split", [1, 3, 5, 100])
def test_no_two_splits_share_a_window(n_per_split: int) -> None:
    dealt = [split_records(RECORD, split, n_per_split) for split in Split]
    for one, two in itertools.combinations(dealt, 2):
        assert not {*one.top, *one.random} & {*two.top, *two.random}


@pytest.mark.parametrize("splits", [TOP_SPLITS, RANDOM_SPLITS])
def test_all_windows_are_dealt_when_there_is_no_limit(splits: tuple[Split, ...]) -> None:
    dealt = [record for split in splits for record in deal(TOP, split, splits, len(TOP))]
    assert sorted(places(tuple(dealt), TOP)) == list(range(len(TOP)))


@pytest.mark.parametrize("split", list(Split))
def test_a_longer_split_begins_with_the_shorter_one(split: Split) -> None:
    short, long = (split_records(RECORD, split, n) for n in (2, 4))
    assert long.top[:2] == short.top
    assert long.random[:2] == short.random


def test_too_few_windows_give_fewer_and_none_give_none() -> None:
    assert split_records(neuron_record(TOP[:3], RANDOM[:1]), Split.VALID) == SplitRecords(
        top=(TOP[2],), random=()
    )
    assert split_records(neuron_record([], []), Split.TEST) == SplitRecords((), ())
