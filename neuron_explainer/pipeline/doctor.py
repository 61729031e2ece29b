"""Whether everything is in place: packages, machine, network, one run folder. It only looks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from neuron_explainer.pipeline import machine
from neuron_explainer.pipeline.check import Check, as_size, first_line, note, ok, problem
from neuron_explainer.pipeline.devices import check_devices, read_devices
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.network import (
    Fetch,
    ask_hub,
    ask_index,
    fetch_status,
    read_pip_configs,
)
from neuron_explainer.pipeline.packages import Import, check_imports, check_versions, read_installed
from neuron_explainer.pipeline.run_state import check_run
from neuron_explainer.stores.store_manifest import holds_store

LITTLE_MEMORY = 4_000_000_000
"""The program, the bundled model and the default `--token-means-gb` fill it."""
LITTLE_DISK = 3_000_000_000
"""About what a run of GPT-2 small takes."""
NO_DISK = 200_000_000
"""About what a run of the bundled model takes."""


@dataclass(frozen=True, slots=True)
class Outside:
    """Where doctor looks beside the run folder."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    fetch: Fetch = fetch_status
    import_module: Import = import_module
    root: Path = machine.ROOT
    """Of the file system that holds /proc and /sys."""


def examine(folder: RunFolder, outside: Outside | None = None) -> list[Check]:
    """Every check in the order to read them; a thing that is broken is a finding, not an error."""
    at = outside or Outside()
    ask = [
        ask_hub(at.environ, at.fetch),
        ask_index(at.environ, read_pip_configs(at.environ), at.fetch),
    ]
    installed = read_installed()
    return [
        *check_versions(installed),
        check_imports(installed, at.import_module),
        *_check_devices(at),
        check_memory(machine.available_memory_bytes(at.root), machine.total_memory_bytes(at.root)),
        check_disk(folder, at.root),
        *(answer() for answer in ask),
        *check_run(folder),
    ]


def check_memory(available_bytes: int, total_bytes: int) -> Check:
    """Of the machine, or of the control group, whichever is less."""
    found = f"{as_size(available_bytes)} available of {as_size(total_bytes)}"
    if available_bytes < LITTLE_MEMORY:
        return note("memory", found, "close other programs, or lower --memory-gb")
    return ok("memory", found)


def check_disk(folder: RunFolder, root: Path = machine.ROOT) -> Check:
    """Where the run folder lies, or would."""
    name, path = "disk", folder.path.absolute()
    try:
        place = next(p for p in (path, *path.parents) if p.is_dir())
        free_bytes = shutil.disk_usage(place).free
    except OSError as error:
        return problem(name, f"{path}: {error.strerror}", "use --run with another folder")
    mount = machine.mount_of(place.resolve(), root)
    kind = "" if mount is None else f", {mount.kind}"
    found = f"{as_size(free_bytes)} free in {place}{kind}"
    if not os.access(place, os.W_OK | os.X_OK):
        if holds_store(folder.store):
            return note(name, f"{place} may not be written", "show and scores read it all the same")
        return problem(name, f"{place} may not be written", "use --run with a folder that may be")
    if free_bytes < NO_DISK:
        return problem(name, found, "free some, or use --run on another disk")
    if mount is not None and mount.is_network:
        return note(name, found, "results are not safe on a network disk; use --run on a local one")
    if free_bytes < LITTLE_DISK:
        return note(name, found, "a run of a large model needs more; use --run on another disk")
    return ok(name, found)


def _check_devices(outside: Outside) -> Iterator[Check]:
    try:
        torch = outside.import_module("torch")
    except Exception:  # whatever it raises, `imports` has told of it
        yield note("accelerator", "not known without torch", "see imports")
        return
    try:
        devices = read_devices(torch)
    except (RuntimeError, AttributeError, OSError) as error:
        yield problem("accelerator", f"torch cannot tell ({first_line(error)})", "try --device cpu")
        return
    yield from check_devices(
        devices,
        machine.available_cores(outside.root),
        machine.fast_bfloat16(outside.root),
        (outside.root / "proc/driver/nvidia/version").exists(),
        outside.environ,
    )
