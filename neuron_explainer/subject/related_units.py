"""The units before and behind a unit that are closest to it by weights alone.

Bills et al. 2023, "related neurons": W_out[:, n1] · diag(g) · W_in[n2, :] for a unit n1 of an
earlier layer and n2 of a later one, with g the gain of the norm before the later one's MLP. It
leaves out what the norm divides by, the mean that a LayerNorm takes away, attention, and all that
the layers between make of the unit's output.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from neuron_explainer.subject.model import Subject
from neuron_explainer.subject.weights import input_weights, output_weights


class WeightedUnit(NamedTuple):
    layer: int
    neuron: int
    weight: float


class Strongest(NamedTuple):
    """Of one direction; the strongest first."""

    positive: tuple[WeightedUnit, ...]
    negative: tuple[WeightedUnit, ...]


class Related(NamedTuple):
    upstream: Strongest
    """Of earlier layers: what feeds the unit."""
    downstream: Strongest
    """Of later layers: what the unit feeds."""


@torch.inference_mode()
def find_related(subject: Subject, layer: int, neuron: int, k: int = 10) -> Related:
    """The k of the largest and the k of the smallest weight each way.

    SubjectError for an architecture whose input projection is not known.
    """
    read = input_weights(subject, layer, [neuron])[0]  # (d_model,)
    written = output_weights(subject, layer, [neuron])[0]  # (d_model,)
    upstream = {i: output_weights(subject, i) @ read for i in range(layer)}
    downstream = {
        i: input_weights(subject, i) @ written for i in range(layer + 1, subject.n_layers)
    }
    return Related(_strongest(upstream, k), _strongest(downstream, k))


def _strongest(by_layer: dict[int, Tensor], k: int) -> Strongest:
    """by_layer: (neuron,) each."""
    return Strongest(
        tuple(one for one in _top(by_layer, k, sign=1) if one.weight > 0),
        tuple(one for one in _top(by_layer, k, sign=-1) if one.weight < 0),
    )


def _top(by_layer: dict[int, Tensor], k: int, sign: int) -> list[WeightedUnit]:
    found = []
    for layer, weights in by_layer.items():
        top = (weights * sign).topk(min(k, len(weights)))
        found += [
            WeightedUnit(layer, neuron, value * sign)
            for value, neuron in zip(top.values.tolist(), top.indices.tolist(), strict=True)
        ]
    return sorted(found, key=lambda one: (-sign * one.weight, one.layer, one.neuron))[:k]
