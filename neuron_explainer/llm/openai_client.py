"""Any server that speaks OpenAI's chat protocol, through the openai package.

OpenAI, OpenRouter, vLLM, SGLang, Ollama, llama.cpp: they differ in the address, the key, and what
they leave out of an answer. The package says how to reach a server (address, key, organization) and
gives the HTTP client; questions and answers are plain JSON, posted as they are. The package's own
way to send one takes a third more time, and its objects for the answers as much as all the rest.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Mapping
from typing import IO, Any
from urllib.parse import urlsplit

import anyio
import httpx2
import openai

from neuron_explainer.errors import (
    AuthFailed,
    BadRequest,
    LLMError,
    RateLimited,
    ServerFailed,
    TimedOut,
    UsageError,
)
from neuron_explainer.llm.chat_body import ChatForm, one_line, read_completion
from neuron_explainer.llm.messages import Completion, CompletionRequest

OPENAI_URL = "https://api.openai.com/v1"
NO_KEY = "no-key-needed"
"""Sent to servers that ask for none."""
LEAST_KEY_LENGTH = 8
"""Shorter ones are words that a server was given for want of a key."""
CHAT = "chat/completions"
OUT_OF_CREDIT = "insufficient_quota"
OVERLOADED = {502, 503, 504, 529}
_BROKEN = (httpx2.RequestError, ssl.SSLError, anyio.EndOfStream)
"""What the HTTP client raises without an answer; the last two are TLS failures, as they come."""
_NEVER_SENT = (
    httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError,
    httpx2.LocalProtocolError, httpx2.UnsupportedProtocol,
)  # fmt: skip
_ADVICE = {
    "temperature": "leave --temperature out; a reasoning model is told by --reasoning-effort",
    "max_tokens": "if it is a reasoning model, say so with --reasoning-effort",
    "logprobs": "choose --simulation structured, which needs none",
    "top_logprobs": "choose --simulation structured, which needs none",
    "response_format": "choose another --simulation or model",
    "reasoning_effort": "leave --reasoning-effort out, or choose another",
}


class OpenAIServer:
    """An address, the key for it, and connections that are kept open."""

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str | None = None,
        timeout_s: float = 120.0,
        most_in_flight: int = 128,
    ) -> None:
        """base_url None: OpenAI's own. most_in_flight: connections that are kept open."""
        limits = httpx2.Limits(
            max_connections=most_in_flight, max_keepalive_connections=most_in_flight
        )
        self._http = openai.DefaultAsyncHttpxClient(limits=limits, timeout=timeout_s)
        api = openai.AsyncOpenAI(
            api_key=api_key, base_url=base_url or OPENAI_URL, http_client=self._http
        )
        self._http.headers.update(_headers_of(api))
        self.url = api.base_url
        self._api_key = api_key

    async def close(self) -> None:
        await self._http.aclose()

    async def send(self, method: str, path: str, **what: Any) -> httpx2.Response:
        """What came back with a status of success; an LLMError for anything else.

        what: `content`, `files`, `params` and so on, as httpx2 takes them.
        """
        url = self.url.join(path)
        try:
            reply = await self._http.request(method, url, **what)
        except _BROKEN as error:
            raise _as_no_answer(error, str(url), self._api_key) from None  # may quote the key
        if not reply.is_success:
            raise self.status_error(reply)
        return reply

    async def download(self, path: str, into: IO[bytes]) -> None:
        """A body of any size, some of it in memory at a time."""
        url = self.url.join(path)
        try:
            async with self._http.stream("GET", url) as reply:
                if not reply.is_success:
                    await reply.aread()
                    raise self.status_error(reply)
                async for part in reply.aiter_bytes():
                    into.write(part)
        except _BROKEN as error:
            raise _as_no_answer(error, str(url), self._api_key) from None

    def status_error(self, reply: httpx2.Response) -> LLMError:
        """What a status from 400 on means; the key is not quoted."""
        return _as_status_error(reply, self._api_key)


class OpenAIClient:
    """Asks once; retries and limits are the business of what wraps it."""

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str | None = None,
        timeout_s: float = 120.0,
        most_in_flight: int = 128,
        form: ChatForm | None = None,
    ) -> None:
        """base_url None: OpenAI's own. most_in_flight: connections that are kept open."""
        self._server = OpenAIServer(
            api_key=api_key, base_url=base_url, timeout_s=timeout_s, most_in_flight=most_in_flight
        )
        self._form = form or ChatForm()

    async def close(self) -> None:
        await self._server.close()

    async def ask(self, request: CompletionRequest, /) -> Completion:
        body = json.dumps(self._form.body(request)).encode()
        return read_completion((await self._server.send("POST", CHAT, content=body)).content)


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
    said = _without(api_key, one_line(str(error)) or type(error).__name__)
    return ServerFailed(f"no connection to {address_of(url)}: {said}", may_cost=may_cost)


def _as_status_error(reply: httpx2.Response, api_key: str) -> LLMError:
    status = reply.status_code
    if status in (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN):
        return AuthFailed(  # without the server's own words: some quote parts of the key
            f"the server said {status}; is the key right, and may it use the model?"
        )
    error = _read_error(reply)
    said = one_line(str(error.get("message") or "")) or "nothing more"
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
