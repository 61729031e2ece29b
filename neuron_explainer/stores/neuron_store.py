"""A collection on disk: the windows once, then per layer what was recorded of its units.

    store.json                  StoreManifest; written last, so a store with it is whole
    windows/                    see stores/windows.py
    vocabulary.json             display string of each token id
    token_means.safetensors     ids (row,): which tokens have a row of their own
    layer_007/means.safetensors    token_means (unit, row + 1) float32, the last the shared row;
                                   counts (row + 1,): occurrences in the fit text
    layer_007/records.safetensors  LayerRecords, unit first; for rows with positions that do not
                                   count, one bit each: top_left_out, band_left_out, random_left_out

Unit-major tensors: one unit is a handful of contiguous slices, read by their place. Where units
were chosen, a layer's tensors hold these alone, in the order of their numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Container, ItemsView, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from neuron_explainer.errors import StoreError, UnitNotFound
from neuron_explainer.records.explanation import TokenLookupTable
from neuron_explainer.records.neuron import (
    ActivationRecord,
    Moments,
    NeuronId,
    NeuronRecord,
    Stratum,
)
from neuron_explainer.stores import atomic
from neuron_explainer.stores.store_manifest import (
    MANIFEST,
    StoreManifest,
    damaged,
    read_manifest,
    write_manifest,
)
from neuron_explainer.stores.tensor_file import TensorFile
from neuron_explainer.stores.windows import WindowTable

RECORDS = "records.safetensors"
SHARED = ("random_ids", "counts", "n_counted")
"""Tensors of a layer that all its units share."""
UNITS_AT_ONCE = 1024
"""Whose largest activations are read at once."""
N_TEXTS_KEPT = 2048
"""Windows: the random ones of a layer are those of all its units."""
Value = TypeVar("Value")


class LayerRecords(NamedTuple):
    """One layer's part of a store; window id -1: no window in that place, its row is zeros.

    Rows are activations, -inf where a position does not count.
    """

    top_ids: NDArray[np.int64]
    """(unit, place), by maximum, descending."""
    top_rows: NDArray[np.floating]
    """(unit, place, seq); a window's own length ends its row."""
    band_boundaries: NDArray[np.float32]
    """(unit, band - 1), ascending."""
    band_population: NDArray[np.int64]
    """(unit, band)"""
    band_ids: NDArray[np.int64]
    """(unit, band, place)"""
    band_rows: NDArray[np.floating]
    """(unit, band, place, seq)"""
    random_rows: NDArray[np.floating]
    """(unit, random window, seq)"""
    random_ids: NDArray[np.int64]
    """(random window,), the same for all units."""
    moments: NDArray[np.float64]
    """(unit, 4): mean, variance, third and fourth central moment."""
    n_counted: NDArray[np.int64]
    """(1,) tokens that the moments are over."""
    n_positive: NDArray[np.int64]
    """(unit,) of these, tokens on which the unit is above 0; older stores do not have it."""


class StoreWriter:
    """Fills a folder; it is a store once `finish` has returned."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / MANIFEST).unlink(missing_ok=True)

    @property
    def windows_folder(self) -> Path:
        return self.folder / "windows"

    def write_vocabulary(self, display: tuple[str, ...]) -> None:
        text = json.dumps(display, ensure_ascii=False)
        atomic.write_text(self.folder / "vocabulary.json", text)

    def write_coverage(self, token_ids: NDArray[np.int64]) -> None:
        """token_ids: (row,)."""
        _save(self.folder / "token_means.safetensors", {"ids": token_ids})

    def write_token_means(
        self, layer: int, means: NDArray[np.float32], counts: NDArray[np.int64]
    ) -> None:
        """means: (unit, row + 1); counts: (row + 1,)."""
        path = _layer_folder(self.folder, layer) / "means.safetensors"
        _save(path, {"token_means": means, "counts": counts})

    def write_records(self, layer: int, records: LayerRecords) -> None:
        tensors = records._asdict()
        for name in ("top", "band", "random"):
            rows = tensors[f"{name}_rows"]
            is_left_out = np.isneginf(rows)
            if is_left_out.any():
                tensors[f"{name}_rows"] = np.where(is_left_out, rows.dtype.type(0), rows)
                tensors[f"{name}_left_out"] = np.packbits(is_left_out, axis=-1)
        _save(_layer_folder(self.folder, layer) / RECORDS, tensors)

    def finish(self, manifest: StoreManifest) -> None:
        write_manifest(self.folder, manifest)


class NeuronStore:
    """Read access to a finished store: one unit is read without the rest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        self.units = self.manifest.units
        self.windows = WindowTable(folder / "windows")
        self._open_files: dict[Path, TensorFile] = {}

    def neuron_ids(self) -> Iterator[NeuronId]:
        """Every unit that was collected, layer by layer."""
        yield from self.units

    def read_neuron(self, neuron_id: NeuronId) -> NeuronRecord:
        """All that was recorded of one unit; UnitNotFound when it is not in the store."""
        unit = self._read_unit(neuron_id, RECORDS)
        with self._sound(neuron_id):
            taken = {*unit["top_ids"].tolist(), *unit["band_ids"].flatten().tolist()}
            return NeuronRecord(
                neuron_id=neuron_id,
                top=self._records(unit["top_ids"], _rows(unit, "top")),
                strata=self._strata(unit),
                random=self._records(unit["random_ids"], _rows(unit, "random"), skip=taken),
                moments=_moments(int(unit["n_counted"][0]), unit["moments"]),
                density=_density(unit.get("n_positive"), int(unit["n_counted"][0])),
            )

    def read_density(self, neuron_id: NeuronId) -> float | None:
        """`NeuronRecord.density` without the rest of the record."""
        unit = self._read_unit(neuron_id, RECORDS, ("n_counted", "n_positive"))
        with self._sound(neuron_id):
            return _density(unit.get("n_positive"), int(unit["n_counted"][0]))

    def read_maxima(self, layer: int) -> NDArray[np.float32]:
        """(unit,) `NeuronRecord.max_activation` of all units of a layer, in order; at least 0."""
        path = _layer_folder(self.folder, layer) / RECORDS
        file = self._file(path)
        names = [name for name in ("top_rows", "top_left_out") if name in file.names]
        maxima = np.zeros(len(self.units.of_layer(layer)), np.float32)
        try:
            for first in range(0, len(maxima), UNITS_AT_ONCE):
                n = min(UNITS_AT_ONCE, len(maxima) - first)
                some = {name: file.read_items(name, first, n)[:, :1] for name in names}
                rows = _rows(some, "top")  # (unit, 1, seq)
                maxima[first : first + n] = rows.max(axis=(1, 2), initial=0.0)
        except (LookupError, ValueError) as error:
            raise damaged(path) from error
        return maxima

    def read_token_lookup(self, neuron_id: NeuronId) -> TokenLookupTable:
        """The unit's mean activation by token, fitted on the fit documents alone."""
        unit = self._read_unit(neuron_id, "means.safetensors")
        with self._sound(neuron_id):
            means = unit["token_means"].tolist()
            return TokenLookupTable(
                mean_by_token=_Columns(self._column_of, means),
                count_by_token=_Columns(self._column_of, unit["counts"].tolist()),
                default=means[-1],
            )

    def read_token_means(self, layer: int, units: Sequence[int]) -> NDArray[np.float32]:
        """(unit, vocabulary) what the token lookup tables of a layer's units say of every token."""
        ids = read_coverage(self.folder)
        means = np.empty((len(units), len(self.vocabulary)), dtype=np.float32)
        for i, unit in enumerate(units):
            neuron_id = NeuronId(layer, unit)
            tensors = self._read_unit(neuron_id, "means.safetensors", ("token_means",))
            with self._sound(neuron_id):
                row = tensors["token_means"]  # (row + 1,)
                means[i] = row[-1]
                means[i, ids] = row[:-1]
        return means

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """Display string of each token id."""
        path = self.folder / "vocabulary.json"
        try:
            return tuple(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise damaged(path) from error

    @cached_property
    def _texts(self) -> Callable[[int], tuple[str, ...]]:
        """A window's tokens as they are shown; those of the windows asked for last are kept."""
        return lru_cache(N_TEXTS_KEPT)(partial(_read_text, self.windows, self.vocabulary))

    @cached_property
    def _column_of(self) -> dict[str, int]:
        ids = read_coverage(self.folder).tolist()
        return {self.vocabulary[token_id]: column for column, token_id in enumerate(ids)}

    def _read_unit(
        self, neuron_id: NeuronId, name: str, wanted: Container[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """The unit's part of each tensor of a file, or of those wanted that it has."""
        row = self._row_of(neuron_id)
        file = self._file(_layer_folder(self.folder, neuron_id.layer_index) / name)
        return {
            key: file.read(key) if key in SHARED else file.read_items(key, row, 1)[0]
            for key in file.names
            if wanted is None or key in wanted
        }

    @contextmanager
    def _sound(self, neuron_id: NeuronId) -> Iterator[None]:
        """StoreError where files that can be opened do not fit one another."""
        try:
            yield
        except (LookupError, ValueError, TypeError, OverflowError) as error:
            raise StoreError(
                f"{self.folder}: what it holds of neuron {neuron_id} is damaged ({error}); "
                "run `collect --fresh` with the same choices"
            ) from error

    def _row_of(self, neuron_id: NeuronId) -> int:
        """In the layer's tensors; UnitNotFound says what there is instead."""
        row = self.units.row_of(neuron_id)
        if row is not None:
            return row
        n_a_layer, layers = self.units.n_a_layer, self.units.layers
        if neuron_id.neuron_index >= n_a_layer:
            raise UnitNotFound(f"no neuron {neuron_id}: a layer has neurons 0..{n_a_layer - 1}")
        if self.units.chosen is not None:
            raise UnitNotFound(
                f"neuron {neuron_id} was not collected; the collection holds "
                f"{self.units.sentence()}"
            )
        raise UnitNotFound(
            f"layer {neuron_id.layer_index} was not collected; the collection has layers "
            f"{', '.join(map(str, layers))} (`collect --layers` takes others)"
        )

    def _file(self, path: Path) -> TensorFile:
        if path not in self._open_files:
            self._open_files[path] = TensorFile(path)
        return self._open_files[path]

    def _records(
        self,
        window_ids: NDArray[np.int64],
        rows: NDArray[np.floating],
        skip: frozenset[int] | set[int] = frozenset(),
    ) -> tuple[ActivationRecord, ...]:
        """window_ids: (place,); rows: (place, seq). A window of which nothing counts is none."""
        records = []
        for window_id, row in zip(window_ids.tolist(), rows.tolist(), strict=True):
            if window_id < 0 or window_id in skip:
                continue
            tokens = self._texts(window_id)
            values: list[float | None] = row[: len(tokens)]
            n_left_out = values.count(-math.inf)
            if n_left_out == len(values):
                continue
            if n_left_out:
                values = [None if value == -math.inf else value for value in values]
            records.append(ActivationRecord(tokens, tuple(values)))
        return tuple(records)

    def _strata(self, unit: Mapping[str, NDArray[Any]]) -> tuple[Stratum, ...]:
        edges = [None, *unit["band_boundaries"].tolist(), None]
        return tuple(
            Stratum(edges[band], edges[band + 1], int(population), self._records(ids, rows))
            for band, (population, ids, rows) in enumerate(
                zip(unit["band_population"], unit["band_ids"], _rows(unit, "band"), strict=True)
            )
        )


class _Columns(Mapping[str, Value]):
    """One unit's row of a table, by token: the index is shared by all units."""

    def __init__(self, column_of: Mapping[str, int], values: Sequence[Value]) -> None:
        """values: one a column; what lies beyond the last column is not looked at."""
        self._column_of = column_of
        self._values = values

    def __getitem__(self, token: str) -> Value:
        return self._values[self._column_of[token]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._column_of)

    def __len__(self) -> int:
        return len(self._column_of)

    def items(self) -> ItemsView[str, Value]:
        return dict(zip(self._column_of, self._values, strict=False)).items()


def _read_text(windows: WindowTable, vocabulary: Sequence[str], window_id: int) -> tuple[str, ...]:
    """IndexError for a token that the vocabulary does not have."""
    tokens = windows.tokens(window_id).tolist()
    if min(tokens) < 0:
        raise IndexError(f"token {min(tokens)}")
    return tuple(map(vocabulary.__getitem__, tokens))


def read_coverage(folder: Path) -> NDArray[np.int64]:
    """(row,) the token ids that have a mean of their own."""
    path = folder / "token_means.safetensors"
    try:
        token_ids: NDArray[np.int64] = TensorFile(path).read("ids")
    except LookupError as error:
        raise damaged(path) from error
    return token_ids


def _save(path: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    with atomic.replacing(path) as temporary:
        whole = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
        try:
            save_file(whole, temporary)
        except SafetensorError as error:
            raise StoreError(
                f"cannot write {path} ({error}); see to the disk, then give the same command again"
            ) from error


def _rows(unit: Mapping[str, NDArray[Any]], name: str) -> NDArray[np.floating]:
    """(..., seq) activations, -inf where a position does not count."""
    rows = unit[f"{name}_rows"]
    packed = unit.get(f"{name}_left_out")
    if packed is None:
        return rows
    is_left_out = np.unpackbits(packed, axis=-1, count=rows.shape[-1]).astype(bool)
    return np.where(is_left_out, rows.dtype.type(-np.inf), rows)


def _moments(n_tokens: int, values: NDArray[np.float64]) -> Moments:
    """values: (4,) mean, variance, third and fourth central moment."""
    mean, variance, third, fourth = values.tolist()
    is_constant = variance == 0
    return Moments(
        n_tokens=n_tokens,
        mean=mean,
        variance=variance,
        skewness=None if is_constant else third / variance**1.5,
        kurtosis=None if is_constant else fourth / variance**2,
    )


def _density(n_positive: Any, n_counted: int) -> float | None:
    """n_positive: a number of numpy's; None: the store is of before it was counted."""
    return None if n_positive is None or n_counted == 0 else int(n_positive) / n_counted


def _layer_folder(folder: Path, layer: int) -> Path:
    return folder / f"layer_{layer:03d}"
