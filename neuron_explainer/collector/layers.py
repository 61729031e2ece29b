"""What is kept of one layer while blocks stream past, in each of the two passes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuron_explainer.collector.moments import PowerSums
from neuron_explainer.collector.sampling import hash_windows
from neuron_explainer.collector.strata import Bands, band_boundaries
from neuron_explainer.collector.token_means import Coverage, TokenSums
from neuron_explainer.collector.top_k import BestWindows, value_keys, values_of, window_ids_of
from neuron_explainer.errors import SubjectError
from neuron_explainer.stores.neuron_store import LayerRecords

FLOAT16_MAX = 65504.0


class Block(NamedTuple):
    """Windows of one length, as one forward pass takes them."""

    tokens: Tensor
    """(window, seq) token ids."""
    ids: Tensor
    """(window,) window ids."""
    places: Tensor
    """(window,) place of each window among those drawn beforehand; -1: not drawn."""

    @property
    def n_tokens(self) -> int:
        return self.tokens.numel()


class Fitted(NamedTuple):
    """What the fit pass hands on to the record pass."""

    boundaries: Tensor
    """(unit, boundary)"""
    centre: Tensor
    """(unit,) mean activation over the fit text."""


class FitLayer:
    """Token sums, and the maxima of the windows drawn for the band boundaries."""

    def __init__(
        self,
        coverage: Coverage,
        n_vocabulary: int,
        n_units: int,
        n_drawn: int,
        device: torch.device,
    ) -> None:
        self.token_sums = TokenSums(coverage, n_vocabulary, n_units, device)
        self._maxima = torch.zeros(n_drawn, n_units, device=device)  # (drawn window, unit)

    def add(self, layer: int, block: Block, activations: Tensor) -> None:
        """activations: (window, seq, unit); SubjectError when one is not finite."""
        _require_finite(layer, self.token_sums.add(block.tokens, activations))
        drawn = block.places >= 0
        if drawn.any():
            self._maxima[block.places[drawn]] = activations[drawn].amax(1).float()

    def fitted(self) -> Fitted:
        return Fitted(band_boundaries(self._maxima), self.token_sums.overall_mean())


class RecordLayer:
    """Top windows, bands, random windows and moments of one layer."""

    def __init__(
        self, fitted: Fitted, *, top_k: int, n_a_band: int, n_random: int, n_ctx: int, seed: int
    ) -> None:
        n_units, device = len(fitted.centre), fitted.centre.device
        self._seed = seed
        self.moments = PowerSums(fitted.centre)
        self.top = BestWindows(n_units, top_k, n_ctx, device)
        self.bands = Bands(fitted.boundaries, n_a_band, n_ctx)
        self.random = torch.zeros(n_random, n_ctx, n_units, device=device)

    def add(self, layer: int, block: Block, activations: Tensor) -> None:
        """activations: (window, seq, unit); SubjectError when one is not finite."""
        maxima = activations.amax(1).float()  # (window, unit)
        _require_finite(layer, maxima)
        _require_finite(layer, self.moments.add(activations))
        self._add_random(block, activations)
        in_top = self._add_top(block, activations, maxima)
        hashes = self._hash(block.ids)
        self.bands.add(activations, maxima, block.ids, hashes, in_top)

    def _add_top(self, block: Block, activations: Tensor, maxima: Tensor) -> Tensor:
        """Which windows are in which unit's top now, (window, unit) bool."""
        keys = value_keys(maxima, block.ids.unsqueeze(1))  # (window, unit)
        unit, window = (keys > self.top.floor).T.nonzero(as_tuple=True)  # by unit
        by_window = activations.transpose(1, 2)  # (window, unit, seq)
        offer = self.top.offer(unit, keys[window, unit], lambda i: by_window[window[i], unit[i]])
        displaced = offer.displaced
        ids = window_ids_of(displaced.keys)
        self.bands.add_displaced(displaced, values_of(displaced.keys), ids, self._hash(ids))
        in_top = torch.zeros_like(maxima, dtype=torch.bool)
        in_top[window, unit] = offer.accepted
        return in_top

    def _add_random(self, block: Block, activations: Tensor) -> None:
        drawn = block.places >= 0
        if drawn.any():
            n_seq = activations.shape[1]
            self.random[block.places[drawn], :n_seq] = activations[drawn].float()

    def _hash(self, ids: Tensor) -> Tensor:
        return hash_windows(ids, self._seed, "band")

    def records(self, random_ids: NDArray[np.int64]) -> LayerRecords:
        """As stored: activations in float16, or float32 when one is beyond float16's range."""
        top_ids, top_rows = self.top.sorted()
        band_ids, band_rows = self.bands.kept.sorted()
        random_rows = self.random.permute(2, 0, 1)  # (unit, random window, seq)
        largest = max(rows.abs().max().item() for rows in (top_rows, band_rows, random_rows))
        dtype = torch.float16 if largest <= FLOAT16_MAX else torch.float32

        def stored(rows: Tensor) -> NDArray[np.floating]:
            array: NDArray[np.floating] = rows.to(dtype).cpu().numpy()
            return array

        n_bands = self.bands.n_bands
        return LayerRecords(
            top_ids=top_ids.cpu().numpy(),
            top_rows=stored(top_rows),
            band_boundaries=self.bands.boundaries.cpu().numpy(),
            band_population=self.bands.population.cpu().numpy(),
            band_ids=band_ids.unflatten(0, (-1, n_bands)).cpu().numpy(),
            band_rows=stored(band_rows.unflatten(0, (-1, n_bands))),
            random_rows=stored(random_rows),
            random_ids=random_ids,
            moments=torch.stack(self.moments.moments(), dim=1).cpu().numpy(),
        )


def _require_finite(layer: int, values: Tensor) -> None:
    """Of a block's sums or maxima: one activation that is not finite makes them so too."""
    if not values.isfinite().all():
        raise SubjectError(
            f"layer {layer} gave activations that are not finite; try --dtype float32"
        )
