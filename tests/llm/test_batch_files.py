"""Lines of a batch: questions as they would be posted, and answers or why there are none."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from neuron_explainer.errors import BadRequest, LLMError, Refused, ServerFailed
from neuron_explainer.llm.batch_files import (
    AnswerLine,
    read_answer,
    read_answers,
    write_question,
)
from neuron_explainer.llm.messages import Usage
from tests.llm.loopback import answer

BODY = {"model": "m", "messages": [{"role": "user", "content": "a\nb\u2028\ud800"}]}


def line(**fields: Any) -> str:
    return json.dumps({"id": "1", "custom_id": "k", "response": None, "error": None} | fields)


def answered(status: int, body: Any) -> str:
    return line(response={"status_code": status, "request_id": "r", "body": body})


def status_error(status: int, body: Any) -> LLMError:
    return BadRequest(f"{status} {body}")


def test_a_question_is_one_line_whatever_its_text_holds() -> None:
    written = write_question("k", BODY)
    assert written.count(b"\n") == 1
    assert json.loads(written) == {
        "custom_id": "k", "method": "POST", "url": "/v1/chat/completions", "body": BODY,
    }  # fmt: skip


def test_answers_end_at_line_breaks_alone_and_what_says_nothing_is_told_apart() -> None:
    odd = json.dumps({"custom_id": "a", "text": "x\u2028y\u0085z"}, ensure_ascii=False) + "\n"
    others = b'\n{"custom_id": 3}\n[1]\n{"custom_id": "b"\n\xff\n'
    found = list(read_answers(io.BytesIO(odd.encode() + others)))
    assert found == [AnswerLine("a", odd), None, None, None, None]


def test_an_answer_with_status_200_is_read_as_a_posted_ones() -> None:
    found = read_answer(answered(200, answer("hi").body), status_error)
    assert (found.text, found.usage) == ("hi", Usage(7, 0, 2))
    refused = answered(200, answer(None, refusal="no").body)
    with pytest.raises(Refused, match="no"):
        read_answer(refused, status_error)


def test_a_status_from_400_on_is_the_error_that_it_would_be() -> None:
    with pytest.raises(BadRequest, match=r"400 \{'error': 1\}"):
        read_answer(answered(400, {"error": 1}), status_error)


@pytest.mark.parametrize(
    "error", [{"code": "batch_expired", "message": "too late"}, {"code": "too late"}]
)
def test_a_request_that_was_never_run_may_be_sent_again_and_cost_nothing(error: object) -> None:
    with pytest.raises(ServerFailed, match="too late") as raised:
        read_answer(line(error=error), status_error)
    assert (raised.value.retryable, raised.value.may_cost) == (True, False)


@pytest.mark.parametrize("text", ["[]", "{", line(response=3), line(error="x"),
                                  line(response={"body": {}})])  # fmt: skip
def test_what_cannot_be_read_may_have_cost(text: str) -> None:
    with pytest.raises(ServerFailed, match="cannot be read") as raised:
        read_answer(text, status_error)
    assert raised.value.may_cost
