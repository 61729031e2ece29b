"""A question and its answer as JSON, as OpenAI's chat protocol has them: posted or in a batch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from neuron_explainer.errors import BadRequest, Refused, ServerFailed
from neuron_explainer.llm.messages import (
    Completion,
    CompletionRequest,
    TokenLogprobs,
    Usage,
    fold_system,
)

LONGEST_MESSAGE = 500
"""Characters of what a server says; some answer with a page."""
LEAST_LOGPROB = -9999.0
"""What OpenAI and vLLM write for a probability of 0; others write -Infinity."""
_THINKS_FIRST = re.compile(r"(?:.*/)?(?:o[1-9]|gpt-[5-9](?:\.\d+)?(?!-chat))(?:[-:].*)?")


@dataclass(frozen=True, slots=True)
class ChatForm:
    """How a server wants its questions."""

    is_reasoning: bool | None = None
    """None: a request for a model of such a name, or with a reasoning effort, is for a model that
    thinks first: it takes no temperature, gives no logprobs, and has a limit of another name, for
    its thoughts count too."""
    takes_system: bool = True
    """False: what a system message says goes into the first message of the user."""

    def body(self, request: CompletionRequest) -> dict[str, Any]:
        """What is posted; BadRequest for what such a model cannot be asked."""
        is_reasoning = self.is_reasoning
        if is_reasoning is None:
            is_reasoning = request.reasoning_effort is not None or thinks_first(request.model)
        if is_reasoning and request.n_top_logprobs is not None:
            raise BadRequest(
                f"{request.model} is a reasoning model, which gives no logprobs; choose "
                "--simulation structured, which needs none"
            )
        messages = request.messages if self.takes_system else fold_system(request.messages)
        parameters: dict[str, Any] = {
            "model": request.model,
            "messages": [{"role": m.role, "content": m.content} for m in messages],
            "max_completion_tokens" if is_reasoning else "max_tokens": request.max_tokens,
        }
        sampling = () if is_reasoning else ("temperature", "top_p")
        for name in (*sampling, "seed", "reasoning_effort"):
            if getattr(request, name) is not None:
                parameters[name] = getattr(request, name)
        if request.n_top_logprobs is not None:
            parameters |= {"logprobs": True, "top_logprobs": request.n_top_logprobs}
        if request.json_schema is not None:
            schema = {"name": "answer", "strict": True, "schema": json.loads(request.json_schema)}
            parameters["response_format"] = {"type": "json_schema", "json_schema": schema}
        return parameters


def thinks_first(model: str) -> bool:
    """By OpenAI's names: o1, o3-mini, openai/o4-mini, gpt-5-nano, but not gpt-5-chat-latest."""
    return _THINKS_FIRST.fullmatch(model) is not None


def read_json(body: bytes) -> Any:
    """ValueError for what is no JSON; -Infinity, which some servers write, is a low logprob."""
    return json.loads(body, parse_constant=_read_constant)


def read_completion(body: bytes) -> Completion:
    """What a server answered with status 200; LLMError when that is no text."""
    try:
        reply = read_json(body)
    except ValueError as error:
        raise _unreadable(error, None) from error
    return read_reply(reply)


def read_reply(reply: Any) -> Completion:
    """The same, of what `read_json` made of a body."""
    try:
        usage = read_usage(reply.get("usage"))
    except AttributeError as error:
        raise _unreadable(error, None) from error
    try:
        return _read_choice(reply, usage)
    except (LookupError, TypeError, AttributeError) as error:
        raise _unreadable(error, usage) from error


def read_usage(raw: object) -> Usage | None:
    """None where the server does not count, or not in whole numbers."""
    if not isinstance(raw, Mapping):
        return None
    details = raw.get("prompt_tokens_details")
    if not isinstance(details, Mapping):
        details = {}
    counts = [
        raw.get("prompt_tokens"),
        details.get("cached_tokens") or 0,
        raw.get("completion_tokens") or 0,
    ]
    numbers = [count for count in counts if _is_count(count)]
    n_written = details.get("cache_write_tokens")
    if len(numbers) < len(counts):
        return None
    n_prompt, n_cached, n_completion = numbers
    return Usage(n_prompt, n_cached, n_completion, n_written if _is_count(n_written) else None)


def _is_count(raw: object) -> TypeGuard[int]:
    return isinstance(raw, int) and raw >= 0


def _read_choice(reply: Mapping[str, Any], usage: Usage | None) -> Completion:
    choices = reply.get("choices")
    if not choices:
        raise ServerFailed(
            "the server's answer holds no choice", usage=usage, may_cost=usage is None
        )
    choice = choices[0]
    message, reason = choice["message"], choice.get("finish_reason")
    if message.get("refusal") or reason == "content_filter":
        said = message.get("refusal") or "a content filter stopped the answer"
        raise Refused(one_line(said), usage=usage, may_cost=usage is None)
    text = message.get("content")
    if not text:
        if reason == "length":
            raise BadRequest(
                "no answer within max_tokens; give more: the model may think first",
                usage=usage,
                may_cost=usage is None,
            )
        raise ServerFailed("the server's answer is empty", usage=usage, may_cost=usage is None)
    if not isinstance(text, str):
        raise TypeError("its content is no text")
    logprobs = _read_logprobs(choice.get("logprobs"))
    return Completion(text, str(reply.get("model") or ""), reason or "stop", usage, logprobs)


def _read_logprobs(raw: Mapping[str, Any] | None) -> tuple[TokenLogprobs, ...] | None:
    entries = None if raw is None else raw.get("content")
    if entries is None:
        return None
    return tuple(
        TokenLogprobs(
            token=entry["token"],
            logprob=float(entry["logprob"]),
            top=tuple(
                (other["token"], float(other["logprob"]))
                for other in entry.get("top_logprobs") or ()
            ),
        )
        for entry in entries
    )


def _unreadable(error: Exception, usage: Usage | None) -> ServerFailed:
    said = one_line(f"the server's answer cannot be read: {error}")
    return ServerFailed(said, usage=usage, may_cost=usage is None)


def _read_constant(name: str) -> float:
    if name == "-Infinity":
        return LEAST_LOGPROB
    raise ValueError(f"it holds {name}")


def one_line(text: str) -> str:
    """The first line of what a server says, not too long."""
    return next(iter(text.strip().splitlines()), "")[:LONGEST_MESSAGE]
