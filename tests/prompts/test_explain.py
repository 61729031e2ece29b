"""Every prompt as a whole, in tests/prompts/golden; and what holds for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from neuron_explainer.llm.messages import Message
from neuron_explainer.prompts.activations import ShownWindow, normalize_window
from neuron_explainer.prompts.explain import Evidence, build_messages
from neuron_explainer.prompts.explain_examples import read_examples
from neuron_explainer.prompts.explain_kinds import PROMPTS
from tests.prompts.evidence import EVIDENCE, EXAMPLE
from tests.prompts.published import read_explained_windows
from tests.records.published import read_published_records

GOLDEN = Path(__file__).parent / "golden"
WINDOWED = [name for name, prompt in PROMPTS.items() if "windows" in prompt.needs]


def as_text(messages: Sequence[Message]) -> str:
    return "".join(f"[{message.role}]\n{message.content}\n" for message in messages)


@pytest.mark.parametrize("name", PROMPTS)
def test_the_whole_prompt(name: str) -> None:
    messages = build_messages(PROMPTS[name], [EXAMPLE], EVIDENCE)
    assert as_text(messages) == (GOLDEN / f"explain_{name}.txt").read_text("utf-8")


@pytest.mark.parametrize("n_listed", [1, 3])
def test_the_whole_prompt_as_one_text(n_listed: int) -> None:
    prompt = PROMPTS["token_activation"]
    messages = build_messages(prompt, [EXAMPLE], EVIDENCE, is_chat=False, n_listed=n_listed)
    path = GOLDEN / f"explain_token_activation_text_{n_listed}.txt"
    assert as_text(messages) == path.read_text("utf-8")


@pytest.mark.parametrize("name", PROMPTS)
def test_all_but_the_last_message_is_the_same_for_every_unit(name: str) -> None:
    examples = read_examples(PROMPTS[name])
    one = build_messages(PROMPTS[name], examples, EVIDENCE)
    other = build_messages(PROMPTS[name], examples, EXAMPLE.evidence)
    listed = build_messages(PROMPTS[name], examples, EVIDENCE, n_listed=4)
    assert one[:-1] == other[:-1] == listed[:-1]
    assert len({one[-1], other[-1], listed[-1]}) == 3
    assert [message.role for message in one] == [
        "system", *["user", "assistant"] * len(examples), "user"
    ]  # fmt: skip


@pytest.mark.parametrize("name", PROMPTS)
@pytest.mark.parametrize("is_chat", [True, False])
def test_the_text_ends_where_the_model_goes_on(name: str, is_chat: bool) -> None:
    *_, last = build_messages(PROMPTS[name], [EXAMPLE], EVIDENCE, is_chat=is_chat)
    assert last.content.endswith(PROMPTS[name].opening.format(number=2))
    *_, last = build_messages(PROMPTS[name], [EXAMPLE], EVIDENCE, is_chat=is_chat, n_listed=2)
    assert last.content.endswith("\n1.") != is_chat


@pytest.mark.parametrize("name", WINDOWED)
@pytest.mark.parametrize("n_listed", [1, 3])
def test_the_evidence_is_in_the_prompt_however_many_are_asked_for(name: str, n_listed: int) -> None:
    *_, last = build_messages(PROMPTS[name], [], EVIDENCE, n_listed=n_listed)
    assert all(token.strip() in last.content for w in EVIDENCE.windows for token in w.tokens[1:])


@pytest.mark.parametrize("name", ["token_activation", "next_token"])
def test_a_dense_unit_is_not_shown_twice(name: str) -> None:
    dense = Evidence(windows=(ShownWindow(("a", " b", " c"), (9, 3, 0)),))
    sparse = replace(dense, windows=(ShownWindow(("a",) * 20, (*[0] * 18, 5, 0)),))
    shown = [PROMPTS[name].show(evidence).count("<start>") for evidence in (dense, sparse)]
    assert shown == [1, 2]


def test_without_quiet_windows_the_prompt_says_so() -> None:
    shown = PROMPTS["contrastive"].show(replace(EVIDENCE, quiet=()))
    assert shown.endswith("in every text at hand that has one of its tokens)")


@pytest.mark.shared_data
def test_the_cheap_prompts_are_as_much_shorter_as_published(shared_data: Path) -> None:
    """Lee et al. 2023, their notebook: 2,376.6 tokens against 963.2 and 885.0: 2.47 and 2.69."""
    tokenizer = Tokenizer.from_file(str(shared_data / "tokenizer" / "gpt2" / "tokenizer.json"))
    units = [read_published_records(shared_data).train, *read_explained_windows(shared_data)]
    n_tokens = dict.fromkeys(("token_activation", "summary", "highlight"), 0)
    for records in units:
        largest = max(record.max_activation for record in records)
        evidence = Evidence(tuple(normalize_window(record, largest) for record in records))
        for name in n_tokens:
            messages = build_messages(PROMPTS[name], read_examples(PROMPTS[name]), evidence)
            n_tokens[name] += sum(len(tokenizer.encode(m.content).ids) for m in messages)
    assert n_tokens["token_activation"] >= 2.4 * n_tokens["summary"]
    assert n_tokens["token_activation"] >= 2.7 * n_tokens["highlight"]
