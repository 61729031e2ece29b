"""What torch computes with: threads, accelerators, and what `auto` resolves to."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from neuron_explainer.pipeline.check import Check, as_size, note, ok, problem


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One device beside the CPU."""

    name: str
    """As the driver calls it."""
    total_bytes: int | None
    """None where torch does not tell."""
    free_bytes: int | None


@dataclass(frozen=True, slots=True)
class Devices:
    """What torch says of itself."""

    torch_version: str
    built_for: str | None
    """`CUDA 13.0`, `ROCm 7.0`; None for a build without."""
    n_threads: int
    kind: str
    """`cpu`, or the kind of the accelerators: what `--device auto` means."""
    accelerators: tuple[Accelerator, ...]
    complaint: str | None
    """The first warning on the way, such as a driver that is too old."""

    @property
    def auto_dtype(self) -> str:
        """What `--dtype auto` means."""
        return "float32" if self.kind == "cpu" else "bfloat16"


def read_devices(torch: Any) -> Devices:
    """`torch`: the module. RuntimeError where a driver fails."""
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        found = torch.accelerator.current_accelerator(check_available=True)
        kind = "cpu" if found is None else str(found.type)
        n_devices = 0 if found is None else torch.accelerator.device_count()
        accelerators = tuple(_read_accelerator(torch, kind, i) for i in range(n_devices))
    return Devices(
        torch_version=str(torch.__version__),
        built_for=_built_for(torch.version),
        n_threads=torch.get_num_threads(),
        kind=kind,
        accelerators=accelerators,
        complaint=next((str(c.message).splitlines()[0] for c in complaints), None),
    )


def check_devices(
    devices: Devices,
    n_cores: int,
    fast_bfloat16: str | None,
    nvidia_driver: bool,
    environ: Mapping[str, str],
) -> Iterator[Check]:
    """fast_bfloat16: as `machine.fast_bfloat16` says; nvidia_driver: whether one is loaded."""
    yield _check_cores(devices.n_threads, n_cores, environ.get("OMP_NUM_THREADS"))
    yield _check_accelerators(devices, nvidia_driver, environ.get("CUDA_VISIBLE_DEVICES"))
    yield ok("auto", f"--device auto is {devices.kind}, --dtype auto is {devices.auto_dtype} on it")
    if devices.kind == "cpu":
        yield _check_bfloat16(fast_bfloat16)


def _check_cores(n_threads: int, n_cores: int, omp: str | None) -> Check:
    name = "cores"
    found = f"{n_cores} for this process, {n_threads} used by torch"
    if n_threads > n_cores:
        return note(name, found, f"set OMP_NUM_THREADS={n_cores}; threads without a core cost time")
    if omp is not None and n_threads < n_cores:
        return note(name, f"{found} (OMP_NUM_THREADS is {omp})", "unset it to use them all")
    return ok(name, found)


def _check_accelerators(devices: Devices, nvidia_driver: bool, visible: str | None) -> Check:
    name = "accelerator"
    if devices.accelerators:
        return ok(name, ", ".join(map(_describe, devices.accelerators)))
    if not nvidia_driver:
        return ok(name, "none; the CPU does the work")
    if devices.built_for is None:
        found = f"an NVIDIA driver is loaded, and torch {devices.torch_version} cannot use it"
        return note(name, found, "install the torch build for your CUDA, see pytorch.org")
    if visible is not None:
        found = f"the GPUs are hidden: CUDA_VISIBLE_DEVICES is {visible!r}"
        return note(name, found, "unset it to use them")
    why = f" ({devices.complaint})" if devices.complaint else ""
    found = f"torch for {devices.built_for} cannot use the NVIDIA driver{why}"
    return problem(name, found, "update the driver, or install torch for an older CUDA")


def _check_bfloat16(flag: str | None) -> Check:
    if flag is None:
        return ok("bfloat16", "no instructions for it on this CPU; float32 is the faster choice")
    return note(
        "bfloat16",
        f"this CPU multiplies it in hardware ({flag})",
        "--dtype bfloat16 is the faster choice; it rounds the activations",
    )


def _describe(accelerator: Accelerator) -> str:
    total, free = accelerator.total_bytes, accelerator.free_bytes
    if total is None:
        return accelerator.name
    free_part = "" if free is None else f", {as_size(free)} free"
    return f"{accelerator.name} ({as_size(total)}{free_part})"


def _built_for(version: Any) -> str | None:
    """version: `torch.version`."""
    for label, field in (("CUDA", "cuda"), ("ROCm", "hip"), ("XPU", "xpu")):
        if getattr(version, field, None):
            return f"{label} {getattr(version, field)}"
    return None


def _read_accelerator(torch: Any, kind: str, index: int) -> Accelerator:
    module = torch.get_device_module(kind)
    if not hasattr(module, "get_device_properties"):  # Apple's has none
        return Accelerator(kind, None, None)
    properties = module.get_device_properties(index)
    free = module.mem_get_info(index)[0] if hasattr(module, "mem_get_info") else None
    return Accelerator(str(properties.name), int(properties.total_memory), free)
