"""Equal questions have equal keys; whatever can change an answer changes the key."""

from __future__ import annotations

from dataclasses import fields, replace

from neuron_explainer.llm.messages import CompletionRequest, Message

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
