"""What a server's model expects at places of a prompt, through the older completions protocol.

Bills et al. 2023 read their simulator so: `echo` gives the prompt back with the most probable
tokens of every place. vLLM has `prompt_logprobs` for the same. The prompt is sent as token ids, so
the places are known; a server that makes other tokens of it is found out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import openai

from neuron_explainer.errors import BadRequest, Refused, ServerFailed
from neuron_explainer.llm.chat_body import read_usage
from neuron_explainer.llm.client import Client
from neuron_explainer.llm.messages import (
    AlternativesRequest,
    ExpectedValues,
    NamedAlternatives,
    PromptLogprobRequest,
    Usage,
)
from neuron_explainer.llm.named_values import Alternatives, NamedValues
from neuron_explainer.llm.openai_client import as_llm_error

Form = Literal["echo", "prompt_logprobs"]
Raw: TypeAlias = Mapping[str, Any]
"""JSON as the server sent it."""
MIN_P_TO_FOLLOW = 0.01
"""Where a value's first token of two is less probable than this, it is not asked what would follow
it: it counts as the value that it is alone."""
ID_PREFIX = "token_id:"
"""So vLLM writes a token that it was asked to name by its id."""
_VLLM_ALONE: Raw = {"add_special_tokens": False, "return_tokens_as_token_ids": True}
"""Nothing is to be put before the prompt, and tokens are to be named by their ids."""


AlternativesClient: TypeAlias = Client[AlternativesRequest, NamedAlternatives]


def unguarded(client: AlternativesClient) -> AlternativesClient:
    return client


class CompletionsLogprobClient:
    """Expected values from what a server names: one request, and one more for each place where a
    value of two tokens may be meant."""

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str,
        form: Form,
        n_top_logprobs: int = 20,
        max_tokens: Literal[0, 1] = 0,
        timeout_s: float = 120.0,
        guard: Callable[[AlternativesClient], AlternativesClient] = unguarded,
    ) -> None:
        """form: how the server gives the prompt's logprobs. n_top_logprobs: as many as it allows
        (vLLM: 20 unless it was started with more; OpenAI: 5). max_tokens: of the answer that comes
        with an `echo`, which nobody reads; not every server takes 0. guard: puts retries, limits
        and the budget around each single request.
        """
        self._server = _Server(
            openai.AsyncOpenAI(
                api_key=api_key, base_url=base_url, timeout=timeout_s, max_retries=0
            ),
            form,
            n_top_logprobs,
            max_tokens,
        )
        self._one = guard(self._server)

    async def close(self) -> None:
        await self._server.close()

    async def ask(self, request: PromptLogprobRequest, /) -> ExpectedValues:
        """A place has no value when none is among the most probable tokens there. BadRequest when
        the server does not read the prompt's tokens as they are, or gives no logprobs of them.
        """
        values = NamedValues.of(request.values, request.end)
        prompt = (*request.prefix, *request.ids)
        places = tuple(len(request.prefix) + position for position in request.positions)
        found = await self._one.ask(AlternativesRequest(request.model, prompt, places))
        usage = found.usage
        expected = []
        for place, alternatives in zip(places, found.at, strict=True):
            following: dict[int, Alternatives] = {}
            for first in sorted(values.firsts):
                if values.probability(alternatives, first) >= MIN_P_TO_FOLLOW:
                    begun = (*prompt[:place], first)  # one at a time: a round trip each is rare
                    after = await self._one.ask(
                        AlternativesRequest(request.model, begun, (len(begun),))
                    )
                    (following[first],) = after.at
                    usage = None if usage is None or after.usage is None else usage + after.usage
            expected.append(values.expected_value(alternatives, following))
        return ExpectedValues(tuple(expected), usage)


class _Server:
    """Asks once."""

    def __init__(
        self, client: openai.AsyncOpenAI, form: Form, n_top_logprobs: int, max_tokens: int
    ) -> None:
        self._client = client
        self._form: Form = form
        self._n_top = n_top_logprobs
        self._max_tokens = max_tokens

    async def close(self) -> None:
        await self._client.close()

    async def ask(self, request: AlternativesRequest, /) -> NamedAlternatives:
        if request.places == (len(request.prompt),):
            return await self._ask_next(request)
        return await self._ask_places(request)

    async def _ask_places(self, request: AlternativesRequest) -> NamedAlternatives:
        n_prompt, places = len(request.prompt), request.places
        asks_behind = bool(places) and places[-1] == n_prompt
        if self._form == "echo":
            n_new = 1 if asks_behind else self._max_tokens
            body = {"echo": True, "max_tokens": n_new, "logprobs": self._n_top}
        else:
            n_new = 1
            body = {"max_tokens": 1, "prompt_logprobs": self._n_top, **_VLLM_ALONE}
            if asks_behind:
                body["logprobs"] = self._n_top
        reply = _Reply(await self._post(request, body))
        if self._form == "echo":
            shown = reply.echoed(n_prompt, n_new)
        else:
            shown = reply.prompt_logprobs(request.prompt)
            if asks_behind:
                shown += reply.top_logprobs()[:1]
        if len(shown) <= max(places, default=0):
            raise reply.as_bad("the server gives no logprobs of its answer")
        return NamedAlternatives(tuple(shown[place] for place in places), reply.usage)

    async def _ask_next(self, request: AlternativesRequest) -> NamedAlternatives:
        """What may come after the prompt, which need not be given back for that."""
        body: Raw = {"max_tokens": 1, "logprobs": self._n_top}
        if self._form != "echo":
            body = {**body, **_VLLM_ALONE}
        reply = _Reply(await self._post(request, body))
        after = reply.top_logprobs()
        if not after:
            raise reply.as_bad("the server gives no logprobs of its answer")
        return NamedAlternatives((after[0],), reply.usage)

    async def _post(self, request: AlternativesRequest, body: Raw) -> bytes:
        """Past the package's own objects, which take longer to make than the rest of a request."""
        known = {"echo", "max_tokens", "logprobs"}
        parameters = {name: value for name, value in body.items() if name in known}
        extra = {name: value for name, value in body.items() if name not in known}
        try:
            reply = await self._client.completions.with_raw_response.create(
                model=request.model,
                prompt=list(request.prompt),
                temperature=0.0,
                **parameters,
                extra_body=extra or None,
            )
        except openai.OpenAIError as error:
            raise as_llm_error(error, self._client.api_key) from None  # it may quote the key
        content: bytes = reply.content
        return content


class _Reply:
    """What a server answered with status 200; ServerFailed when it is not of the protocol."""

    def __init__(self, content: bytes) -> None:
        self.usage: Usage | None = None
        try:
            reply = json.loads(content, parse_constant=_read_constant)
            self.usage = read_usage(reply.get("usage"))
            self._choice: Raw = reply["choices"][0]
            reason = self._choice.get("finish_reason")
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise self._unreadable(error) from error
        if reason == "content_filter":
            raise Refused("a content filter stopped the answer", **self._cost())

    def top_logprobs(self) -> list[Alternatives]:
        """One mapping a token, in the order of the text; empty for the first one of a prompt."""
        try:
            tops = (self._choice.get("logprobs") or {}).get("top_logprobs") or ()
            return [{_name(t): float(p) for t, p in (top or {}).items()} for top in tops]
        except (ValueError, TypeError, AttributeError) as error:
            raise self._unreadable(error) from error

    def echoed(self, n_prompt: int, n_new: int) -> list[Alternatives]:
        """The alternatives of each place of the prompt, and of what was written after it."""
        shown = self.top_logprobs()
        if self.usage is not None:
            n_read = self.usage.n_prompt_tokens
        else:  # the answer may have ended before its first token
            n_read = n_prompt if len(shown) in (n_prompt, n_prompt + n_new) else len(shown)
        self._check_n_read(n_read, n_prompt)
        if len(shown) < n_prompt:
            raise self.as_bad(
                f"the server gives logprobs for {len(shown)} of the prompt's {n_prompt} tokens; it "
                "does not echo"
            )
        return shown

    def prompt_logprobs(self, prompt: Sequence[int]) -> list[Alternatives]:
        """The alternatives of each place of the prompt."""
        raw = self._choice.get("prompt_logprobs")
        if raw is None:
            raise self.as_bad("the server does not know prompt_logprobs")
        try:
            shown: list[Alternatives] = [
                {int(i): float(entry["logprob"]) for i, entry in (place or {}).items()}
                for place in raw
            ]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise self._unreadable(error) from error
        self._check_n_read(len(shown), len(prompt))
        # The token that stands there is always named, beside the most probable ones.
        both = zip(prompt, shown, strict=True)
        n_other = sum(bool(named) and token_id not in named for token_id, named in both)
        if n_other:
            raise self.as_bad(
                f"the server makes other tokens of the prompt ({n_other} of {len(prompt)} differ)"
            )
        return shown

    def as_bad(self, message: str) -> BadRequest:
        return BadRequest(message, **self._cost())

    def _check_n_read(self, n_read: int, n_sent: int) -> None:
        if n_read != n_sent:
            raise self.as_bad(
                f"the server makes other tokens of the prompt: {n_sent} were sent and it read "
                f"{n_read}; it may put one before the text, or take no token ids"
            )

    def _unreadable(self, error: Exception) -> ServerFailed:
        said = next(iter(f"{error!r}".splitlines()), "")
        return ServerFailed(f"the server's answer cannot be read: {said}", **self._cost())

    def _cost(self) -> dict[str, Any]:
        return {"usage": self.usage, "may_cost": self.usage is None}


def _name(token: str) -> int | str:
    digits = token.removeprefix(ID_PREFIX)
    return int(digits) if digits != token and digits.isdecimal() else token


def _read_constant(name: str) -> float:
    """What some servers write for a probability of 0 is no JSON."""
    if name == "-Infinity":
        return -math.inf
    raise ValueError(f"it holds {name}")
