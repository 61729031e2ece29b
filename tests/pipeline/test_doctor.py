"""Doctor puts all checks together; one broken thing is a finding, and the rest is still told."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from neuron_explainer.pipeline import doctor
from neuron_explainer.pipeline.check import Check
from neuron_explainer.pipeline.doctor import Outside, check_disk, check_memory, examine
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.stores.store_manifest import MANIFEST

GB = 1_000_000_000
NAMES = ["python", "neuron-explainer", "torch", "imports", "cores", "accelerator", "auto",
         "memory", "disk", "model hub", "package index", "run folder"]  # fmt: skip


def unreachable(_url: str, _timeout_s: float) -> int:
    raise TimeoutError


def without_torch(name: str) -> Any:
    if name in ("torch", "transformers"):
        raise OSError("libtorch.so: cannot open shared object file")
    return importlib.import_module(name)


def examined(path: Path, outside: Outside) -> dict[str, Check]:
    found = examine(RunFolder(path), outside)
    assert len({check.name for check in found}) == len(found)
    assert all((check.todo is None) == (check.status == "ok") for check in found)
    assert all("\n" not in f"{check.found}{check.todo}" for check in found)
    return {check.name: check for check in found}


def test_everything_is_looked_at_once_and_nothing_is_made(tmp_path: Path) -> None:
    found = examined(tmp_path / "run", Outside(fetch=lambda *_: 200, environ={}))
    assert set(NAMES) <= set(found)
    assert found["imports"].status == "ok"
    assert {found[name].status for name in ("model hub", "package index")} == {"ok"}
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_there_is_no_problem(tmp_path: Path) -> None:
    found = examined(tmp_path / "run", Outside(fetch=unreachable, environ={}))
    assert {found[name].status for name in ("model hub", "package index")} == {"note"}
    assert "problem" not in {check.status for check in found.values()}


def test_without_torch_the_rest_is_told(tmp_path: Path) -> None:
    outside = Outside({}, unreachable, without_torch, root=tmp_path)
    found = examined(tmp_path / "run", outside)
    assert found["imports"].status == "problem"
    assert found["accelerator"].status == "note"
    assert {"memory", "disk", "run folder"} <= set(found)


def test_it_is_loaded_without_torch() -> None:
    code = "import sys, neuron_explainer.pipeline.doctor; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_driver_that_fails_is_a_problem(tmp_path: Path) -> None:
    def fails(**_: bool) -> None:
        raise RuntimeError("CUDA error: unknown error\nand more")

    broken = SimpleNamespace(accelerator=SimpleNamespace(current_accelerator=fails))
    found = examined(tmp_path, Outside({}, unreachable, lambda _: broken))
    assert found["accelerator"].status == "problem"
    assert "CUDA error: unknown error" in found["accelerator"].found


@pytest.mark.parametrize(("available", "status"), [(20 * GB, "ok"), (1 * GB, "note")])
def test_little_memory_is_a_note(available: int, status: str) -> None:
    check = check_memory(available, 32 * GB)
    assert check.status == status
    assert "32.0 GB" in check.found


@pytest.mark.parametrize(
    ("free_bytes", "status"), [(50 * GB, "ok"), (GB, "note"), (GB // 10, "problem")]
)
def test_little_disk_is_a_note_and_none_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: int, status: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free_bytes))
    assert check_disk(RunFolder(tmp_path / "a/b/run")).status == status


def test_a_network_disk_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/mounts").write_text("server:/x / nfs4 rw 0 0\n")
    check = check_disk(RunFolder(tmp_path / "run"), root=tmp_path)
    assert check.status == "note"
    assert "nfs4" in check.found


def test_a_folder_that_may_not_be_written_is_a_problem_unless_it_is_to_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    assert check_disk(RunFolder(tmp_path)).status == "problem"
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / MANIFEST).touch()
    assert check_disk(RunFolder(tmp_path)).status == "note"
