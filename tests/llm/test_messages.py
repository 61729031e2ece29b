"""Equal questions have equal keys; whatever can change an answer changes the key. Folding a system
message into the user's loses nothing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields, replace

import pytest

from neuron_explainer.llm.messages import (
    AlternativesRequest,
    CompletionRequest,
    Message,
    PromptLogprobRequest,
    Usage,
    fold_system,
)

REQUEST = CompletionRequest("m", (Message("user", "hi"),), 5)
OTHER = {
    "model": "n", "messages": (Message("system", "hi"),), "max_tokens": 6, "temperature": 0.0,
    "top_p": 0.9, "n_top_logprobs": 5, "json_schema": "{}", "reasoning_effort": "low", "seed": 0,
}  # fmt: skip


def test_equal_questions_have_equal_keys() -> None:
    assert REQUEST.key() == CompletionRequest("m", (Message("user", "hi"),), 5).key()


def test_every_field_changes_the_key() -> None:
    assert {f.name for f in fields(CompletionRequest)} == set(OTHER)
    keys = {replace(REQUEST, **{name: value}).key() for name, value in OTHER.items()}
    assert len(keys | {REQUEST.key()}) == len(OTHER) + 1


def test_where_one_message_ends_is_part_of_the_question() -> None:
    one = (Message("user", "a"), Message("user", "b"))
    assert (
        replace(REQUEST, messages=one).key()
        != replace(REQUEST, messages=(Message("user", "ab"),)).key()
    )


@pytest.mark.parametrize(
    "request_",
    [
        REQUEST,
        replace(REQUEST, **OTHER),
        PromptLogprobRequest("m", (1, 2), (3,), (0, 1), ((4,), (4, 5)), 6),
        AlternativesRequest("m", (1, 2, 3), (0, 3)),
    ],
)
def test_the_key_is_a_digest_of_all_fields(request_) -> None:
    """Answers are kept by it on disk, so it must stay what it is."""
    text = json.dumps(asdict(request_), sort_keys=True, ensure_ascii=False)
    assert request_.key() == hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


SYSTEM, FIRST, ANSWER, SECOND = (
    Message("system", "be brief"), Message("user", "one"), Message("assistant", "1"),
    Message("user", "two"),
)  # fmt: skip


def test_a_system_message_goes_before_the_users_first() -> None:
    folded = fold_system((SYSTEM, FIRST, ANSWER, SECOND))
    assert folded == (Message("user", "be brief\n\none"), ANSWER, SECOND)


@pytest.mark.parametrize("messages", [(SYSTEM,), (SYSTEM, ANSWER), (SYSTEM, ANSWER, SECOND)])
def test_no_system_message_is_left_and_none_is_lost(messages: tuple[Message, ...]) -> None:
    folded = fold_system(messages)
    assert folded[0 if len(messages) < 3 else 1].role == "user"
    assert "system" not in {message.role for message in folded}
    for message in messages:
        assert any(message.content in other.content for other in folded)


def test_without_a_system_message_nothing_changes() -> None:
    assert fold_system((FIRST, ANSWER, SECOND)) == (FIRST, ANSWER, SECOND)


def test_what_one_usage_does_not_say_the_sum_does_not_say() -> None:
    assert Usage(5, 4, 3, 2) + Usage(10, 20, 30, 40) == Usage(15, 24, 33, 42)
    assert Usage(5, 4, 3, 2) + Usage(10, 20, 30) == Usage(15, 24, 33, None)
