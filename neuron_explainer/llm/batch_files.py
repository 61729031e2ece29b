"""The files of a batch: questions go up as lines, answers come back as lines, in any order.

OpenAI's Batch API. A question: `{"custom_id", "method", "url", "body"}`. An answer, in the output
file or in the error file: `{"custom_id", "response": {"status_code", "body"}, "error"}`; of a
request that was never run, as when the batch expires, `response` is null and `error` says why.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, NamedTuple

from neuron_explainer.errors import LLMError, ServerFailed
from neuron_explainer.llm.chat_body import one_line, read_json, read_reply
from neuron_explainer.llm.messages import Completion

ENDPOINT = "/v1/chat/completions"
MOST_REQUESTS = 50_000
"""In a batch; and of the file's bytes:"""
MOST_BYTES = 200_000_000
"""As the openai package (3.54, `types/batch_create_params.py`) says."""


class AnswerLine(NamedTuple):
    """One line that came back."""

    key: str
    text: str
    """As it came."""


def write_question(key: str, body: Mapping[str, Any]) -> bytes:
    """One line; body: as it would be posted."""
    line = {"custom_id": key, "method": "POST", "url": ENDPOINT, "body": body}
    return json.dumps(line).encode() + b"\n"


def read_answers(file: IO[bytes]) -> Iterator[AnswerLine | None]:
    """The lines of an output or error file; None for one that does not say what it answers."""
    for raw in file:  # of bytes: lines end with \n alone, whatever a text holds
        if not raw.strip():
            continue
        try:
            key = json.loads(raw)["custom_id"]
            yield AnswerLine(key, raw.decode("utf-8")) if isinstance(key, str) else None
        except (ValueError, LookupError, TypeError):
            yield None


def read_answer(text: str, status_error: Callable[[int, Any], LLMError]) -> Completion:
    """The completion of an answer's line, or the LLMError that it means.

    status_error: what a server's status and body mean, from 400 on.
    """
    try:
        line = read_json(text.encode())
        response, error = line.get("response"), line.get("error")
        if response is None:
            raise _never_run(error)
        status, body = int(response["status_code"]), response.get("body")
    except (ValueError, LookupError, TypeError, AttributeError) as failure:
        said = one_line(f"the batch's answer cannot be read: {failure!r}")
        raise ServerFailed(said, may_cost=True) from failure
    if status >= 400:
        raise status_error(status, body)
    return read_reply(body)


def _never_run(error: Mapping[str, Any] | None) -> ServerFailed:
    said = (error or {}).get("message") or (error or {}).get("code") or "it does not say why"
    return ServerFailed(one_line(f"the batch ended before this request was answered: {said}"))
