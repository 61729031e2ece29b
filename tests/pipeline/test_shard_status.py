"""The shards of a collection: what each is at, and what they are at together."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from rich.console import Console

from neuron_explainer.cli_status import plain_status, print_status
from neuron_explainer.collector.plans import Shard
from neuron_explainer.errors import StoreError
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.progress import Progress
from neuron_explainer.pipeline.shard_status import (
    SHARD_MANIFEST,
    ShardState,
    ShardStatus,
    read_shards,
    require_merged,
)
from neuron_explainer.pipeline.status import read_status


def begin(folder: RunFolder, number: int, n_done: int, stage: str = "collect") -> RunFolder:
    """A shard of four that has read 50 tokens a second for two seconds, of 1,000."""
    shard = folder.shard(Shard(number, 4))
    shard.store.mkdir(parents=True)
    progress = Progress(stage, "tokens", 1000, n_done - 100, n_done, 10.0, 12.0)
    shard.progress.write_text(json.dumps(asdict(progress)))
    return shard


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """One shard done, two begun, one not."""
    folder = RunFolder(tmp_path / "run")
    (begin(folder, 1, 1000).store / SHARD_MANIFEST).touch()
    begin(folder, 2, 500)
    begin(folder, 4, 250)
    return folder


def shown(folder: RunFolder) -> list[str]:
    console = Console(file=io.StringIO(), width=200)
    print_status(console, read_status(folder), " --run R")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_each_shard_has_a_state_and_the_whole_adds_up(folder: RunFolder) -> None:
    with folder.shard(Shard(2, 4)).locked():
        found = read_status(folder)
    assert found.is_running
    assert found.shards is not None
    assert [(s.number, s.state) for s in found.shards.shards] == [
        (1, ShardState.DONE), (2, ShardState.RUNNING), (3, ShardState.NOT_BEGUN),
        (4, ShardState.STOPPED),
    ]  # fmt: skip
    assert [s.share_done for s in found.shards.shards] == [1.0, 0.5, 0.0, 0.25]
    assert found.shards.share_done == pytest.approx(1.75 / 4)
    assert [s.rate for s in found.shards.shards] == [None, 50.0, None, None]
    assert [s.left_s for s in found.shards.shards] == [0.0, 10.0, None, None]
    assert (found.shards.rate, found.shards.left_s) == (50.0, None)


def test_the_whole_takes_as_long_as_the_slowest(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    shards = [begin(folder, number, 200 * number) for number in (1, 2, 3, 4)]
    with shards[0].locked(), shards[1].locked(), shards[2].locked(), shards[3].locked():
        found = read_shards(folder)
    assert found is not None
    assert (found.rate, found.left_s) == (200.0, 16.0)


def test_a_shard_that_still_cuts_its_text_has_read_none_of_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with begin(folder, 1, 900, stage="tokenise").locked():
        found = read_shards(folder)
    assert found is not None
    assert (found.shards[0].share_done, found.shards[0].left_s) == (0.0, None)


def test_a_person_reads_a_line_a_shard_with_what_to_do(folder: RunFolder) -> None:
    with folder.shard(Shard(2, 4)).locked():
        assert shown(folder) == [
            "4 shards: 1 done, 1 running, 1 stopped, 1 not begun; 44% of the text read, "
            "50 tokens/s",
            "1/4 done",
            "2/4 running, collect: 500 of 1,000 tokens, 50 tokens/s, about 10 s left",
            "3/4 not begun",
            "4/4 stopped, collect: 250 of 1,000 tokens, 50 tokens/s; "
            "go on: neuron-explainer collect --shard 4/4 --run R …",
        ]
    for number in (2, 3, 4):
        shard = folder.shard(Shard(number, 4))
        shard.store.mkdir(parents=True, exist_ok=True)
        (shard.store / SHARD_MANIFEST).touch()
    assert shown(folder)[-1] == "all are read; next: neuron-explainer merge --run R"


def test_a_program_reads_the_same(folder: RunFolder) -> None:
    plain = json.loads(json.dumps(plain_status(read_status(folder)), allow_nan=False))
    assert plain["shards"]["by_state"] == {"done": 1, "stopped": 2, "not begun": 1}
    assert [shard["state"] for shard in plain["shards"]["shards"]] == [
        "done", "stopped", "not begun", "stopped",
    ]  # fmt: skip
    assert plain["shards"]["shards"][1]["progress"]["n_done"] == 500


def test_a_merged_collection_has_no_shards(folder: RunFolder) -> None:
    with pytest.raises(StoreError, match=r"has no scores yet \(4 shards: 1 done.*see `status`"):
        require_merged(folder)
    folder.store.mkdir()
    (folder.store / "store.json").touch()
    assert read_shards(folder) is None
    require_merged(folder)


def test_without_shards_there_is_nothing_to_tell(tmp_path: Path) -> None:
    assert read_shards(RunFolder(tmp_path)) is None
    (tmp_path / "shards/a-of-b").mkdir(parents=True)
    assert read_shards(RunFolder(tmp_path)) is None


@pytest.mark.parametrize("n_total", [0, 1000])
def test_a_share_is_never_more_than_the_whole(n_total: int) -> None:
    progress = Progress("collect", "tokens", n_total, 0, 2000, 0.0, 1.0)
    shard = ShardStatus(1, 1, ShardState.RUNNING, progress)
    assert 0.0 <= shard.share_done <= 1.0
