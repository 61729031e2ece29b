"""What torch computes with is told as it is, and what `auto` means is what a model is loaded on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from neuron_explainer.pipeline.check import Check
from neuron_explainer.pipeline.devices import Accelerator, Devices, check_devices, read_devices
from neuron_explainer.subject.model import load_subject
from tests.tiny_models import save_tiny_model

CPU = Devices("2.13.0+cpu", None, n_threads=4, kind="cpu", accelerators=(), complaint=None)
H200 = Accelerator("NVIDIA H200", 150_000_000_000, 140_000_000_000)
GPU = replace(CPU, built_for="CUDA 13.0", kind="cuda", accelerators=(H200,))


def checks(
    devices: Devices = CPU,
    n_cores: int = 4,
    fast_bfloat16: str | None = None,
    nvidia_driver: bool = False,
    **environ: str,
) -> dict[str, Check]:
    found = check_devices(devices, n_cores, fast_bfloat16, nvidia_driver, environ)
    return {check.name: check for check in found}


def test_a_plain_cpu_is_ok() -> None:
    found = checks()
    assert {check.status for check in found.values()} == {"ok"}
    assert found["auto"].found == "--device auto is cpu, --dtype auto is float32 on it"


def test_auto_means_what_a_model_is_loaded_on(tmp_path: Path) -> None:
    subject = load_subject(str(save_tiny_model(tmp_path)))
    devices = read_devices(torch)
    assert (devices.kind, devices.auto_dtype) == (subject.device.type, subject.dtype)
    assert devices.n_threads == torch.get_num_threads()
    assert devices.torch_version == torch.__version__


@pytest.mark.parametrize(
    ("n_threads", "n_cores", "omp", "status"),
    [
        (4, 4, None, "ok"),
        (4, 8, None, "ok"),  # torch leaves the second thread of a core alone
        (1, 8, "1", "note"),
        (8, 8, "8", "ok"),
        (64, 4, None, "note"),
    ],
)
def test_threads_should_be_no_more_than_cores_nor_held_down(
    n_threads: int, n_cores: int, omp: str | None, status: str
) -> None:
    environ = {} if omp is None else {"OMP_NUM_THREADS": omp}
    check = checks(replace(CPU, n_threads=n_threads), n_cores, **environ)["cores"]
    assert check.status == status
    if n_threads > n_cores:
        assert check.todo is not None
        assert f"OMP_NUM_THREADS={n_cores}" in check.todo


def test_accelerators_are_named_with_their_memory() -> None:
    found = checks(replace(GPU, accelerators=(H200, Accelerator("mps", None, None))))
    assert found["accelerator"].status == "ok"
    assert found["accelerator"].found == "NVIDIA H200 (150.0 GB, 140.0 GB free), mps"
    assert found["auto"].found == "--device auto is cuda, --dtype auto is bfloat16 on it"
    assert "bfloat16" not in found


def test_a_gpu_that_this_torch_was_not_built_for_is_a_note() -> None:
    check = checks(nvidia_driver=True)["accelerator"]
    assert check.status == "note"
    assert "2.13.0+cpu" in check.found


def test_a_driver_that_torch_cannot_use_is_a_problem_unless_it_is_hidden() -> None:
    blind = replace(GPU, kind="cpu", accelerators=(), complaint="the driver is too old")
    broken = checks(blind, nvidia_driver=True)["accelerator"]
    assert broken.status == "problem"
    assert "CUDA 13.0" in broken.found
    assert "the driver is too old" in broken.found
    assert (
        checks(blind, nvidia_driver=True, CUDA_VISIBLE_DEVICES="")["accelerator"].status == "note"
    )
    assert checks(blind)["accelerator"].status == "ok"


def test_fast_bfloat16_on_the_cpu_is_worth_a_note() -> None:
    check = checks(fast_bfloat16="amx_bf16")["bfloat16"]
    assert check.status == "note"
    assert "amx_bf16" in check.found
    assert check.todo is not None
    assert "--dtype bfloat16" in check.todo
