"""A local model writes what its plain forward passes say, and says what it took."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import (
    Gemma2Config,
    GPT2Config,
    GPTNeoConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
)

from neuron_explainer.errors import BadRequest, LLMError, Refused, UsageError
from neuron_explainer.llm.local_model import LocalModel
from neuron_explainer.llm.local_text import LocalTextClient, choose_token
from neuron_explainer.llm.messages import Completion, CompletionRequest, Message, Usage
from tests.llm.local_models import CONFIGS, GROUPED, N_TOKENS, tiny
from tests.llm.test_chat_prompt import CHATML
from tests.tiny_models import byte_tokenizer
from tests.tiny_tokenizers import wrapped

END = 256
REQUEST = CompletionRequest("tiny", (Message("user", "The quick brown fox"),), max_tokens=12)


def client_of(
    model: PreTrainedModel, *, stops_at_line_break: bool = False, template: str | None = None
) -> LocalTextClient:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    local = LocalModel(model)
    return LocalTextClient(local, tokenizer, name="me", stops_at_line_break=stops_at_line_break)


def ask(client: LocalTextClient, request: CompletionRequest) -> Completion:
    return asyncio.run(client.ask(request))


def scripted(ids: Sequence[int], n_tokens: int = N_TOKENS) -> PreTrainedModel:
    """A model that writes these tokens after any prompt, with a probability of 1/2 or so each."""
    model = tiny(GPT2Config(vocab_size=n_tokens, n_positions=96, n_embd=16, n_head=2, n_layer=1))
    told = iter(ids)

    def tell(_module: object, _arguments: object, logits: Tensor) -> Tensor:
        if logits.shape[:2] != (1, 1):
            return logits  # not the last token of a prompt, nor one that is written
        certain = torch.zeros_like(logits)
        certain[..., next(told)] = math.log(logits.shape[-1])
        return certain

    model.lm_head.register_forward_hook(tell)
    return model


def bytes_as_ids(text: str) -> list[int]:
    ids: list[int] = byte_tokenizer()(text).input_ids
    return ids


# GPT-Neo's local attention cannot be read as a tree, but it can write.
WRITERS = {
    **CONFIGS,
    "gpt_neo": lambda: GPTNeoConfig(
        vocab_size=N_TOKENS, max_position_embeddings=96, hidden_size=16, num_heads=2, num_layers=2,
        attention_types=[[["global", "local"], 1]], window_size=8,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_the_most_probable_token_is_written_again_and_again(name: str) -> None:
    config: PretrainedConfig = WRITERS[name]()
    config.eos_token_id = None
    model = tiny(config)
    client = client_of(model)
    answer = ask(client, replace(REQUEST, n_top_logprobs=2))
    ids = bytes_as_ids(REQUEST.messages[0].content)
    assert answer.logprobs is not None
    for token in answer.logprobs:
        with torch.no_grad():
            logprobs = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        best = logprobs.topk(2)
        assert token.logprob == pytest.approx(best.values[0].item(), abs=1e-4)
        assert [p for _, p in token.top] == pytest.approx(best.values.tolist(), abs=1e-4)
        ids.append(int(best.indices[0]))
    if answer.finish_reason == "stop":
        with torch.no_grad():
            assert model(torch.tensor([ids])).logits[0, -1].argmax() == END
    else:
        assert len(answer.logprobs) == REQUEST.max_tokens


def test_what_was_read_before_is_not_read_again_and_changes_nothing() -> None:
    model = tiny(LlamaConfig(**GROUPED))
    read: list[int] = []
    model.get_input_embeddings().register_forward_pre_hook(
        lambda _module, arguments: read.append(arguments[0].numel())
    )
    first = replace(REQUEST, messages=(Message("user", "x" * 40 + "the dog"),))
    second = replace(REQUEST, messages=(Message("user", "x" * 40 + "a fox"),))
    client = client_of(model)
    warm_first, warm_second, again = ask(client, first), ask(client, second), ask(client, first)
    cold = [ask(client_of(model), request) for request in (first, second)]
    read.clear()
    ask(client, second)
    assert [warm_first.text, warm_second.text, again.text] == [
        cold[0].text, cold[1].text, cold[0].text,
    ]  # fmt: skip
    cached = [a.usage.n_cached_tokens for a in (warm_first, warm_second) if a.usage is not None]
    assert cached == [0, 40]
    assert sum(read) == 45 - 40 + warm_second.usage.n_completion_tokens - 1  # type: ignore[union-attr]


def test_an_answer_that_ends_by_itself_stops_there() -> None:
    answer = ask(client_of(scripted([*bytes_as_ids("a dog"), END])), REQUEST)
    assert (answer.text, answer.finish_reason, answer.model) == ("a dog", "stop", "me")
    assert answer.usage is not None
    assert answer.usage.n_prompt_tokens == len(REQUEST.messages[0].content)
    assert answer.usage.n_completion_tokens == len("a dog") + 1
    assert answer.logprobs is None


def test_an_answer_that_is_cut_off_says_so() -> None:
    answer = ask(client_of(scripted(bytes_as_ids("a dog lets it"))), replace(REQUEST, max_tokens=5))
    assert (answer.text, answer.finish_reason) == ("a dog", "length")


def test_an_answer_may_end_with_its_line_where_there_is_no_chat_template() -> None:
    script = bytes_as_ids("a dog\nand more")
    answer = ask(client_of(scripted(script), stops_at_line_break=True), REQUEST)
    assert (answer.text, answer.finish_reason) == ("a dog", "stop")
    chat = client_of(scripted(script), stops_at_line_break=True, template="{{messages[0].content}}")
    assert ask(chat, REQUEST).text == "a dog\nand mo"


@pytest.mark.parametrize("text", ["é数😀!", "数数", "naïve “very”"])
def test_the_strings_of_the_tokens_are_the_text(text: str) -> None:
    request = replace(REQUEST, n_top_logprobs=3, max_tokens=40)
    answer = ask(client_of(scripted([*bytes_as_ids(text), END])), request)
    assert answer.text == text
    assert answer.logprobs is not None
    assert "".join(token.token for token in answer.logprobs) == text
    assert len(answer.logprobs) == len(text.encode())
    for token in answer.logprobs:
        assert token.top[0][1] == token.logprob
        assert len(token.top) == 3


def test_half_a_character_at_the_end_is_shown_as_such() -> None:
    request = replace(REQUEST, n_top_logprobs=0, max_tokens=2)
    answer = ask(client_of(scripted(bytes_as_ids("a数"))), request)
    assert answer.text == "a\ufffd"
    assert answer.logprobs is not None
    assert [token.token for token in answer.logprobs] == ["a", "\ufffd"]


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma", "unigram", "qwen"])
def test_spaces_are_where_the_tokenizer_has_them(kind: str) -> None:
    tokenizer = wrapped(kind)
    ids = tokenizer("x the quick dog", add_special_tokens=False).input_ids
    local = LocalModel(scripted(ids, n_tokens=len(tokenizer)))
    client = LocalTextClient(local, tokenizer, name="me")
    request = replace(REQUEST, max_tokens=len(ids), n_top_logprobs=1)
    answer = ask(client, request)
    assert answer.text.lstrip() == "x the quick dog"
    assert answer.logprobs is not None
    assert "".join(token.token for token in answer.logprobs) == answer.text


def test_equal_requests_get_equal_answers_and_other_seeds_others() -> None:
    client = client_of(tiny(CONFIGS["gpt2"]()))
    drawn = replace(REQUEST, temperature=1.0, seed=1)
    texts = [ask(client, replace(drawn, seed=seed)).text for seed in (1, 1, 2, 3, None, 0)]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 4
    assert texts[4] == texts[5]


def test_tokens_are_drawn_with_their_probabilities_and_within_top_p() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    generator = torch.Generator().manual_seed(0)

    def draw(temperature: float, top_p: float | None) -> dict[int, float]:
        n = 4000
        drawn = Counter(choose_token(logits, temperature, top_p, generator) for _ in range(n))
        return {token: count / n for token, count in drawn.items()}

    plain = draw(1.0, None)
    assert [plain[i] for i in range(4)] == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)
    assert draw(1.0, 0.7).keys() == {0, 1}
    assert draw(1.0, 0.0).keys() == {0}
    flat = draw(2.0, 1.0)
    roots = [math.sqrt(p) for p in (0.5, 0.3, 0.15, 0.05)]
    assert [flat[i] for i in range(4)] == pytest.approx([r / sum(roots) for r in roots], abs=0.03)
    assert {choose_token(logits, None, None, generator) for _ in range(20)} == {0}


def test_what_a_local_model_cannot_do_is_refused() -> None:
    client = client_of(tiny(CONFIGS["gpt2"]()))
    refused = [
        (replace(REQUEST, json_schema="{}"), "cannot be held to a JSON schema"),
        (replace(REQUEST, reasoning_effort="low"), "knows no reasoning effort"),
        (replace(REQUEST, max_tokens=90), "has 19 tokens, the answer may have 90, .* for 96"),
        (replace(REQUEST, messages=(Message("user", ""),)), "the prompt is empty"),
    ]
    for request, message in refused:
        with pytest.raises(BadRequest, match=message):
            ask(client, request)


def test_a_tokenizer_of_another_model_is_refused() -> None:
    local = LocalModel(tiny(CONFIGS["gpt2"]()))
    with pytest.raises(UsageError, match=r"me: the tokenizer has .* tokens, the model knows 300"):
        LocalTextClient(local, wrapped("gpt2"), name="me")


@pytest.mark.parametrize("ids", [[END], bytes_as_ids("\na")])
def test_an_empty_answer_is_a_refusal_as_the_same_question_would_get_it_again(
    ids: list[int],
) -> None:
    with pytest.raises(Refused, match="me ended its answer before it began") as refused:
        ask(client_of(scripted(ids), stops_at_line_break=True), REQUEST)
    n_read = len(REQUEST.messages[0].content)
    assert refused.value.usage == Usage(n_read, 0, 1)
    assert not refused.value.retryable


def test_a_model_that_fails_is_an_error_of_the_model() -> None:
    client = client_of(tiny(LlamaConfig(**GROUPED)))
    client._local.model.register_forward_pre_hook(_out_of_memory)
    with pytest.raises(LLMError, match="the local model failed: no memory left"):
        ask(client, REQUEST)


def _out_of_memory(_module: object, _arguments: object) -> None:
    raise torch.OutOfMemoryError("no memory left")


def test_only_the_last_token_of_a_prompt_goes_through_the_vocabulary() -> None:
    model = tiny(Gemma2Config(**GROUPED))
    client = client_of(model, template=CHATML)
    n_rows: list[int] = []
    model.lm_head.register_forward_hook(
        lambda _module, _arguments, logits: n_rows.append(logits.shape[1])
    )
    answer = ask(client, replace(REQUEST, max_tokens=3))
    assert answer.usage is not None
    assert n_rows == [1] * 3


def test_the_speed_is_measured() -> None:
    speed = LocalModel(tiny(CONFIGS["gpt2"]())).measure_speed()
    assert speed.read > 0
    assert speed.write > 0
