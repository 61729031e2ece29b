"""Spending on disk: sums are exact, stay after a kill, and others may read them meanwhile."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from neuron_explainer.errors import StoreError
from neuron_explainer.llm.budget import Charge
from neuron_explainer.records.cost import UnitCost
from neuron_explainer.stores.response_cache import SqliteResponseCache
from neuron_explainer.stores.spending import Spending, SpendingStore

CHARGE = Charge("9:6236/explain", "gpt", 100, 40, 7, 12_345_678_901, True)
NOTHING = Spending(UnitCost(), UnitCost())
KILLED = """
import os, signal, sys
from pathlib import Path
from neuron_explainer.llm.budget import Charge
from neuron_explainer.stores.spending import SpendingStore
store = SpendingStore(Path(sys.argv[1]))
for _ in range(50):
    store.add(Charge("9:6236/explain", "gpt", 1, 0, 0, 3, True))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "spending.sqlite"


def test_an_empty_file_says_that_nothing_was_spent(path: Path) -> None:
    with SpendingStore(path) as store:
        assert store.of_purpose() == NOTHING
        assert store.total_picousd() == 0


def test_charges_add_up_by_purpose_and_model(path: Path) -> None:
    with SpendingStore(path) as store:
        for charge in (CHARGE, CHARGE, replace(CHARGE, model="other", cost_picousd=5)):
            store.add(charge)
        store.add(replace(CHARGE, purpose="9:6236/simulate"))
        store.add(replace(CHARGE, purpose="9:62361/explain"))
        of_unit = store.of_purpose("9:6236/")
        total = store.total_picousd()
    assert of_unit.counted == UnitCost(4, 400, 160, 28, 3 * 12_345_678_901 + 5)
    assert of_unit.uncounted == UnitCost()
    assert total == 4 * 12_345_678_901 + 5


def test_what_the_server_did_not_count_is_a_sum_of_its_own(path: Path) -> None:
    with SpendingStore(path) as store:
        store.add(CHARGE)
        store.add(replace(CHARGE, is_counted=False, cost_picousd=9))
        spent = store.of_purpose("9:6236/")
        total = store.total_picousd()
    assert (spent.counted.n_requests, spent.uncounted.n_requests) == (1, 1)
    assert spent.uncounted.cost_picousd == 9
    assert total == 12_345_678_901 + 9


def test_a_sum_with_an_unknown_price_in_it_has_no_cost(path: Path) -> None:
    with SpendingStore(path) as store:
        store.add(CHARGE)
        store.add(replace(CHARGE, cost_picousd=None))
        assert store.of_purpose().counted == UnitCost(2, 200, 80, 14, None)
        assert store.total_picousd() == 12_345_678_901  # all that has a price


@pytest.mark.parametrize("purpose", ["100%/x", "a_b/x", "ü/x", "", "x\U0010fffe"])
def test_a_purpose_may_hold_any_text(path: Path, purpose: str) -> None:
    with SpendingStore(path) as store:
        store.add(replace(CHARGE, purpose=purpose))
        store.add(replace(CHARGE, purpose="zzz"))
        assert store.of_purpose(purpose[:3] or "zz").counted.n_requests == 1
        assert store.of_purpose().counted.n_requests == 2


def test_another_process_reads_while_this_one_writes(path: Path) -> None:
    with SpendingStore(path) as writer, SpendingStore(path) as reader:
        for n in range(1, 4):
            writer.add(CHARGE)
            assert reader.of_purpose().counted.n_requests == n


def test_a_killed_process_leaves_all_that_it_had_logged(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert done.returncode == -9
    with SpendingStore(path) as store:
        assert store.total_picousd() == 150
        assert store.of_purpose().counted.n_requests == 50


def test_it_may_share_the_file_of_the_answers(path: Path) -> None:
    with SqliteResponseCache(path) as cache, SpendingStore(path) as store:
        cache.write("key", "answer")
        store.add(CHARGE)
        assert cache.read("key") == "answer"
        assert store.of_purpose().counted.n_requests == 1


def test_a_file_that_is_no_database_is_refused_in_one_line(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database, but long enough to be taken for the head of one" * 20)
    with pytest.raises(StoreError, match=r"spending\.sqlite: file is not a database"):
        SpendingStore(path)
