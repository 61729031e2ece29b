"""What is kept of one layer while blocks stream past, in each of the two passes.

Every state names its tensors: a checkpoint saves them and puts them back, and the states of shards
are absorbed by one another.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuron_explainer.collector.moments import PowerSums
from neuron_explainer.collector.plans import BAND_QUANTILES, CollectPlan
from neuron_explainer.collector.sampling import hash_windows
from neuron_explainer.collector.strata import Bands, band_boundaries
from neuron_explainer.collector.sums import sum_rows
from neuron_explainer.collector.token_means import TokenRows, TokenSums
from neuron_explainer.collector.top_k import (
    BestWindows,
    Entries,
    hash_keys,
    least_values_of,
    value_keys,
    values_of,
    window_ids_of,
)
from neuron_explainer.errors import StoreError, SubjectError
from neuron_explainer.stores.neuron_store import LayerRecords

FLOAT16_MAX = 65504.0
LEFT_OUT = -torch.inf
"""Stands in a state's rows where a position does not count."""


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
    """What the drawn fit windows say, which the record pass needs from its first block on."""

    boundaries: Tensor
    """(unit, boundary)"""
    centre: Tensor
    """(unit,) mean activation."""


class FitLayer:
    """Token sums of the fit windows, and maxima and sums of those drawn for the bands."""

    def __init__(self, rows: TokenRows, n_units: int, n_drawn: int, device: torch.device) -> None:
        self.token_sums = TokenSums(rows, n_units, device)
        self._maxima = torch.zeros(n_drawn, n_units, device=device)  # (drawn window, unit)
        self._drawn_sums = torch.zeros(n_units, dtype=torch.float64, device=device)
        self._n_drawn_tokens = torch.zeros(1, dtype=torch.int64, device=device)

    def tensors(self) -> dict[str, Tensor]:
        return {
            **self.token_sums.tensors(),
            "drawn_maxima": self._maxima,
            "drawn_sums": self._drawn_sums,
            "n_drawn_tokens": self._n_drawn_tokens,
        }

    def add(self, layer: int, block: Block, activations: Tensor, counted: Tensor | None) -> None:
        """activations: (window, seq, unit); SubjectError when one is not finite."""
        tokens, flat = _counted_only(block.tokens, activations, counted)
        _require_finite(layer, activations, self.token_sums.add(tokens, flat))

    def draw(self, layer: int, block: Block, activations: Tensor, counted: Tensor | None) -> None:
        """A block of windows that were all drawn."""
        _, flat = _counted_only(block.tokens, activations, counted)
        sums = sum_rows(flat.float())  # (unit,)
        _require_finite(layer, activations, sums)
        self._drawn_sums += sums
        self._n_drawn_tokens += len(flat)
        self._maxima[block.places] = _mark(activations, counted).amax(1).float()

    def fitted(self) -> Fitted:
        centre = self._drawn_sums / self._n_drawn_tokens.clamp_min(1)
        return Fitted(band_boundaries(self._maxima), centre.float())

    def absorb(self, other: Self) -> None:
        """Adds the sums of another shard, which drew the same windows."""
        if not torch.equal(self._maxima, other._maxima):
            raise StoreError(
                "the shards' activations differ on the same windows; collect them all with the "
                "same kind of processor and the same versions"
            )
        self.token_sums.absorb(other.token_sums)


class RecordLayer:
    """Top windows, bands, random windows and moments of one layer."""

    def __init__(self, fitted: Fitted, plan: CollectPlan, n_random: int) -> None:
        """n_random: windows that were drawn, which are fewer than wished in a small corpus."""
        n_units, device = len(fitted.centre), fitted.centre.device
        self._seed = plan.seed
        self._centre = fitted.centre
        self.moments = PowerSums(fitted.centre)
        self.top = BestWindows(n_units, plan.top_k, plan.n_ctx, device)
        self.bands = Bands(fitted.boundaries, plan.n_a_band, plan.n_ctx)
        self.random = torch.zeros(n_random, plan.n_ctx, n_units, device=device)
        self._random_seen = torch.zeros(n_random, dtype=torch.bool, device=device)

    @classmethod
    def empty(
        cls, n_units: int, plan: CollectPlan, n_random: int, device: torch.device
    ) -> RecordLayer:
        """With room for a state that is read back."""
        boundaries = torch.zeros(n_units, len(BAND_QUANTILES), device=device)
        return cls(Fitted(boundaries, torch.zeros(n_units, device=device)), plan, n_random)

    def tensors(self) -> dict[str, Tensor]:
        return {
            "centre": self._centre,
            **self.moments.tensors(),
            **{f"top_{name}": tensor for name, tensor in self.top.tensors().items()},
            **self.bands.tensors(),
            "random_rows": self.random,
            "random_seen": self._random_seen,
        }

    def add(self, layer: int, block: Block, activations: Tensor, counted: Tensor | None) -> None:
        """activations: (window, seq, unit); SubjectError when one is not finite."""
        _, flat = _counted_only(block.tokens, activations, counted)
        _require_finite(layer, activations, self.moments.add(flat))
        marked = _mark(activations, counted)
        self._add_random(block, marked)
        self._add_windows(block, marked.transpose(1, 2), marked.amax(1).float())

    def _add_windows(self, block: Block, by_unit: Tensor, maxima: Tensor) -> None:
        """by_unit: (window, unit, seq); maxima: (window, unit), LEFT_OUT where nothing counts."""
        beats = maxima >= least_values_of(self.top.floor)
        unit, window = beats.T.nonzero(as_tuple=True)  # by unit
        keys = value_keys(maxima[window, unit], block.ids[window])
        offer = self.top.offer(unit, keys, lambda i: by_unit[window[i], unit[i]])
        self._hand_on(offer.displaced)
        self.bands.add(
            maxima,
            self._band_keys(block.ids),
            lambda windows, units: by_unit[windows, units],
            in_top=(window[offer.accepted], unit[offer.accepted]),
        )

    def _hand_on(self, displaced: Entries) -> None:
        """What the top lets go belongs to a band."""
        ids = window_ids_of(displaced.keys)
        self.bands.add_displaced(displaced, values_of(displaced.keys), self._band_keys(ids))

    def _band_keys(self, ids: Tensor) -> Tensor:
        return hash_keys(hash_windows(ids, self._seed, "band"), ids)

    def _add_random(self, block: Block, activations: Tensor) -> None:
        drawn = block.places >= 0
        if drawn.any():
            n_seq = activations.shape[1]
            self.random[block.places[drawn], :n_seq] = activations[drawn].float()
            self._random_seen[block.places[drawn]] = True

    def absorb(self, other: Self) -> None:
        """Adds what another shard kept of other windows, with the same boundaries."""
        self.moments.absorb(other.moments)
        entries = other.top.entries()
        offer = self.top.offer(entries.groups, entries.keys, lambda i: entries.rows[i])
        self._hand_on(entries.where(~offer.accepted))
        self._hand_on(offer.displaced)
        self.bands.absorb(other.bands)
        self.random[other._random_seen] = other.random[other._random_seen]
        self._random_seen |= other._random_seen

    def records(self, random_ids: NDArray[np.int64]) -> LayerRecords:
        """As stored: activations in float16, or float32 when one is beyond float16's range."""
        top_ids, top_rows = self.top.sorted()
        band_ids, band_rows = self.bands.kept.sorted()
        random_rows = self.random.permute(2, 0, 1)  # (unit, random window, seq)
        largest = max(_largest(rows) for rows in (top_rows, band_rows, random_rows))
        dtype = torch.float16 if largest <= FLOAT16_MAX else torch.float32
        n_bands = self.bands.n_bands
        return LayerRecords(
            top_ids=top_ids.cpu().numpy(),
            top_rows=top_rows.to(dtype).cpu().numpy(),
            band_boundaries=self.bands.boundaries.cpu().numpy(),
            band_population=self.bands.population.cpu().numpy(),
            band_ids=band_ids.unflatten(0, (-1, n_bands)).cpu().numpy(),
            band_rows=band_rows.unflatten(0, (-1, n_bands)).to(dtype).cpu().numpy(),
            random_rows=random_rows.to(dtype).cpu().numpy(),
            random_ids=random_ids,
            moments=torch.stack(self.moments.moments(), dim=1).cpu().numpy(),
            n_counted=self.moments.n_tokens.cpu().numpy(),
            n_positive=self.moments.n_positive.cpu().numpy(),
        )


def _counted_only(
    tokens: Tensor, activations: Tensor, counted: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Tokens, and activations (token, unit), of the positions that count."""
    if counted is None:
        return tokens, activations.flatten(0, 1)
    return tokens[counted], activations[counted]


def _mark(activations: Tensor, counted: Tensor | None) -> Tensor:
    """(window, seq, unit), with LEFT_OUT where a position does not count."""
    if counted is None:
        return activations
    return activations.masked_fill(~counted.unsqueeze(2), LEFT_OUT)


def _largest(rows: Tensor) -> float:
    low, high = rows.aminmax()
    if low == LEFT_OUT:
        low, high = rows.masked_fill(rows == LEFT_OUT, 0).aminmax()
    return max(-low.item(), high.item())


def _require_finite(layer: int, activations: Tensor, sums: Tensor) -> None:
    """Of a block's sums: one activation that is not finite makes them, and their sum, so too."""
    if not sums.sum().isfinite():
        is_whole = activations.dtype == torch.float32
        way_out = "are the weights whole?" if is_whole else "try --dtype float32"
        raise SubjectError(f"layer {layer} gave activations that are not finite; {way_out}")
