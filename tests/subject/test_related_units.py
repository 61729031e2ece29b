"""Related units are those of the written-out product of weights, in every architecture."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from neuron_explainer.errors import SubjectError
from neuron_explainer.subject.model import Subject
from neuron_explainer.subject.related_units import find_related
from neuron_explainer.subject.weights import READS, input_weights, output_weights
from tests.subject.test_families import FAMILIES
from tests.subject.test_output_tokens import with_odd_gains

LAYER, NEURON = 1, 5


def read_by(subject: Subject, layer: int, stream: Tensor) -> Tensor:
    """(neuron,) what goes into the neurons of a layer for a residual stream, the norm included."""
    norm, projection = READS[subject.model.config.model_type]
    block: Any = subject.layer_module(layer)
    out: Tensor = block.get_submodule(projection)(block.get_submodule(norm)(stream))
    return out


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_input_weights_are_what_the_norm_and_the_projection_do_together(name: str) -> None:
    subject = with_odd_gains(name)
    d_model = input_weights(subject, LAYER, [0]).shape[1]
    stream = torch.randn(d_model, generator=torch.Generator().manual_seed(0))
    stream = (stream - stream.mean()) / stream.std(correction=0)  # no norm changes its length
    half_difference = (read_by(subject, LAYER, stream) - read_by(subject, LAYER, -stream)) / 2
    expected = input_weights(subject, LAYER) @ stream
    torch.testing.assert_close(half_difference, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_related_units_are_the_extremes_of_all_products(name: str) -> None:
    subject = with_odd_gains(name)
    products = {
        (layer, neuron): float(output_weights(subject, 0, [0])[0] @ row)
        for layer in range(1, subject.n_layers)
        for neuron, row in enumerate(input_weights(subject, layer))
    }
    found = find_related(subject, 0, 0, k=4)
    ordered = sorted(products, key=lambda unit: -products[unit])
    assert [(u.layer, u.neuron) for u in found.downstream.positive] == ordered[:4]
    assert [(u.layer, u.neuron) for u in found.downstream.negative] == ordered[::-1][:4]
    for unit in (*found.downstream.positive, *found.downstream.negative):
        assert unit.weight == pytest.approx(products[unit.layer, unit.neuron], rel=1e-4)
    assert found.upstream == ((), ())  # nothing is before the first layer


def test_both_ends_of_a_pair_say_the_same() -> None:
    subject = with_odd_gains("gpt2")
    downstream = find_related(subject, 0, NEURON).downstream.positive[0]
    n_all = subject.d_mlp
    upstream = find_related(subject, downstream.layer, downstream.neuron, k=n_all).upstream.positive
    weights = {(unit.layer, unit.neuron): unit.weight for unit in upstream}
    assert weights[0, NEURON] == pytest.approx(downstream.weight, rel=1e-4)


def test_a_unit_without_effect_has_no_related_unit() -> None:
    subject = with_odd_gains("gpt2")
    projection: Any = subject.site_module(0)
    projection.weight.data[NEURON] = 0
    assert find_related(subject, 0, NEURON).downstream == ((), ())


def test_an_unknown_architecture_is_named() -> None:
    subject = with_odd_gains("gpt2")
    subject.model.config.model_type = "novel"
    with pytest.raises(SubjectError, match="'novel'"):
        find_related(subject, 1, 0)


def test_norms_behind_the_layers_are_refused() -> None:
    subject = with_odd_gains("opt")
    subject.model.config.do_layer_norm_before = False
    with pytest.raises(SubjectError, match="behind its layers"):
        find_related(subject, 1, 0)
