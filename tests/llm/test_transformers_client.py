"""What a local model expects is what its plain forward pass says, however the work is shared."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import (
    BloomConfig,
    GPTNeoConfig,
    Llama4TextConfig,
    LlamaConfig,
    MambaConfig,
    PretrainedConfig,
)

from jobs.convert_llama2c import convert
from neuron_explainer.errors import BadRequest, LLMError, UsageError
from neuron_explainer.llm.local_model import LocalModel
from neuron_explainer.llm.messages import ExpectedValues, PromptLogprobRequest
from neuron_explainer.llm.pieces import HfPieceTokenizer, read_value_tokens
from neuron_explainer.llm.transformers_client import LocalPromptLogprobClient
from neuron_explainer.subject.pretrained import Pretrained, load_pretrained
from tests.llm.local_models import (
    CONFIGS,
    GROUPED,
    N_CTX,
    N_TOKENS,
    ONE_TOKEN,
    TWO_TOKENS,
    plainly_expected,
    tiny,
    window,
)

PREFIX = tuple(range(100, 130))
OTHER_PREFIX = tuple(range(200, 225))


def ask_all(
    client: LocalPromptLogprobClient, requests: list[PromptLogprobRequest]
) -> list[ExpectedValues]:
    async def gather() -> list[ExpectedValues]:
        return await asyncio.gather(*(client.ask(request) for request in requests))

    return asyncio.run(gather())


def expected(answers: list[ExpectedValues]) -> list[float]:
    values = [value for answer in answers for value in answer.expected]
    assert None not in values
    return [value for value in values if value is not None]


def windows(seed: int = 0, n: int = 5, **kwargs: object) -> list[PromptLogprobRequest]:
    rng = random.Random(seed)
    return [window(rng, PREFIX, 2 + i, **kwargs) for i in range(n)]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def llama() -> LocalModel:
    return LocalModel(tiny(LlamaConfig(**GROUPED)))


@pytest.mark.parametrize("values", [ONE_TOKEN, TWO_TOKENS], ids=["one token", "two tokens"])
@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_expected_is_what_the_plain_forward_pass_says(
    name: str, values: tuple[tuple[int, ...], ...]
) -> None:
    model = tiny(CONFIGS[name]())
    local = LocalModel(model)
    client = LocalPromptLogprobClient(local, batch_size=2)
    assert local.uses_output_rows
    requests = windows(values=values, explanation=(7, 8, 9), n=3)
    found = expected(ask_all(client, requests))
    plain = [value for request in requests for value in plainly_expected(model, request)]
    assert max(plain) - min(plain) > 0.1
    assert found == pytest.approx(plain, abs=1e-4)


def test_any_batch_size_and_any_order_gives_the_same(llama: LocalModel) -> None:
    requests = windows(values=TWO_TOKENS, n=6)
    requests += [replace(request, prefix=OTHER_PREFIX) for request in requests[:3]]
    alone = [answer for r in requests for answer in ask_all(LocalPromptLogprobClient(llama), [r])]
    for batch_size in (1, 2, 4, 100):
        client = LocalPromptLogprobClient(llama, batch_size=batch_size)
        order = list(range(len(requests)))
        random.Random(batch_size).shuffle(order)
        answers = ask_all(client, [requests[i] for i in order])
        for i, answer in zip(order, answers, strict=True):
            assert expected([answer]) == pytest.approx(expected([alone[i]]), abs=1e-5)
            assert answer.usage == alone[i].usage


def test_the_same_questions_in_the_same_order_get_the_same_bits(llama: LocalModel) -> None:
    requests = windows(n=5)
    first, second = (ask_all(LocalPromptLogprobClient(llama), requests) for _ in range(2))
    assert first == second


def test_usage_counts_the_prompt_and_what_of_it_is_shared(llama: LocalModel) -> None:
    (answer,) = ask_all(LocalPromptLogprobClient(llama), windows(n=1))
    usage = answer.usage
    assert usage is not None
    n_own = len(windows(n=1)[0].ids)
    assert (usage.n_prompt_tokens, usage.n_cached_tokens) == (len(PREFIX) + n_own, len(PREFIX))
    assert usage.n_completion_tokens == 0


def test_a_position_may_be_the_first_or_follow_the_last_token(llama: LocalModel) -> None:
    request = PromptLogprobRequest("tiny", (5,), (6, 7), (0, 2), TWO_TOKENS, 42)
    found = expected(ask_all(LocalPromptLogprobClient(llama), [request]))
    assert found == pytest.approx(plainly_expected(llama.model, request), abs=1e-4)
    (nothing,) = ask_all(LocalPromptLogprobClient(llama), [replace(request, positions=())])
    assert nothing.expected == ()


def test_what_stands_at_an_asked_position_is_not_looked_at(llama: LocalModel) -> None:
    request = PromptLogprobRequest("tiny", PREFIX, (60, 40, 41, 42), (2,), TWO_TOKENS, 42)
    client = LocalPromptLogprobClient(llama)
    other = replace(request, ids=(60, 40, 99, 98))
    first, second = ask_all(client, [request, other])
    assert first.expected == second.expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_the_plain_forward_pass(dtype: torch.dtype) -> None:
    model = tiny(LlamaConfig(**GROUPED), dtype)
    requests = windows(n=2)
    found = expected(ask_all(LocalPromptLogprobClient(LocalModel(model)), requests))
    plain = [value for request in requests for value in plainly_expected(model, request)]
    assert found == pytest.approx(plain, abs=0.2)


def test_a_head_that_is_more_than_a_matrix_is_used_itself() -> None:
    model = tiny(LlamaConfig(**GROUPED))
    model.lm_head.register_forward_hook(lambda _module, _arguments, logits: logits**3)
    local = LocalModel(model)
    client = LocalPromptLogprobClient(local)
    assert not local.uses_output_rows
    requests = windows(values=TWO_TOKENS, n=2)
    found = expected(ask_all(client, requests))
    plain = [value for request in requests for value in plainly_expected(model, request)]
    assert found == pytest.approx(plain, abs=1e-4)


@pytest.mark.parametrize(
    "config",
    [
        BloomConfig(vocab_size=N_TOKENS, hidden_size=16, n_layer=2, n_head=2),
        GPTNeoConfig(
            vocab_size=N_TOKENS, max_position_embeddings=32, hidden_size=16, num_heads=2,
            num_layers=2, attention_types=[[["global", "local"], 1]],
        ),
        MambaConfig(vocab_size=N_TOKENS, hidden_size=16, num_hidden_layers=2, state_size=4),
        Llama4TextConfig(**GROUPED, attention_chunk_size=8, num_local_experts=1),
    ],
    ids=lambda config: config.model_type,
)  # fmt: skip
def test_what_cannot_be_read_as_a_tree_is_refused(config: PretrainedConfig) -> None:
    with pytest.raises(UsageError, match=f"{config.model_type}.* cannot be (read as a|asked)"):
        LocalPromptLogprobClient(LocalModel(tiny(config)))


def test_what_does_not_fit_is_refused_with_its_sizes(llama: LocalModel) -> None:
    client = LocalPromptLogprobClient(llama)
    long = PromptLogprobRequest("tiny", PREFIX, (1,) * N_CTX, (3,), ONE_TOKEN, 42)
    with pytest.raises(BadRequest, match=f"has {30 + N_CTX} tokens, 30 of them shared.* {N_CTX};"):
        ask_all(client, [long])
    wrong = [
        (replace(long, ids=(N_TOKENS,)), f"token ids 1 to {N_TOKENS}|another model's"),
        (replace(long, ids=(1,), prefix=()), "no shared beginning"),
        (replace(long, ids=(1, 2, 3), values=((1,), (2, 3))), "begin with another value"),
    ]
    for request, message in wrong:
        with pytest.raises(BadRequest, match=message):
            ask_all(client, [request])


def test_an_error_reaches_every_request_of_its_batch_and_no_other() -> None:
    local = LocalModel(tiny(LlamaConfig(**GROUPED)))

    def fail(_module: object, arguments: tuple[torch.Tensor, ...]) -> None:
        if (arguments[0] == 11).any():
            raise torch.OutOfMemoryError("out of memory\nat great length")

    requests = windows(n=4)
    requests[1] = replace(requests[1], ids=(11, *requests[1].ids[1:]))
    client = LocalPromptLogprobClient(local, batch_size=2)
    local.model.get_input_embeddings().register_forward_pre_hook(fail)

    async def gather() -> list[ExpectedValues | BaseException]:
        return await asyncio.gather(*map(client.ask, requests), return_exceptions=True)

    answers = asyncio.run(gather())
    for answer in answers[:2]:
        assert isinstance(answer, LLMError)
        assert str(answer) == "the local model failed: out of memory"
    assert all(isinstance(answer, ExpectedValues) for answer in answers[2:])
    assert len(ask_all(client, requests[2:])) == 2


def test_logits_that_are_no_numbers_are_an_error() -> None:
    local = LocalModel(tiny(LlamaConfig(**GROUPED)))
    client = LocalPromptLogprobClient(local)
    local.model.lm_head.weight.data[25] = torch.nan
    with pytest.raises(LLMError, match="logits in float32 are no numbers"):
        ask_all(client, windows(n=1))


def test_a_request_that_is_given_up_is_not_read() -> None:
    local = LocalModel(tiny(LlamaConfig(**GROUPED)))
    client = LocalPromptLogprobClient(local, batch_size=1)
    read: list[int] = []
    local.model.get_input_embeddings().register_forward_pre_hook(
        lambda _module, arguments: read.extend(arguments[0].flatten().tolist())
    )
    requests = [replace(request, ids=(10 + i, *request.ids)) for i, request in enumerate(windows())]
    requests = [replace(r, positions=tuple(p + 1 for p in r.positions)) for r in requests]

    async def give_up() -> list[ExpectedValues]:
        tasks = [asyncio.ensure_future(client.ask(request)) for request in requests]
        await asyncio.sleep(0)
        tasks[3].cancel()
        return await asyncio.gather(*tasks[:3], tasks[4])

    assert len(asyncio.run(give_up())) == 4
    assert set(range(10, 15)) & set(read) == {10, 11, 12, 14}


def test_a_prefix_is_read_once_and_never_changes() -> None:
    local = LocalModel(tiny(LlamaConfig(**GROUPED)))
    client = LocalPromptLogprobClient(local)
    lengths: list[int] = []
    local.model.get_input_embeddings().register_forward_pre_hook(
        lambda _module, arguments: lengths.append(arguments[0].shape[1])
    )
    ask_all(client, windows(seed=1))
    kept = local.read(PREFIX[:-1])
    before = [x.clone() for layer in kept.layers for x in layer]
    ask_all(client, windows(seed=2, values=TWO_TOKENS))
    after = [x for layer in local.read(PREFIX[:-1]).layers for x in layer]
    assert lengths.count(len(PREFIX) - 1) == 1
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


def test_prefixes_that_do_not_fit_are_forgotten_and_read_again() -> None:
    model = tiny(LlamaConfig(**GROUPED))
    n_bytes = LocalModel(model).read(PREFIX[:-1]).size_bytes
    local = LocalModel(model, max_kept_bytes=n_bytes * 3 // 2)
    client = LocalPromptLogprobClient(local)
    requests = windows(n=2)
    both = [requests[0], replace(requests[1], prefix=OTHER_PREFIX)]
    first = ask_all(client, both * 3)
    assert local.kept.size_bytes <= n_bytes * 3 // 2
    assert expected(first[:2] * 3) == pytest.approx(expected(first), abs=1e-6)


@pytest.fixture(scope="module")
def stories260k(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Pretrained:
    folder = tmp_path_factory.mktemp("stories260K")
    convert(shared_data / "models" / "stories260K", folder)
    return load_pretrained(str(folder), device="cpu")


@pytest.mark.shared_data
def test_a_real_model_that_splits_numbers_expects_what_its_plain_pass_says(
    stories260k: Pretrained, shared_data: Path
) -> None:
    pieces = HfPieceTokenizer(stories260k.tokenizer)
    values, end = read_value_tokens(pieces)
    assert values[10] == values[1] + values[0]
    with (shared_data / "corpus" / "stories.jsonl").open(encoding="utf-8") as lines:
        words = json.loads(next(lines))["text"].split()[:60]
    tab, unknown, line_break = pieces.encode(["\t", "unknown", "\n"])
    shown: list[int] = []
    for i, word in enumerate(words[:40]):
        shown += [*pieces.encode([word])[0], *tab, *values[i % 11], *line_break]
    ids: list[int] = []
    positions = []
    for word in words[40:50]:
        ids += [*pieces.encode([word])[0], *tab]
        positions.append(len(ids))
        ids += [*unknown, *line_break]
    request = PromptLogprobRequest(
        "stories260K", tuple(shown), tuple(ids), tuple(positions), values, end
    )
    found = expected(ask_all(LocalPromptLogprobClient(LocalModel(stories260k.model)), [request]))
    plain = plainly_expected(stories260k.model, request)
    assert found == pytest.approx(plain, abs=1e-4)
    assert max(plain) - min(plain) > 0.1
