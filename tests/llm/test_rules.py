"""The rule server understands this project's own prompts: every explainer and every simulator.

What is asked goes through the real clients, so that all of them are tried against one server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from neuron_explainer.explainers.evidence import EvidenceSources
from neuron_explainer.explainers.llm import LLMExplainer, Several
from neuron_explainer.llm.completions_client import CompletionsLogprobClient, Form
from neuron_explainer.llm.messages import Message
from neuron_explainer.llm.openai_client import OpenAIClient
from neuron_explainer.llm.pieces import HfPieceTokenizer, read_value_tokens
from neuron_explainer.prompts.explain_kinds import PROMPTS
from neuron_explainer.prompts.few_shot import read_few_shot_set
from neuron_explainer.prompts.revise import (
    NewTexts,
    mark_active,
    parse_revision,
    parse_sentences,
    revision_messages,
    sentence_messages,
)
from neuron_explainer.records.explanation import Explanation, TokenLookupTable
from neuron_explainer.records.neuron import (
    ActivationRecord,
    Moments,
    NeuronId,
    NeuronRecord,
    Stratum,
)
from neuron_explainer.simulators.all_at_once import AllAtOnceSimulator
from neuron_explainer.simulators.base import Simulator
from neuron_explainer.simulators.one_at_a_time import OneAtATimeSimulator
from neuron_explainer.simulators.streaming import StreamingSimulator
from neuron_explainer.simulators.structured import StructuredSimulator
from tests.llm.rule_options import ServerOptions
from tests.llm.rule_reading import answer_chat, predict
from tests.llm.rule_server import rule_server
from tests.llm.rule_tokens import BUNDLED, RuleTokenizer
from tests.tiny_tokenizers import wrapped

FEW_SHOT = read_few_shot_set("short")
UNIT = NeuronId(1, 2)
ACTIVE = {" river": 4.0, " bank": 2.0}
WORDS = ["We", " walked", " to", " the", " river", " and", " sat", " on", " its", " bank", "."]
NASTY = (*WORDS, "\n", "\t", "é", "🙂", "<0xE2>", "10", '"', " River", "river")


def window(*tokens: str, quiet: bool = False) -> ActivationRecord:
    return ActivationRecord(tokens, tuple(0.0 if quiet else ACTIVE.get(t, -0.1) for t in tokens))


RECORD = NeuronRecord(
    neuron_id=UNIT,
    top=tuple(window(*WORDS[: 11 - n % 2], "x" * n) for n in range(20)),
    strata=(Stratum(None, 0.5, 40, (window("The", " river", " rose", quiet=True),)),),
    random=(window("No", " word", " of", " it"),),
    moments=Moments(1000, 0.1, 1.0, None, None),
)
TABLE = TokenLookupTable(
    mean_by_token={" river": 3.9, " bank": 1.9, " and": -0.1},
    count_by_token={" river": 30, " bank": 20, " and": 90},
    default=0.0,
)


@dataclass
class Output:
    promoted: tuple[str, ...] = (" boat", " water")
    suppressed: tuple[str, ...] = (" desert",)


def explained(kind: str, **more: Any) -> tuple[Explanation, ...]:
    sources = EvidenceSources(read_table=lambda _: TABLE, read_output=lambda _: Output())

    async def explain() -> tuple[Explanation, ...]:
        client = OpenAIClient(api_key="any", base_url=server.base_url)
        try:
            explainer = LLMExplainer(client, "rule-1", prompt=kind, sources=sources, **more)
            return await explainer.explain(RECORD)
        finally:
            await client.close()

    with rule_server() as server:
        return asyncio.run(explain())


def predicted(text: str) -> dict[str, int]:
    """Tokens of the window on which the rule's simulator finds the explanation to hold."""
    return {word: value for word in WORDS if (value := predict(text, word))}


@pytest.mark.parametrize("is_chat", [True, False])
@pytest.mark.parametrize("kind", sorted(PROMPTS))
def test_every_explainer_prompt_is_answered_with_the_strongest_token(
    kind: str, is_chat: bool
) -> None:
    (explanation,) = explained(kind, is_chat=is_chat)
    named = predicted(explanation.text)
    if kind == "next_token":
        assert named == {" and": 10, ".": 10}
    else:
        assert named == {" river": 10, " bank": 10}


@pytest.mark.parametrize("several", ["samples", "list"])
def test_several_explanations_differ(several: Several) -> None:
    explanations = explained("token_activation", n_explanations=3, several=several)
    texts = [explanation.text for explanation in explanations]
    assert texts == ['tokens such as " river", " bank"', 'tokens such as " river"']


def test_sentences_are_written_for_the_named_tokens_and_a_revision_names_the_marked_ones() -> None:
    def answer(messages: Sequence[Message]) -> str:
        pieces = answer_chat([(message.role, message.content) for message in messages])
        return "".join(piece.text for piece in pieces)

    claim = 'tokens such as " river", " lake"'
    sentences = parse_sentences(answer(sentence_messages(claim, 6)), 6)
    assert len(sentences) == 6
    assert all(" river" in sentence or " lake" in sentence for sentence in sentences)
    marked = [mark_active(window(*WORDS), 4.0)]
    asked = revision_messages(claim, marked, ["No lake."], NewTexts.WRITTEN)
    assert predicted(parse_revision(answer(asked))) == {" river": 10, " bank": 10}


Make = Callable[["Server"], Simulator]


@dataclass
class Server:
    """Where it is, and the tokenizer of its model."""

    base_url: str
    tokenizer: PreTrainedTokenizerFast
    clients: list[OpenAIClient | CompletionsLogprobClient]

    def chat(self) -> OpenAIClient:
        self.clients.append(OpenAIClient(api_key="any", base_url=self.base_url))
        return self.clients[-1]  # type: ignore[return-value]


def all_at_once(form: Form) -> Make:
    def make(server: Server) -> Simulator:
        client = CompletionsLogprobClient(
            api_key="any", base_url=server.base_url, form=form, max_tokens=1
        )
        server.clients.append(client)
        pieces = HfPieceTokenizer(server.tokenizer)
        values, end = read_value_tokens(pieces)
        return AllAtOnceSimulator(
            client, pieces, model="rule-1", model_label="rule", values=values, end=end,
            few_shot=FEW_SHOT, n_context_tokens=32_768, n_window_tokens=64,
        )  # fmt: skip

    return make


def written(kind: Any, **more: Any) -> Make:
    return lambda server: kind(
        server.chat(), model="rule-1", model_label="rule", few_shot=FEW_SHOT, **more
    )


SIMULATORS: dict[str, Make] = {
    "all_at_once by echo": all_at_once("echo"),
    "all_at_once by prompt_logprobs": all_at_once("prompt_logprobs"),
    "streaming": written(StreamingSimulator),
    "structured": written(StructuredSimulator),
    "structured, asked in words": written(StructuredSimulator, use_schema=False),
    "one_at_a_time": written(OneAtATimeSimulator, max_tokens=2),
}
TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "bundled": lambda: PreTrainedTokenizerFast(tokenizer_file=str(BUNDLED)),
    "splits numbers": lambda: wrapped("qwen"),
    "sentencepiece": lambda: wrapped("llama"),
}


CASES = [
    (method, family)
    for method in SIMULATORS
    for family in TOKENIZERS
    if family == "bundled" or "structured" not in method  # too many tokens for so small ones
]


@pytest.mark.parametrize(("method", "family"), CASES)
def test_every_simulator_finds_the_named_tokens_and_no_other(method: str, family: str) -> None:
    explanation = Explanation(UNIT, 'tokens such as " river", "10"', "made up")
    tokenizer = TOKENIZERS[family]()
    rules = RuleTokenizer(tokenizer.backend_tokenizer)

    async def simulate(base_url: str) -> tuple[float | None, ...]:
        server = Server(base_url, tokenizer, [])
        try:
            found = await SIMULATORS[method](server).simulate(explanation, NASTY)
        finally:
            for client in server.clients:
                await client.close()
        assert found.tokens == NASTY
        assert found.n_missing == 0
        return found.expected_activations

    with rule_server(ServerOptions(prompt_logprobs="yes"), tokenizer=rules) as server:
        expected = [value or 0.0 for value in asyncio.run(simulate(server.base_url))]
    assert server.log.outcomes == {"answer": len(server.log.entries)}
    named = {token: value for token, value in zip(NASTY, expected, strict=True) if value > 1}
    assert set(named) == {" river", "river", " River", "10"}
    assert min(named.values()) > 7
    assert max(named.values()) == named[" river"] > 9
