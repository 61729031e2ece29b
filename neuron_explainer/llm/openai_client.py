"""Any server that speaks OpenAI's chat protocol, through the openai package.

OpenAI, OpenRouter, vLLM, SGLang, Ollama, llama.cpp: they differ in the address, the key, and what
they leave out of an answer.
"""

from __future__ import annotations

import json
from typing import Any

import openai
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion
from openai.types.chat.chat_completion import Choice

from neuron_explainer.errors import (
    AuthFailed,
    BadRequest,
    LLMError,
    RateLimited,
    Refused,
    ServerFailed,
    TimedOut,
)
from neuron_explainer.llm.messages import Completion, CompletionRequest, TokenLogprobs, Usage

OUT_OF_CREDIT = "insufficient_quota"


class OpenAIClient:
    """Asks once; retries and limits are the business of what wraps it."""

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str | None = None,
        timeout_s: float = 120.0,
        is_reasoning: bool = False,
    ) -> None:
        """base_url None: OpenAI's own. is_reasoning: the models limit answers, thoughts included,
        by `max_completion_tokens`, which other servers do not know.
        """
        self._client = openai.AsyncOpenAI(
            api_key=api_key, base_url=base_url, timeout=timeout_s, max_retries=0
        )
        self._limit_name = "max_completion_tokens" if is_reasoning else "max_tokens"

    async def close(self) -> None:
        await self._client.close()

    async def complete(self, request: CompletionRequest) -> Completion:
        try:
            reply = await self._client.chat.completions.create(**self._parameters(request))
        except openai.OpenAIError as error:
            raise as_llm_error(error, self._client.api_key) from None  # it may quote the key
        except ValueError as error:  # a body that is no JSON
            raise ServerFailed(f"the server's answer cannot be read: {error}") from error
        return _read(reply)

    def _parameters(self, request: CompletionRequest) -> dict[str, Any]:
        parameters: dict[str, Any] = {
            "model": request.model,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            self._limit_name: request.max_tokens,
        }
        for name in ("temperature", "top_p", "seed", "reasoning_effort"):
            if getattr(request, name) is not None:
                parameters[name] = getattr(request, name)
        if request.n_top_logprobs is not None:
            parameters |= {"logprobs": True, "top_logprobs": request.n_top_logprobs}
        if request.json_schema is not None:
            schema = {"name": "answer", "strict": True, "schema": json.loads(request.json_schema)}
            parameters["response_format"] = {"type": "json_schema", "json_schema": schema}
        return parameters


def as_llm_error(error: openai.OpenAIError, api_key: str) -> LLMError:
    """What the package raised, as one of this project's errors, which never quote the key."""
    if isinstance(error, openai.APITimeoutError):
        return TimedOut("the server did not answer in time; give it longer, or another server")
    if isinstance(error, openai.APIConnectionError):
        return ServerFailed(f"no connection to {error.request.url}: {error.__cause__ or error}")
    if not isinstance(error, openai.APIStatusError):
        return ServerFailed(f"the server's answer cannot be read: {error}")
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        return AuthFailed(  # without the server's own words: some quote parts of the key
            f"the server said {error.status_code}; is the key right, and may it use the model?"
        )
    said = _first_line(error).replace(api_key, "…")
    message = f"the server said {error.status_code}: {said}"
    if isinstance(error, openai.RateLimitError):
        if error.code == OUT_OF_CREDIT:
            return AuthFailed(message)
        return RateLimited(message, _retry_after_s(error))
    if error.status_code >= 500 or isinstance(error, openai.ConflictError):
        return ServerFailed(message)
    return BadRequest(message)


def _read(reply: ChatCompletion) -> Completion:
    choices = reply.choices or []
    if not choices:
        raise ServerFailed("the server's answer holds no choice")
    choice = choices[0]
    if choice.message.refusal or choice.finish_reason == "content_filter":
        raise Refused(choice.message.refusal or "a content filter stopped the answer")
    if not choice.message.content:
        if choice.finish_reason == "length":
            raise BadRequest("no answer within max_tokens; give more: the model may think first")
        raise ServerFailed("the server's answer is empty")
    return Completion(
        text=choice.message.content,
        model=reply.model,
        finish_reason=choice.finish_reason or "stop",
        usage=_usage(reply.usage),
        logprobs=_logprobs(choice),
    )


def _usage(usage: CompletionUsage | None) -> Usage | None:
    if usage is None:
        return None
    details = usage.prompt_tokens_details
    return Usage(
        n_prompt_tokens=usage.prompt_tokens,
        n_cached_tokens=(details.cached_tokens or 0) if details else 0,
        n_completion_tokens=usage.completion_tokens,
    )


def _logprobs(choice: Choice) -> tuple[TokenLogprobs, ...] | None:
    if choice.logprobs is None or choice.logprobs.content is None:
        return None
    return tuple(
        TokenLogprobs(
            token=entry.token,
            logprob=entry.logprob,
            top=tuple((other.token, other.logprob) for other in entry.top_logprobs or ()),
        )
        for entry in choice.logprobs.content
    )


def _retry_after_s(error: openai.APIStatusError) -> float | None:
    """Of the header, in seconds; None for a date or nothing, which no server of these sends."""
    headers = error.response.headers
    milliseconds = headers.get("retry-after-ms")
    text = headers.get("retry-after") if milliseconds is None else milliseconds
    try:
        seconds = float(text) if text is not None else -1.0
    except ValueError:
        return None
    if seconds < 0:
        return None
    return seconds / 1000 if milliseconds is not None else seconds


def _first_line(error: openai.APIStatusError) -> str:
    body = error.body
    text = body.get("message") if isinstance(body, dict) else None
    return next(iter(str(text or error.message).strip().splitlines()), "nothing more")
