"""Blocks: every window once, one length each, whatever the table is read by; shards take parts."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neuron_explainer.collector.blocks import BlockPlan, WorkItem
from neuron_explainer.collector.plans import CollectPlan, Shard, WindowPlan
from neuron_explainer.collector.windows import write_windows
from neuron_explainer.stores.windows import FIT, RECORD, WindowTable
from neuron_explainer.subject.tokens import SubjectTokenizer
from tests.fakes import ChunkedTable, scripted_documents
from tests.tiny_models import byte_tokenizer

PLAN = CollectPlan(n_ctx=16, block_size=8, n_boundary_windows=50, n_random=9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("windows")
    plan = WindowPlan(n_ctx=16, n_tokens=1_000_000, max_overlap=1)
    write_windows(scripted_documents(120), SubjectTokenizer(byte_tokenizer()), plan, folder)
    return folder


def plain(items: list[WorkItem]) -> list[tuple[list[int], bool, bool]]:
    return [(item.window_ids.tolist(), item.is_drawn, item.is_mine) for item in items]


@pytest.mark.parametrize("block_size", [1, 7, 1000])
def test_blocks_hold_every_window_once_and_one_length_each(folder: Path, block_size: int) -> None:
    table = WindowTable(folder)
    blocks = BlockPlan(table, replace(PLAN, block_size=block_size), Shard())
    for part, items in ((FIT, list(blocks.fit())), (RECORD, list(blocks.record()))):
        found = [item.window_ids for item in items]
        expected = np.concatenate(list(table.ids(part))).tolist()
        assert sorted(np.concatenate(found).tolist()) == expected
        lengths = [set(table.lengths(ids).tolist()) for ids in found]
        assert all(len(each) == 1 for each in lengths)
        assert all(len(ids) <= block_size for ids in found)
        assert all(blocks.n_tokens(item) == table.block(item.window_ids).size for item in items)


def test_drawn_windows_come_first_in_the_fit_pass(folder: Path) -> None:
    blocks = BlockPlan(WindowTable(folder), PLAN, Shard())
    items = list(blocks.fit())
    drawn = [item for item in items if item.is_drawn]
    assert items[: len(drawn)] == drawn
    ids = sorted(np.concatenate([item.window_ids for item in drawn]).tolist())
    assert ids == blocks.fit_drawn.tolist()
    assert len(ids) == PLAN.n_boundary_windows


@pytest.mark.parametrize("chunk_size", [1, 2, 13])
def test_blocks_do_not_depend_on_how_the_table_is_read(folder: Path, chunk_size: int) -> None:
    one = BlockPlan(WindowTable(folder), PLAN, Shard())
    two = BlockPlan(ChunkedTable(folder, chunk_size), PLAN, Shard())
    assert plain(list(one.fit())) == plain(list(two.fit()))
    assert plain(list(one.record())) == plain(list(two.record()))


@pytest.mark.parametrize("n_shards", [2, 3, 50])
def test_shards_take_each_block_once_and_all_read_the_drawn_ones(
    folder: Path, n_shards: int
) -> None:
    table = WindowTable(folder)
    whole = BlockPlan(table, PLAN, Shard())
    taken: Counter[tuple[int, ...]] = Counter()
    for number in range(1, n_shards + 1):
        blocks = BlockPlan(table, PLAN, Shard(number, n_shards))
        items = [*blocks.fit(), *blocks.record()]
        taken.update(tuple(item.window_ids) for item in items if item.is_mine)
        drawn = [item.window_ids.tolist() for item in items if item.is_drawn]
        assert drawn == [i.window_ids.tolist() for i in whole.fit() if i.is_drawn]
    expected = [tuple(item.window_ids) for item in (*whole.fit(), *whole.record())]
    assert taken == Counter(expected)


def test_places_are_those_among_the_drawn_windows(folder: Path) -> None:
    blocks = BlockPlan(WindowTable(folder), PLAN, Shard())
    for items, drawn in ((blocks.fit(), blocks.fit_drawn), (blocks.record(), blocks.random)):
        found: dict[int, int] = {}
        for item in items:
            block = blocks.read(item, device="cpu")  # type: ignore[arg-type]
            pairs = zip(block.ids.tolist(), block.places.tolist(), strict=True)
            if item.is_drawn or drawn is blocks.random:
                found.update((window_id, place) for window_id, place in pairs if place >= 0)
        assert found == {window_id: place for place, window_id in enumerate(drawn.tolist())}


@pytest.mark.parametrize("n_shards", [1, 2, 5])
def test_the_tokens_to_read_are_known_beforehand_but_for_a_few_blocks(
    folder: Path, n_shards: int
) -> None:
    table = WindowTable(folder)
    for number in range(1, n_shards + 1):
        blocks = BlockPlan(table, PLAN, Shard(number, n_shards))
        items = [*blocks.fit(), *blocks.record()]
        n_read = sum(blocks.n_tokens(item) for item in items)
        slack = 0 if n_shards == 1 else 4 * PLAN.block_size * PLAN.n_ctx
        assert abs(n_read - blocks.expected_tokens()) <= slack
