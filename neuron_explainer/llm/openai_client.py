"""Any server that speaks OpenAI's chat protocol, through the openai package.

OpenAI, OpenRouter, vLLM, SGLang, Ollama, llama.cpp: they differ in the address, the key, and what
they leave out of an answer. The package says how to reach a server (address, key, organization) and
gives the HTTP client; questions and answers are plain JSON, posted as they are. The package's own
way to send one takes a third more time, and its objects for the answers as much as all the rest.
"""

from __future__ import annotations

import json
import os
import re
import ssl
from collections.abc import Mapping
from typing import Any, TypeGuard
from urllib.parse import urlsplit

import anyio
import httpx2
import openai

from neuron_explainer.errors import (
    AuthFailed,
    BadRequest,
    LLMError,
    RateLimited,
    Refused,
    ServerFailed,
    TimedOut,
    UsageError,
)
from neuron_explainer.llm.messages import (
    Completion,
    CompletionRequest,
    TokenLogprobs,
    Usage,
    fold_system,
)

OPENAI_URL = "https://api.openai.com/v1"
NO_KEY = "no-key-needed"
"""Sent to servers that ask for none."""
LEAST_KEY_LENGTH = 8
"""Shorter ones are words that a server was given for want of a key."""
LONGEST_MESSAGE = 500
"""Characters of what a server says; some answer with a page."""
OUT_OF_CREDIT = "insufficient_quota"
OVERLOADED = {502, 503, 504, 529}
LEAST_LOGPROB = -9999.0
"""What OpenAI and vLLM write for a probability of 0; others write -Infinity."""
_BROKEN = (httpx2.RequestError, ssl.SSLError, anyio.EndOfStream)
"""What the HTTP client raises without an answer; the last two are TLS failures, as they come."""
_NEVER_SENT = (
    httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError,
    httpx2.LocalProtocolError, httpx2.UnsupportedProtocol,
)  # fmt: skip
_THINKS_FIRST = re.compile(r"(?:.*/)?(?:o[1-9]|gpt-[5-9](?:\.\d+)?(?!-chat))(?:[-:].*)?")
_ADVICE = {
    "temperature": "leave --temperature out; a reasoning model is told by --reasoning-effort",
    "max_tokens": "if it is a reasoning model, say so with --reasoning-effort",
    "logprobs": "choose --simulation structured, which needs none",
    "top_logprobs": "choose --simulation structured, which needs none",
    "response_format": "choose another --simulation or model",
    "reasoning_effort": "leave --reasoning-effort out, or choose another",
}


class OpenAIClient:
    """Asks once; retries and limits are the business of what wraps it."""

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str | None = None,
        timeout_s: float = 120.0,
        most_in_flight: int = 128,
        is_reasoning: bool | None = None,
        takes_system: bool = True,
    ) -> None:
        """base_url None: OpenAI's own. most_in_flight: connections that are kept open.
        takes_system False: what a system message says goes into the first message of the user.

        is_reasoning None: a request for a model of such a name, or with a reasoning effort, is for
        a model that thinks first: it takes no temperature, gives no logprobs, and has a limit of
        another name, for its thoughts count too.
        """
        limits = httpx2.Limits(
            max_connections=most_in_flight, max_keepalive_connections=most_in_flight
        )
        self._http = openai.DefaultAsyncHttpxClient(limits=limits, timeout=timeout_s)
        api = openai.AsyncOpenAI(
            api_key=api_key, base_url=base_url or OPENAI_URL, http_client=self._http
        )
        self._http.headers.update(_headers_of(api))
        self._url = api.base_url.join("chat/completions")
        self._api_key = api_key
        self._is_reasoning = is_reasoning
        self._takes_system = takes_system

    async def close(self) -> None:
        await self._http.aclose()

    async def ask(self, request: CompletionRequest, /) -> Completion:
        body = json.dumps(self._parameters(request)).encode()
        try:
            reply = await self._http.post(self._url, content=body)
        except _BROKEN as error:
            raise _as_no_answer(error, str(self._url), self._api_key) from None  # may quote the key
        if not reply.is_success:
            raise _as_status_error(reply, self._api_key)
        return read_completion(reply.content)

    def _parameters(self, request: CompletionRequest) -> dict[str, Any]:
        is_reasoning = self._is_reasoning
        if is_reasoning is None:
            is_reasoning = request.reasoning_effort is not None or thinks_first(request.model)
        if is_reasoning and request.n_top_logprobs is not None:
            raise BadRequest(
                f"{request.model} is a reasoning model, which gives no logprobs; choose "
                "--simulation structured, which needs none"
            )
        messages = request.messages if self._takes_system else fold_system(request.messages)
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


def read_api_key(env_name: str, base_url: str | None) -> str:
    """The key in the environment; a stand-in where the server is not OpenAI's.

    UsageError when OpenAI's is missing, or when what is there cannot be a key.
    """
    key = os.environ.get(env_name, "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UsageError(f"what is in {env_name} is no key: it has characters that no key has")
    host = urlsplit(base_url or OPENAI_URL).hostname or ""
    if not key and (host == "openai.com" or host.endswith(".openai.com")):
        raise UsageError(
            f"{env_name} is not set: put the key for {host} into it, or name another variable with "
            "--api-key-env"
        )
    return key or NO_KEY


def address_of(base_url: str | None) -> str:
    """A server's address without the name and password that an address may hold."""
    parts = urlsplit(base_url or OPENAI_URL)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}".rstrip("/")


def as_llm_error(error: openai.OpenAIError, api_key: str) -> LLMError:
    """What the package raised, as one of this project's errors, which never quote the key."""
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__ or error
        return _as_no_answer(cause, str(error.request.url), api_key)
    if isinstance(error, openai.APIStatusError):
        return _as_status_error(error.response, api_key)
    return ServerFailed(f"the server's answer cannot be read: {error}", may_cost=True)


def _headers_of(api: openai.AsyncOpenAI) -> dict[str, str]:
    """Without what the package tells of this machine, which takes time and helps nobody."""
    headers = {**api.default_headers, **api.auth_headers}
    return {
        name: value
        for name, value in headers.items()
        if isinstance(value, str) and not name.startswith("X-Stainless-")
    }


def _as_no_answer(error: BaseException, url: str, api_key: str) -> LLMError:
    may_cost = not isinstance(error, _NEVER_SENT)
    if isinstance(error, httpx2.TimeoutException | openai.APITimeoutError):
        return TimedOut(
            "the server did not answer in time; give it longer with --timeout-s, or choose another",
            may_cost=may_cost,
        )
    said = _without(api_key, _one_line(str(error)) or type(error).__name__)
    return ServerFailed(f"no connection to {address_of(url)}: {said}", may_cost=may_cost)


def _as_status_error(reply: httpx2.Response, api_key: str) -> LLMError:
    status = reply.status_code
    if status in (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN):
        return AuthFailed(  # without the server's own words: some quote parts of the key
            f"the server said {status}; is the key right, and may it use the model?"
        )
    error = _read_error(reply)
    said = _one_line(str(error.get("message") or "")) or "nothing more"
    message = f"the server said {status}: {_without(api_key, said)}"
    if status == httpx2.codes.TOO_MANY_REQUESTS:
        if error.get("code") == OUT_OF_CREDIT:
            return AuthFailed(message)
        return RateLimited(message, _retry_after_s(reply.headers))
    if status == httpx2.codes.REQUEST_TIMEOUT:
        return TimedOut(message)
    if status >= 500 or status == httpx2.codes.CONFLICT:
        return ServerFailed(message, is_overload=status in OVERLOADED)
    param = error.get("param")
    if isinstance(param, str) and param in _ADVICE and "support" in message.lower():
        return BadRequest(f"{message}; {_ADVICE[param]}")
    return BadRequest(message)


def _read_error(reply: httpx2.Response) -> Mapping[str, Any]:
    """What OpenAI puts under `error`, and others at the top; else the whole text is the message."""
    try:
        body = json.loads(reply.content)
        error = body.get("error", body)
    except (ValueError, AttributeError):
        return {"message": reply.text}
    return error if isinstance(error, Mapping) else {"message": error}


def read_completion(body: bytes) -> Completion:
    """What a server answered with status 200; LLMError when that is no text."""
    try:
        reply = json.loads(body, parse_constant=_read_constant)
        usage = read_usage(reply.get("usage"))
    except (ValueError, AttributeError) as error:
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
        raise Refused(_one_line(said), usage=usage, may_cost=usage is None)
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


def _read_constant(name: str) -> float:
    if name == "-Infinity":
        return LEAST_LOGPROB
    raise ValueError(f"it holds {name}")


def _unreadable(error: Exception, usage: Usage | None) -> ServerFailed:
    said = _one_line(f"the server's answer cannot be read: {error}")
    return ServerFailed(said, usage=usage, may_cost=usage is None)


def _retry_after_s(headers: httpx2.Headers) -> float | None:
    """In seconds; None for a date or nothing, which no server of these sends."""
    milliseconds = headers.get("retry-after-ms")
    text = headers.get("retry-after") if milliseconds is None else milliseconds
    try:
        seconds = float(text) if text is not None else -1.0
    except ValueError:
        return None
    if not 0 <= seconds < float("inf"):
        return None
    return seconds / 1000 if milliseconds is not None else seconds


def _without(api_key: str, text: str) -> str:
    """A word such as `key` or the stand-in is no secret, and may well stand in a message."""
    is_secret = len(api_key) >= LEAST_KEY_LENGTH and api_key != NO_KEY
    return text.replace(api_key, "…") if is_secret else text


def _one_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")[:LONGEST_MESSAGE]
