"""Tensors of a safetensors file, of each as many of its first axis as are asked for.

The format: 8 bytes with the length of the header, the header in JSON (of each tensor its dtype, its
shape, and where its bytes begin and end behind the header), the tensors' bytes. All little-endian.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuron_explainer.stores.placed_file import PlacedFile
from neuron_explainer.stores.store_manifest import damaged

DTYPES = {
    "F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8", "U8": "|u1",
}  # fmt: skip
"""Those that stores are written with."""
N_LENGTH_BYTES = 8


class _Tensor(NamedTuple):
    """Where a tensor lies, and what it is made of."""

    place: int
    """In the file, in bytes."""
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def item_bytes(self) -> int:
        """Of one along the first axis."""
        return self.dtype.itemsize * math.prod(self.shape[1:])


class TensorFile:
    """StoreError, which names the file, where it is not whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = PlacedFile(path)
            self._tensors = _read_header(self._file)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise damaged(path) from error

    @property
    def names(self) -> Collection[str]:
        return self._tensors.keys()

    def read(self, name: str) -> NDArray[Any]:
        """All of a tensor, which may be written to."""
        return self.read_items(name, 0, self._tensors[name].shape[0]).copy()

    def read_items(self, name: str, first: int, n: int) -> NDArray[Any]:
        """(n, ...) along the first axis; not to be written to."""
        tensor = self._tensors[name]
        if not 0 <= first <= first + n <= tensor.shape[0]:
            raise damaged(self._path)
        place, n_bytes = tensor.place + first * tensor.item_bytes, n * tensor.item_bytes
        try:
            raw = self._file.read(place, n_bytes)
            return np.frombuffer(raw, tensor.dtype).reshape(n, *tensor.shape[1:])
        except (OSError, ValueError) as error:  # the file was cut while it was open
            raise damaged(self._path) from error


def _read_header(file: PlacedFile) -> dict[str, _Tensor]:
    """ValueError, or another error of what was read, where it is no header of this file."""
    n_header = int.from_bytes(file.read(0, N_LENGTH_BYTES), "little")
    begin = N_LENGTH_BYTES + n_header
    if n_header > file.size_bytes:
        raise ValueError(f"a header of {n_header} bytes")
    header: dict[str, dict[str, Any]] = json.loads(file.read(N_LENGTH_BYTES, n_header))
    header.pop("__metadata__", None)
    tensors = {name: _tensor(fields, begin) for name, fields in header.items()}
    ends = [begin + fields["data_offsets"][1] for fields in header.values()]
    if max(ends, default=begin) != file.size_bytes:
        raise ValueError(f"{file.size_bytes} bytes")
    return tensors


def _tensor(fields: dict[str, Any], begin: int) -> _Tensor:
    """begin: place of the bytes behind the header."""
    dtype, shape = np.dtype(DTYPES[fields["dtype"]]), _shape(fields["shape"])
    first, end = fields["data_offsets"]
    if end - first != dtype.itemsize * math.prod(shape):
        raise ValueError(f"{end - first} bytes for {shape}")
    return _Tensor(begin + first, dtype, shape)


def _shape(numbers: Sequence[int]) -> tuple[int, ...]:
    if not numbers or min(numbers) < 0:
        raise ValueError(f"a shape of {numbers}")
    return tuple(numbers)
