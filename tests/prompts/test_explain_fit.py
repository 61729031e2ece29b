"""A prompt is cut only as far as it must be, in a fixed order, and never to nothing."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from neuron_explainer.errors import CannotExplain
from neuron_explainer.llm.messages import Message
from neuron_explainer.llm.token_estimate import estimate_tokens
from neuron_explainer.prompts.activations import ShownWindow, format_pairs, normalize_window
from neuron_explainer.prompts.explain import Evidence, Example, build_messages
from neuron_explainer.prompts.explain_examples import read_examples
from neuron_explainer.prompts.explain_fit import TOKENS_A_MESSAGE, fit_messages
from neuron_explainer.prompts.explain_kinds import PROMPTS
from tests.prompts.evidence import EVIDENCE
from tests.prompts.published import read_explained_windows

PROMPT = PROMPTS["token_activation"]
TARGET = tuple(ShownWindow((f"target{i}", " end"), (10 - i, 0)) for i in range(4))


def window(name: str) -> ShownWindow:
    return ShownWindow((name, " end"), (9, 0))


EXAMPLES = tuple(
    Example(Evidence(tuple(window(f"example{e}.{i}.") for i in range(n))), f"explanation {e}")
    for e, n in enumerate((3, 2))
)


def size(messages: tuple[Message, ...]) -> int:
    return sum(len(message.content) + TOKENS_A_MESSAGE for message in messages)


def shown(messages: tuple[Message, ...]) -> list[str]:
    names = [w.tokens[0] for e in EXAMPLES for w in e.evidence.windows] + [
        w.tokens[0] for w in TARGET
    ]
    text = "".join(message.content for message in messages)
    return [name for name in names if name in text] + [m.content for m in messages[2:-1:2]]


def ever_smaller() -> Iterator[tuple[Message, ...]]:
    """The prompts for one token less each time than the one before takes."""
    room = 10**6
    while True:
        try:
            messages = fit_messages(PROMPT, EXAMPLES, Evidence(TARGET), room, len)
        except CannotExplain as error:
            assert error.reason.startswith(f"prompt too long: {room + 1} tokens")
            return
        assert size(messages) <= room
        yield messages
        room = size(messages) - 1


def test_what_is_left_out_first() -> None:
    whole, *cut = [shown(messages) for messages in ever_smaller()]
    assert whole == [
        "example0.0.", "example0.1.", "example0.2.", "example1.0.", "example1.1.",
        "target0", "target1", "target2", "target3", "explanation 0", "explanation 1",
    ]  # fmt: skip
    lost = [
        [name for name in before if name not in after]
        for before, after in zip([whole, *cut], cut, strict=False)
    ]
    assert lost == [
        ["example0.2."], ["example1.1."], ["example0.1."], ["target3"], ["target2"], ["target1"],
        ["example1.0.", "explanation 1"], ["example0.0.", "explanation 0"],
    ]  # fmt: skip


def test_what_fits_is_shown_whole() -> None:
    whole = build_messages(PROMPT, EXAMPLES, Evidence(TARGET))
    assert fit_messages(PROMPT, EXAMPLES, Evidence(TARGET), size(whole), len) == whole


@pytest.mark.parametrize("name", PROMPTS)
@pytest.mark.parametrize("is_chat", [True, False])
def test_every_prompt_can_be_cut_to_one_window_and_no_example(name: str, is_chat: bool) -> None:
    prompt = PROMPTS[name]
    least = replace(EVIDENCE, windows=EVIDENCE.windows[:1])
    room = size(build_messages(prompt, [], least, is_chat=is_chat))
    examples = read_examples(prompt)
    messages = fit_messages(prompt, examples, EVIDENCE, room, len, is_chat=is_chat)
    assert messages == build_messages(prompt, [], least, is_chat=is_chat) or name == "token_space"
    assert size(messages) <= room
    with pytest.raises(CannotExplain, match="prompt too long"):
        fit_messages(prompt, examples, EVIDENCE, room // 2, len, is_chat=is_chat)


def test_quiet_windows_are_left_out_beside_the_others() -> None:
    prompt = PROMPTS["contrastive"]
    evidence = Evidence(TARGET, quiet=tuple(window(f"silent{i}") for i in range(4)))
    kept = []
    room = size(build_messages(prompt, [], evidence))
    for _ in range(7):
        messages = fit_messages(prompt, [], evidence, room, len)
        text = messages[-1].content
        kept.append((text.count("target"), text.count("silent")))
        room = size(messages) - 1
    assert kept == [(4, 4), (3, 4), (3, 3), (2, 3), (2, 2), (1, 2), (1, 1)]


@pytest.fixture(scope="module")
def gpt2(shared_data: Path) -> Tokenizer:
    return Tokenizer.from_file(str(shared_data / "tokenizer" / "gpt2" / "tokenizer.json"))


def count(tokenizer: Tokenizer, text: str) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


@pytest.mark.shared_data
@pytest.mark.parametrize("kind", ["books", "code", "docs", "encyclopedic", "news_dialogue"])
def test_an_estimate_is_at_most_a_tenth_too_small(
    shared_data: Path, gpt2: Tokenizer, kind: str
) -> None:
    rng = random.Random(0)
    with (shared_data / "corpus" / f"{kind}.jsonl").open(encoding="utf-8") as file:
        texts = [json.loads(next(file))["text"][:2000] for _ in range(30)]
    for text in texts:
        ids = gpt2.encode(text, add_special_tokens=False).ids[:320]
        tokens = tuple(gpt2.decode([i]) for i in ids)
        pairs = format_pairs([ShownWindow(tokens, tuple(rng.randint(0, 10) for _ in tokens))])
        assert 0.9 <= estimate_tokens(pairs) / count(gpt2, pairs) <= 1.5
        assert 0.9 <= estimate_tokens(text) / count(gpt2, text) <= 2.0


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["token_activation", "summary", "highlight"])
def test_an_estimate_of_a_whole_prompt_is_near(
    shared_data: Path, gpt2: Tokenizer, name: str
) -> None:
    for records in read_explained_windows(shared_data):
        largest = max(record.max_activation for record in records)
        evidence = Evidence(tuple(normalize_window(record, largest) for record in records))
        messages = build_messages(PROMPTS[name], read_examples(PROMPTS[name]), evidence)
        text = "\n".join(message.content for message in messages)
        assert 0.95 <= estimate_tokens(text) / count(gpt2, text) <= 1.3


@pytest.mark.parametrize("text", ["", "数学", "😀", "\u00e9t\u00e9", "1234567", "    x", "\ud800"])
def test_an_estimate_is_zero_for_no_text_alone(text: str) -> None:
    assert (estimate_tokens(text) > 0) == bool(text)
