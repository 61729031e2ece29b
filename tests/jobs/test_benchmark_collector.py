"""The collector's benchmark measures what the collector does, on any shape."""

from __future__ import annotations

import pytest
from transformers import GPT2Config

from jobs import benchmark_collector
from jobs.benchmark_collector import measure


@pytest.fixture(autouse=True)
def tiny_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    def config() -> GPT2Config:
        return GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=300, n_positions=64)

    monkeypatch.setitem(benchmark_collector.SHAPES, "tiny", config)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_ratio_has_both_passes_and_the_cost_of_each_statistic(dtype: str) -> None:
    ratio = measure("tiny", dtype, n_blocks=2)
    assert min(ratio.ratio_fit, ratio.ratio_record) <= ratio.ratio
    assert ratio.ratio <= max(ratio.ratio_fit, ratio.ratio_record)
    names = ["window maxima", "moments", "top-k", "bands", "token means"]
    assert list(ratio.statistics) == names
    assert all(cost > 0 for cost in ratio.statistics.values())
