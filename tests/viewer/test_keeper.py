"""An index follows its results, wherever they and it go."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from neuron_explainer.viewer.keeper import LOOK_EVERY_S, IndexKeeper
from tests.viewer.viewed_runs import UNITS, open_client, run_source, state_of, write_run


@pytest.fixture
def clock() -> Callable[[], float]:
    """Every look at it is late enough for another look at the results."""
    return map(float, count(0, int(LOOK_EVERY_S) + 1)).__next__


@pytest.fixture
def keeper(tmp_path: Path, clock: Callable[[], float]) -> IndexKeeper:
    write_run(tmp_path)
    keeper = IndexKeeper(run_source(tmp_path), clock=clock)
    keeper.update()
    return keeper


def n_rows(keeper: IndexKeeper) -> int | None:
    with keeper.rows() as rows:
        method = None if rows is None else rows.method(None)
        return None if rows is None or method is None else len(list(rows.of_units(method, UNITS)))


def look(keeper: IndexKeeper) -> None:
    keeper.refresh()
    keeper.wait()


def test_an_index_without_results_says_nothing_until_they_are_back(
    keeper: IndexKeeper, tmp_path: Path
) -> None:
    assert n_rows(keeper) == len(UNITS)
    seen = keeper.version
    away = [path.rename(tmp_path / f"away-{path.name}") for path in tmp_path.glob("results*")]
    look(keeper)
    assert n_rows(keeper) is None
    assert keeper.version > seen
    again = IndexKeeper(run_source(tmp_path))
    again.update()
    assert n_rows(again) is None
    for path in away:
        path.rename(tmp_path / path.name.removeprefix("away-"))
    look(keeper)
    assert n_rows(keeper) == len(UNITS)


def test_an_index_that_is_moved_away_is_made_again(keeper: IndexKeeper, tmp_path: Path) -> None:
    keeper.path.rename(tmp_path / "away")
    assert n_rows(keeper) is None
    look(keeper)
    assert n_rows(keeper) == len(UNITS)


def test_an_index_that_is_gone_is_looked_at_at_once(tmp_path: Path) -> None:
    write_run(tmp_path)
    keeper = IndexKeeper(run_source(tmp_path), clock=lambda: 1.0)  # no time goes by
    look(keeper)
    keeper.path.rename(tmp_path / "away")
    look(keeper)
    assert n_rows(keeper) == len(UNITS)


def test_who_comes_as_an_index_is_begun_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path)
    keeper = IndexKeeper(run_source(tmp_path))
    begun, go_on, failed = threading.Event(), threading.Event(), []
    start = threading.Thread.start

    def start_late(thread: threading.Thread) -> None:
        if thread.name == "index":
            begun.set()
            assert go_on.wait(10)
        start(thread)

    def settle() -> None:
        try:
            keeper.settle()
        except RuntimeError as error:
            failed.append(error)

    monkeypatch.setattr(threading.Thread, "start", start_late)
    readers = [threading.Thread(target=settle) for _ in range(2)]
    readers[0].start()
    assert begun.wait(10)
    readers[1].start()
    readers[1].join(0.2)  # as far as it comes before the index is begun
    go_on.set()
    for reader in readers:
        reader.join()
    keeper.wait()
    assert failed == []
    assert n_rows(keeper) == len(UNITS)


def test_a_damaged_index_is_told_of_and_made_again_once_it_is_moved_away(
    tmp_path: Path, clock: Callable[[], float]
) -> None:
    write_run(tmp_path)
    keeper = IndexKeeper(run_source(tmp_path), clock=clock)
    keeper.path.write_bytes(b"no database" * 999)
    look(keeper)
    assert keeper.problem is not None
    keeper.path.rename(tmp_path / "away")
    look(keeper)
    assert keeper.problem is None
    assert n_rows(keeper) == len(UNITS)


def test_nothing_is_read_anew_as_long_as_nothing_changes(keeper: IndexKeeper) -> None:
    look(keeper)
    seen = keeper.version
    look(keeper)
    assert keeper.version == seen
    assert keeper.building is None


def test_another_collection_in_the_place_of_one_is_told_of(tmp_path: Path) -> None:
    write_run(tmp_path)
    manifest = tmp_path / "store.json"
    manifest.write_text("one")
    with open_client(replace(run_source(tmp_path), records_file=manifest)) as client:
        keeper = state_of(client).keepers["a"]
        assert "start the viewer anew" not in client.get("/").text
        other = tmp_path / "other.json"
        other.write_text("other")
        other.replace(manifest)
        keeper._looked_s = float("-inf")
        for path in ("/", "/layers/0/neurons/0", "/table"):
            assert "start the viewer anew" in client.get(path).text
        assert not keeper.is_whole


def test_a_collection_that_becomes_whole_while_viewed_is_the_one_that_is_shown(
    tmp_path: Path, clock: Callable[[], float]
) -> None:
    write_run(tmp_path)
    manifest = tmp_path / "store.json"
    keeper = IndexKeeper(replace(run_source(tmp_path), records_file=manifest), clock=clock)
    look(keeper)
    manifest.write_text("one")
    look(keeper)
    assert not keeper.are_records_others
    manifest.unlink()
    look(keeper)
    assert keeper.are_records_others
