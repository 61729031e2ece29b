"""With a real model: what a simulator predicts is what reading each token's own prompt predicts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from neuron_explainer.llm.local_model import LocalModel
from neuron_explainer.llm.pieces import HfPieceTokenizer, read_value_tokens
from neuron_explainer.llm.transformers_client import LocalPromptLogprobClient
from neuron_explainer.prompts.simulate import prefix_pieces, window_pieces
from neuron_explainer.prompts.simulate_distilled import description_piece
from neuron_explainer.simulators.all_at_once import AllAtOnceSimulator
from neuron_explainer.simulators.distilled import DistilledSimulator
from tests.simulators.examples import EXPLANATION, FEW_SHOT, NASTY, simulate
from tests.tiny_models import byte_tokenizer

N_CTX = 2600
PIECES = HfPieceTokenizer(byte_tokenizer())  # one token a byte: 10 is two tokens


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=257, n_positions=N_CTX, n_layer=1, n_embd=16, n_head=2,
        bos_token_id=256, eos_token_id=256,
    )  # fmt: skip
    made = GPT2LMHeadModel(config).eval()
    for parameter in made.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return made


def next_logits(model: GPT2LMHeadModel, pieces: list[str]) -> Tensor:
    ids = [i for piece in PIECES.encode(pieces) for i in piece]
    with torch.no_grad():
        logits: Tensor = model(torch.tensor([ids])).logits[0, -1]  # (vocabulary,)
    return logits


def test_all_at_once_reads_each_unknown_where_it_stands(model: GPT2LMHeadModel) -> None:
    tokens = NASTY[:12]
    values, end = read_value_tokens(PIECES)
    simulator = AllAtOnceSimulator(
        LocalPromptLogprobClient(LocalModel(model)), PIECES, model="m", model_label="hf:m",
        values=values, end=end, few_shot=FEW_SHOT, n_context_tokens=N_CTX, n_window_tokens=20,
    )  # fmt: skip
    pieces, asked = window_pieces(EXPLANATION, tokens)
    expected = []
    for i in asked:
        prompt = [*prefix_pieces(simulator.few_shot), *pieces[:i]]
        digits = torch.tensor([value[0] for value in values[:10]])
        p = next_logits(model, prompt)[digits].softmax(-1)  # (10,): 0 to 9, and 10 with 1
        zero_or_end = torch.tensor([values[0][0], end])
        p_zero, _ = next_logits(model, [*prompt, "1"])[zero_or_end].softmax(-1)
        expected.append(float(torch.arange(10.0) @ p + 9 * p[1] * p_zero))
    found = simulate(simulator, tokens).expected_activations
    assert found == pytest.approx(tuple(expected), abs=1e-4)
    assert max(expected) - min(expected) > 0.1  # or any order of the places would do


def test_distilled_reads_the_first_eleven_rows_behind_each_token(model: GPT2LMHeadModel) -> None:
    simulator = DistilledSimulator(
        LocalPromptLogprobClient(LocalModel(model)), PIECES, model="m", model_label="hf:m",
        n_context_tokens=N_CTX,
    )  # fmt: skip
    expected = []
    for n in range(1, len(NASTY) + 1):
        logits = next_logits(model, [description_piece(EXPLANATION), *NASTY[:n]])
        expected.append(float(torch.arange(11.0) @ logits[:11].softmax(-1)))
    found = simulate(simulator, NASTY).expected_activations
    assert found == pytest.approx(tuple(expected), abs=1e-4)
    assert max(expected) - min(expected) > 0.1
