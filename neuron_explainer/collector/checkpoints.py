"""How far a collection has come, on disk: a cursor, and the state of every layer being read.

    cursor.json     Cursor; written last, names the folder that holds the states
    00000012/       layer_007.safetensors: the tensors of that layer's state

A process that is killed while it writes leaves the cursor on the folder before.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from neuron_explainer.collector.plans import MIN_INTERVAL_S
from neuron_explainer.errors import StoreError
from neuron_explainer.stores import atomic

Tensors = Mapping[str, Tensor]
FIT, RECORD = "fit", "record"
MAX_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Cursor:
    """What is done already."""

    finished: tuple[int, ...] = ()
    """Layers whose files are written."""
    group: tuple[int, ...] = ()
    """Layers being read together."""
    phase: str = FIT
    n_blocks: int = 0
    """Of the phase."""
    folder: str = ""
    """Of the group's states; none when none of its blocks was saved."""


class Checkpoints:
    """The one checkpoint of a collection."""

    def __init__(
        self, folder: Path, min_interval_s: float = MIN_INTERVAL_S, max_share: float = MAX_SHARE
    ) -> None:
        """max_share: of the time, that saving may take."""
        self.folder = folder
        self.cursor = self._read()
        self._min_interval_s = min_interval_s
        self._max_share = max_share
        self._due = time.monotonic() + min_interval_s

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._due

    def save(self, cursor: Cursor, states: Mapping[int, Tensors]) -> None:
        """The states of the layers being read, then the cursor; then the one before is dropped."""
        started = time.monotonic()
        name = ""
        if states:
            name = f"{int(self.cursor.folder or 0) + 1:08d}"
            shutil.rmtree(self.folder / name, ignore_errors=True)  # left by a kill
            for layer, tensors in states.items():
                save_tensors(self._file(name, layer), tensors)
        self.cursor = replace(cursor, folder=name)
        atomic.write_text(self.folder / "cursor.json", json.dumps(asdict(self.cursor)))
        self._drop_others()
        took_s = time.monotonic() - started
        self._due = time.monotonic() + max(self._min_interval_s, took_s / self._max_share)

    def load(self, layer: int, into: Tensors) -> None:
        """Puts a saved state back; StoreError when it is not the state of these shapes."""
        load_tensors(self._file(self.cursor.folder, layer), into)

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, name: str, layer: int) -> Path:
        return self.folder / name / f"layer_{layer:03d}.safetensors"

    def _read(self) -> Cursor:
        path = self.folder / "cursor.json"
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            lists = {key: tuple(raw[key]) for key in ("finished", "group")}
            return Cursor(**{**raw, **lists})
        except FileNotFoundError:
            return Cursor()
        except (ValueError, TypeError, KeyError) as error:
            raise _damaged(path) from error

    def _drop_others(self) -> None:
        for path in self.folder.iterdir():
            if path.is_dir() and path.name != self.cursor.folder:
                shutil.rmtree(path)


def save_tensors(path: Path, tensors: Tensors) -> None:
    """Whole or not at all; OSError or StoreError when it cannot be written."""
    on_cpu = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    with atomic.replacing(path) as temporary:
        try:
            save_file(on_cpu, temporary)
        except SafetensorError as error:
            raise StoreError(f"cannot write {path}: {error}") from error


def load_tensors(path: Path, into: Tensors) -> None:
    """Copies what `save_tensors` wrote into tensors of the same names and shapes."""
    try:
        saved = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _damaged(path) from error
    shapes = {name: tensor.shape for name, tensor in saved.items()}
    if shapes != {name: tensor.shape for name, tensor in into.items()}:
        raise _damaged(path)
    with torch.inference_mode():
        for name, tensor in into.items():
            tensor.copy_(saved[name])


def _damaged(path: Path) -> StoreError:
    return StoreError(f"{path} is damaged; run `collect --fresh` with the same choices")
