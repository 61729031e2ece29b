"""What every test shares: one thread (tiny tensors), and the marks that skip with a reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_configure() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # of what tests start
    torch.set_num_threads(1)
    torch.set_warn_always(True)  # else a warning is an error in the first test that meets it alone


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if SHARED_DATA.is_dir():
        return
    skip = pytest.mark.skip(reason=f"no shared data folder at {SHARED_DATA}")
    for item in items:
        if "shared_data" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of shared data; only for tests with the mark of that name."""
    return SHARED_DATA
