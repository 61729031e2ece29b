"""The rule server keeps its own promises: it answers by rule, fails by plan, and logs all of it."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import openai
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from neuron_explainer.llm.messages import Usage
from tests.llm.rule_faults import FAULTS, FaultPlan
from tests.llm.rule_log import RuleLog, add_usages, read_log
from tests.llm.rule_logprobs import value_shares
from tests.llm.rule_options import ServerOptions
from tests.llm.rule_reading import predict
from tests.llm.rule_server import RuleServer, rule_server
from tests.llm.rule_tokens import RuleTokenizer

QUESTION = (
    "Neuron 1\nExplanation of neuron 1: tokens such as \" two\", \"Ten\"\nTokens:\n"
    "1\tthe\n2\t two\n3\tten\n4\t\\n"
)  # fmt: skip
IN_ORDER = "1\t0\n2\t10\n3\t8\n4\t0"
WINDOW = '\nExplanation of neuron 4: tokens such as " two"\nActivations:\n<start>\n'
Ask = Callable[[openai.AsyncOpenAI], Coroutine[Any, Any, Any]]


def talk(server: RuleServer, ask: Ask, timeout_s: float = 20.0) -> Any:
    async def once() -> Any:
        client = openai.AsyncOpenAI(
            api_key="any", base_url=server.base_url, max_retries=0, timeout=timeout_s
        )
        async with client:
            return await ask(client)

    return asyncio.run(once())


def chat(question: str = QUESTION, **more: Any) -> Ask:
    def ask(client: openai.AsyncOpenAI) -> Coroutine[Any, Any, Any]:
        messages: Any = [{"role": "user", "content": question}]
        return client.chat.completions.create(model="rule-1", messages=messages, **more)

    return ask


def complete(prompt: Any, **more: Any) -> Ask:
    def ask(client: openai.AsyncOpenAI) -> Coroutine[Any, Any, Any]:
        return client.completions.create(model="rule-1", prompt=prompt, **more)

    return ask


def digits() -> RuleTokenizer:
    """A token a byte: numbers are split."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({char: i for i, char in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return RuleTokenizer(tokenizer)


def expected(top: dict[str, float]) -> float:
    shares = {int(text): math.exp(p) for text, p in top.items() if text.isdecimal()}
    return sum(value * share for value, share in shares.items()) / sum(shares.values())


@pytest.mark.parametrize(
    ("token", "value"),
    [(" two", 10), ("two", 9), ("TWO", 8), (" twofold", 0), ("Ten", 10), (" ten", 8), (" ", 0)],
)
def test_the_nearer_a_token_is_to_a_named_one_the_higher(token: str, value: int) -> None:
    assert predict('tokens such as " two", "Ten"', token) == value


def test_values_have_distributions_with_their_expectation_in_order() -> None:
    means = [sum(v * p for v, p in enumerate(value_shares(value))) for value in range(11)]
    assert all(math.isclose(sum(value_shares(value)), 1.0) for value in range(11))
    assert means == sorted(means)
    assert max(range(11), key=value_shares(7).__getitem__) == 7


def test_an_answer_its_logprobs_and_its_usage_belong_together() -> None:
    with rule_server() as server:
        reply = talk(server, chat(logprobs=True, top_logprobs=20))
    (choice,) = reply.choices
    assert choice.message.content == IN_ORDER
    assert "".join(entry.token for entry in choice.logprobs.content) == IN_ORDER
    assert reply.usage.completion_tokens == len(choice.logprobs.content)
    tops = [{top.token: top.logprob for top in e.top_logprobs} for e in choice.logprobs.content]
    assert all(len(top) == 20 for top in tops)
    values = [expected(top) for top in tops[2::4]]  # number, tab, value, line break
    assert values[1] > values[2] > 7 > 1 > values[0] == values[3]


@pytest.mark.parametrize("make", [RuleTokenizer.from_file, digits])
@pytest.mark.parametrize("form", ["echo", "prompt_logprobs"])
def test_a_prompt_of_ids_is_read_place_by_place(
    make: Callable[[], RuleTokenizer], form: str
) -> None:
    tokenizer = make()
    lines = [WINDOW, "the\t", "unknown", "\n two\t", "unknown", "\n two\t"]
    parts = [tokenizer.encode(line) for line in lines]
    ids = [i for part in parts for i in part]
    places = [sum(map(len, parts[:n])) for n in (2, 4, 6)]
    options = ServerOptions(prompt_logprobs="yes")
    with rule_server(options, tokenizer=tokenizer) as server:
        if form == "echo":
            reply = talk(server, complete(ids, max_tokens=1, echo=True, logprobs=20))
            tops = reply.choices[0].logprobs.top_logprobs
        else:
            extra = {"prompt_logprobs": 20}
            reply = talk(server, complete(ids, max_tokens=1, logprobs=20, extra_body=extra))
            shown = [place or {} for place in reply.choices[0].prompt_logprobs]
            assert all(str(i) in place for i, place in zip(ids[1:], shown[1:], strict=True))
            tops = [{e["decoded_token"]: e["logprob"] for e in p.values()} for p in shown]
            tops += reply.choices[0].logprobs.top_logprobs
    assert len(tops) == len(ids) + 1
    assert reply.usage.prompt_tokens == len(ids)
    low, high, after = (tops[place] for place in places)
    if not tokenizer.splits_ten:
        assert expected(low) < 1 < 9 < expected(high) == expected(after)
    assert max(low, key=low.__getitem__) == "0"
    assert max(high, key=high.__getitem__) == ("1" if tokenizer.splits_ten else "10")


def test_what_follows_a_1_says_whether_it_is_10() -> None:
    tokenizer = digits()
    likeliest = []
    with rule_server(tokenizer=tokenizer) as server:
        for token in (" two", "the"):
            prompt = list(tokenizer.encode(f"{WINDOW}{token}\t1"))
            (choice,) = talk(server, complete(prompt, max_tokens=1, logprobs=5)).choices
            (top,) = choice.logprobs.top_logprobs
            likeliest.append(max(top, key=top.__getitem__))
    assert likeliest == ["0", "\n"]


def test_the_prefix_that_was_asked_before_is_cached() -> None:
    with rule_server() as server:
        usages = [talk(server, chat(QUESTION * 20 + more)).usage for more in ("", "", "more")]
    cached = [usage.prompt_tokens_details.cached_tokens for usage in usages]
    assert cached[0] == 0
    assert 0 < cached[2] <= cached[1] <= usages[0].prompt_tokens


def test_a_prompt_that_is_too_long_is_refused_in_the_words_of_servers() -> None:
    with rule_server(ServerOptions(n_context_tokens=40)) as server:
        with pytest.raises(openai.BadRequestError, match="maximum context length is 40"):
            talk(server, chat())
        assert talk(server, chat("short", max_tokens=5)).usage.completion_tokens == 5
    assert server.log.outcomes == {"refused": 1, "answer": 1}


def test_faults_depend_on_the_question_and_the_attempt_alone() -> None:
    plan = FaultPlan(share=0.2, seed=3)
    keys = [f"key {n}" for n in range(4000)]
    chosen = {key: plan.choose(key, 0, is_chat=True) for key in keys}
    assert chosen == {key: plan.choose(key, 0, is_chat=True) for key in reversed(keys)}
    counts = Counter(chosen.values())
    assert set(counts) == {None, *FAULTS}
    assert 0.18 < 1 - counts[None] / len(keys) < 0.22
    assert {plan.choose(key, plan.n_most, is_chat=True) for key in keys} == {None}
    assert FaultPlan(share=0.2, seed=4).choose(keys[0], 0, is_chat=True) in (None, *FAULTS)
    later = [plan.choose(key, 1, is_chat=True) for key in keys]
    assert later != list(chosen.values())


SHOWN: dict[str, object] = {
    "rate_limit": openai.RateLimitError,
    "server_error": openai.InternalServerError,
    "overloaded": openai.InternalServerError,
    "slow": openai.APITimeoutError,
    "cut": openai.APIConnectionError,
    "garbage": ValueError,
    "empty": "",
    "refusal": None,
    "off_topic": "What a lovely day it is! Shall we talk of something else?",
    "cut_answer": IN_ORDER[: len(IN_ORDER) // 2],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_what_a_client_sees_and_the_next_attempt_is_well(fault: str) -> None:
    plan = FaultPlan(share=1.0, kinds=(fault,), n_most=1, slow_s=0.5)  # type: ignore[arg-type]
    shown = SHOWN[fault]
    with rule_server(plan=plan) as server:
        if isinstance(shown, type):
            with pytest.raises(shown):  # type: ignore[arg-type]
                talk(server, chat(), timeout_s=0.2)
        else:
            assert talk(server, chat()).choices[0].message.content == shown
        assert talk(server, chat()).choices[0].message.content == IN_ORDER
    log = server.log
    assert log.outcomes == {fault: 1, "answer": 1}
    assert list(log.n_arrived.values()) == [2]
    assert list(log.n_answered.values()) == [1 + (fault in ("off_topic", "cut_answer"))]
    assert log.n_in_flight == 0
    first, second = sorted(log.entries, key=lambda entry: entry.attempt)
    assert second.usage is not None
    is_known = fault in ("empty", "refusal", "off_topic", "cut_answer")
    assert first.is_told == is_known
    assert (first.usage is None) == (fault in ("rate_limit", "server_error", "overloaded"))
    n_answers = 2 if is_known else 1
    n_untold = 1 if first.usage is not None and not is_known else 0
    per_answer = second.usage.n_prompt_tokens
    assert log.charged.n_prompt_tokens == n_answers * per_answer
    assert log.charged_untold.n_prompt_tokens == n_untold * per_answer


def test_what_clients_are_told_adds_up_to_what_was_charged() -> None:
    async def ask_all(client: openai.AsyncOpenAI) -> list[Usage]:
        async def once(n: int) -> Usage | None:
            try:
                reply = await chat(f"{QUESTION}{n % 40}")(client)
            except (openai.OpenAIError, ValueError):
                return None
            cached = reply.usage.prompt_tokens_details.cached_tokens
            return Usage(reply.usage.prompt_tokens, cached, reply.usage.completion_tokens)

        return [usage for usage in await asyncio.gather(*map(once, range(120))) if usage]

    with rule_server(plan=FaultPlan(share=0.4, slow_s=0.01)) as server:
        usages = talk(server, ask_all)
    assert add_usages(usages) == server.log.charged
    assert len(usages) == server.log.n_told
    assert len(server.log.entries) == sum(server.log.n_arrived.values()) == 120
    assert 0 < len(server.log.entries) - server.log.outcomes["answer"] < 120


def test_requests_in_flight_are_counted() -> None:
    async def ask_all(client: openai.AsyncOpenAI) -> None:
        await asyncio.gather(*(chat(f"{QUESTION}{n}")(client) for n in range(8)))

    with rule_server(ServerOptions(latency_s=0.2)) as server:
        talk(server, ask_all)
    assert server.log.most_in_flight == 8
    assert server.log.n_in_flight == 0


def test_as_a_process_it_says_where_it_is_and_writes_its_log(tmp_path: Path) -> None:
    options = json.dumps({"model": "other"})
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.llm.rule_server", "--log", str(tmp_path / "log.jsonl"),
         "--options", options, "--faults", '{"share": 1.0, "kinds": ["overloaded"], "n_most": 1}'],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    with process:
        try:
            server = RuleServerAt(json.loads(process.stdout.readline())["base_url"])

            async def ask(client: openai.AsyncOpenAI) -> str:
                messages: Any = [{"role": "user", "content": QUESTION}]
                with pytest.raises(openai.InternalServerError):
                    await client.chat.completions.create(model="other", messages=messages)
                reply = await client.chat.completions.create(model="other", messages=messages)
                return reply.choices[0].message.content or ""

            assert talk(server, ask) == IN_ORDER  # type: ignore[arg-type]
        finally:
            process.kill()
    log = read_log(tmp_path / "log.jsonl")
    assert log.outcomes == {"overloaded": 1, "answer": 1}
    assert list(log.n_arrived.values()) == [2]
    assert list(log.n_answered.values()) == [1]
    assert log.n_in_flight == 0


class RuleServerAt:
    """One in another process."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.log = RuleLog()
