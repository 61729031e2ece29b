"""The memory plan: every layer read once, within the budget, in as few passes as fit."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from neuron_explainer.collector.memory import MARGIN, Shape, plan_memory
from neuron_explainer.collector.plans import CollectPlan
from neuron_explainer.errors import UsageError

GPT2_SMALL = Shape(
    n_units=(3072,) * 12, n_a_layer=3072, n_rows=6782, n_drawn=2048, activation_bytes=4,
)  # fmt: skip
PLAN = CollectPlan()


def plan(budget_gb: float, shape: Shape = GPT2_SMALL, used_gb: float = 1.0):
    return plan_memory(shape, PLAN, used_bytes=used_gb * 1e9, budget_bytes=budget_gb * 1e9)


@pytest.mark.parametrize("budget_gb", [1.8, 2.0, 2.5, 3.0, 4.0, 8.0])
def test_the_peak_is_within_the_budget_and_one_layer_more_would_not_be(budget_gb: float) -> None:
    found = plan(budget_gb)
    assert (1 + MARGIN) * found.peak_bytes <= budget_gb * 1e9
    assert found.n_groups == math.ceil(12 / found.n_layers_a_group)
    if found.n_layers_a_group < 12:
        one_more = replace(GPT2_SMALL, n_units=(3072,) * (found.n_layers_a_group + 1))
        assert plan(100, one_more).n_layers_a_group == len(one_more.n_units)
        assert (1 + MARGIN) * plan(100, one_more).peak_bytes > budget_gb * 1e9


def test_more_memory_never_takes_more_passes() -> None:
    passes = [plan(gb).n_groups for gb in (1.8, 2, 2.2, 2.5, 3, 4, 5, 6)]
    assert passes == sorted(passes, reverse=True)
    assert passes[0] > 3
    assert passes[-1] == 1


def test_nothing_depends_on_the_length_of_the_text() -> None:
    """The shape has no number of tokens; the drawn windows are what is left of it."""
    assert not any("token" in name for name in Shape.__dataclass_fields__)


def test_a_budget_too_small_for_one_layer_is_refused_with_what_it_would_take() -> None:
    with pytest.raises(UsageError, match=r"one layer at a time needs 1\.\d+ GB and 1\.10 GB are"):
        plan(1.1)


def test_the_sentence_names_every_part_and_the_passes() -> None:
    text = plan(2.5).sentence()
    assert "\n" not in text
    for part in ("program and model 1.00", "token sums", "window maxima", "reading a block"):
        assert part in text
    assert "passes over the text" in text
    assert "all layers in one pass" in plan(9).sentence()


def test_what_is_kept_grows_with_the_units_and_not_with_the_layer() -> None:
    """Of 50 units: everything but the forward pass, which makes the whole layer."""

    def kept_bytes(n_units: tuple[int, ...]) -> float:
        parts = plan(100, replace(GPT2_SMALL, n_units=n_units)).parts
        return sum(p.size_bytes for p in parts if not p.name.startswith(("program", "reading")))

    for n_layers in (1, 12):
        few, whole = (kept_bytes((n,) * n_layers) for n in (50, 3072))
        assert few < 2 * whole * 50 / 3072


def test_ragged_layers_are_planned_for_the_largest_neighbours() -> None:
    """Whichever layers were finished before, the group that comes next fits."""
    ragged = replace(GPT2_SMALL, n_units=(1, 3072, 2, 3072, 3072, 5))
    for n_layers, n_units in ((1, (3072,)), (2, (3072, 3072)), (3, (3072, 3072, 5))):
        alone = plan(100, replace(GPT2_SMALL, n_units=n_units))
        budget_gb = 1.0001 * (1 + MARGIN) * alone.peak_bytes / 1e9
        found = plan(budget_gb, ragged)
        assert (found.n_layers_a_group, found.n_groups) == (n_layers, math.ceil(6 / n_layers))
        assert found.peak_bytes == alone.peak_bytes
