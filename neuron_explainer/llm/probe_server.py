"""How the probe asks a server: it counts what it asks, and takes a refusal as an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import openai

from neuron_explainer.errors import AuthFailed, ServerFailed
from neuron_explainer.llm.chat_body import read_usage
from neuron_explainer.llm.messages import Usage
from neuron_explainer.llm.openai_client import as_llm_error

Raw: TypeAlias = Mapping[str, Any]
"""JSON as a server sent it: whatever is read from it is checked."""


class ProbedServer:
    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self._client = client
        self.n_requests = 0
        self.usage: Usage | None = None
        """Of all answers that say it."""
        self.denial: AuthFailed | None = None
        """When the key was not taken; some servers deny a single endpoint in that way."""

    async def ask(
        self, method: Literal["GET", "POST"], path: str, body: Raw | None = None
    ) -> Raw | str:
        """The reply, or in one line why the server gives none to such a request.

        LLMError when it says nothing of the request: no connection, no answer in time, too much
        to do.
        """
        self.n_requests += 1
        try:
            if method == "GET":
                reply = await self._client.get(path, cast_to=object)
            else:
                reply = await self._client.post(path, cast_to=object, body=body)
        except openai.OpenAIError as error:
            return self._as_reason(error)
        except ValueError as error:  # a body that is no JSON
            raise self._unreadable() from error
        if not isinstance(reply, dict):
            raise self._unreadable()
        self._count(read_usage(reply.get("usage")))
        return reply

    def _as_reason(self, error: openai.OpenAIError) -> str:
        found = as_llm_error(error, self._client.api_key)
        if found.is_overload or not isinstance(error, openai.APIStatusError):
            raise found from None  # what it came from may quote the key
        if isinstance(found, AuthFailed):
            self.denial = found
        return str(found)

    def _unreadable(self) -> ServerFailed:
        return ServerFailed(
            f"what {self._client.base_url} answers is no JSON; is the address right? It mostly "
            "ends in /v1"
        )

    def _count(self, usage: Usage | None) -> None:
        if usage is not None:
            self.usage = usage if self.usage is None else self.usage + usage


def first_choice(reply: Raw) -> Raw:
    """Empty when there is none."""
    choices = reply.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0]
    return {}


def inside(raw: object, *path: str) -> Any:
    """What stands there; None when nothing does."""
    for name in path:
        raw = raw.get(name) if isinstance(raw, Mapping) else None
    return raw
