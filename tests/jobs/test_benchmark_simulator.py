"""The simulator's benchmark compares two ways to the same values."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config

from jobs import benchmark_simulator
from jobs.benchmark_simulator import (
    N_LINES,
    N_PREFIX,
    ONE_TOKEN,
    TWO_TOKENS,
    ask,
    build,
    compare,
    make_requests,
    read_plainly,
)
from neuron_explainer.llm.local_model import LocalModel
from neuron_explainer.llm.transformers_client import LocalPromptLogprobClient

TINY = GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=300, n_positions=2048)


def test_prompts_are_of_the_size_that_is_said_and_share_what_is_said() -> None:
    requests = make_requests(TINY, 12)
    assert {len(request.prefix) for request in requests} == {N_PREFIX}
    assert {len(request.ids) for request in requests} == {286}
    assert {len(request.positions) for request in requests} == {N_LINES}
    assert len({request.prefix for request in requests}) == 1
    assert len({request.ids[:30] for request in requests}) == 2
    assert len({request.ids[30:] for request in requests}) == 12
    for request in requests:
        assert {request.ids[position] for position in request.positions} == {
            benchmark_simulator.UNKNOWN
        }


def test_both_sides_find_the_same_values() -> None:
    model = build(TINY)
    requests = make_requests(TINY, 2)
    by_client = ask(LocalPromptLogprobClient(LocalModel(model)), requests)
    plain = read_plainly(model, requests)
    assert len(plain) == 2 * N_LINES
    torch.testing.assert_close(torch.tensor(by_client), torch.tensor(plain), rtol=0, atol=1e-4)
    assert [values[-1] for values in (ONE_TOKEN, TWO_TOKENS)] == [(10,), (1, 0)]


@pytest.mark.slow
def test_a_comparison_has_both_ratios() -> None:
    found = compare(TINY, n_windows=3, batch_size=2)
    assert found.n_windows == 4
    assert found.max_difference < 1e-4
    best = min(found.plain_s, found.plain_batch_s)
    assert found.speedup > 0
    assert abs(found.speedup - best / found.client_s) < 0.1 * found.speedup
    assert found.plain_mb > 0
    assert abs(found.memory_ratio - found.client_mb / found.plain_mb) < 0.01
