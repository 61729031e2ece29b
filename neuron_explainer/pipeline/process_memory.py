"""How much memory this process has taken, where the activations are, and how much it may take."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch

from neuron_explainer.pipeline.machine import available_memory_bytes

DEFAULT_SHARE = 0.8
"""Of what is available, when nobody says how much may be taken."""


def memory_budget_bytes(memory_gb: float | None, device: torch.device) -> float:
    """The most that the process may hold, its program and model included."""
    if memory_gb is not None:
        return memory_gb * 1e9
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return used_memory_bytes(device) + DEFAULT_SHARE * free
    return used_memory_bytes(device) + DEFAULT_SHARE * available_memory_bytes()


def used_memory_bytes(device: torch.device) -> float:
    """What the process holds now: of the accelerator's memory when it works there."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except FileNotFoundError:  # not Linux: the most there was is the closest to be had
        return peak_memory_bytes(device)
    return pages * resource.getpagesize()


def peak_memory_bytes(device: torch.device) -> float:
    """The most that the process has held so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
