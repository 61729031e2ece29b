"""Finds out by a handful of tiny requests what a server can do.

Servers that speak OpenAI's protocol differ in what they leave out, and many take a parameter only
to ignore it. So each answer is looked at: a capability is there when what was asked for came back.
"""

from __future__ import annotations

import httpx2
import openai

from neuron_explainer.errors import UsageError
from neuron_explainer.llm.capabilities import Capabilities
from neuron_explainer.llm.openai_client import as_llm_error
from neuron_explainer.llm.probe_chat import look_at_chat
from neuron_explainer.llm.probe_prompts import look_at_prompts
from neuron_explainer.llm.probe_server import ProbedServer, Raw, inside

FIND_S = 20.0
"""So long it may take to reach a server, and to hear that it is there."""
CONTEXT_FIELDS = (
    ("max_model_len",),  # vLLM, SGLang
    ("context_length",),  # OpenRouter, Together
    ("max_context_length",),  # Mistral
    ("context_window",),  # Groq
    ("meta", "n_ctx"),  # llama.cpp: what it was started with
    ("meta", "n_ctx_train"),  # llama.cpp: what the model was trained with
)


async def find_server(*, base_url: str, api_key: str, timeout_s: float = FIND_S) -> None:
    """Returns when somebody is at the address, whatever the answer; an LLMError when no connection
    comes about. It costs nothing."""
    client = openai.AsyncOpenAI(
        api_key=api_key, base_url=base_url, timeout=timeout_s, max_retries=0
    )
    async with client:
        try:
            await client.get("/models", cast_to=httpx2.Response)
        except openai.APIConnectionError as error:
            if not isinstance(error.__cause__, httpx2.ReadTimeout):  # then it is there, and busy
                raise as_llm_error(error, api_key) from None  # it may quote the key
        except openai.OpenAIError:
            pass  # this question is not taken; others may be


async def probe(
    *, base_url: str, api_key: str, model: str | None = None, timeout_s: float = 60.0
) -> Capabilities:
    """model None: the first that the server lists.

    An LLMError when there is no server, when the key is not taken, or when too much is asked at
    the time; UsageError when no model is given and the server lists none.
    """
    # A server that breaks at a question may close the connection after its answer: none is kept.
    limits = httpx2.Limits(max_keepalive_connections=0)
    client = openai.AsyncOpenAI(
        api_key=api_key,
        base_url=base_url,
        timeout=httpx2.Timeout(timeout_s, connect=min(timeout_s, FIND_S)),
        max_retries=0,
        http_client=openai.DefaultAsyncHttpxClient(limits=limits),
    )
    async with client:
        server = ProbedServer(client)
        cards = _cards(await server.ask("GET", "/models"))
        name = model or next(iter(cards), None)
        if name is None:
            raise server.denial or UsageError(
                f"{base_url} lists no models; name one with --model-name, and see whether the "
                "address is right: it mostly ends in /v1"
            )
        of_chat = await look_at_chat(server, name)
        of_prompts = await look_at_prompts(server, name)
    if server.denial is not None and not (of_chat.chat.has or of_prompts.token_ids.has):
        raise server.denial
    return Capabilities(
        base_url=base_url,
        model=name,
        models=tuple(cards),
        n_context_tokens=_context_of(cards.get(name, {})),
        chat=of_chat.chat,
        temperature=of_chat.temperature,
        thoughts=of_chat.thoughts,
        system_prompt=of_chat.system_prompt,
        top_logprobs=of_chat.top_logprobs,
        n_top_logprobs=of_chat.n_top_logprobs,
        json_schema=of_chat.json_schema,
        token_ids=of_prompts.token_ids,
        echo=of_prompts.echo,
        echo_max_tokens=of_prompts.echo_max_tokens,
        prompt_logprobs=of_prompts.prompt_logprobs,
        n_prompt_logprobs=of_prompts.n_prompt_logprobs,
        n_requests=server.n_requests,
        usage=server.usage,
    )


def _cards(reply: Raw | str) -> dict[str, Raw]:
    """What is said of each model, in the order listed; nothing when the server lists none."""
    listed = [] if isinstance(reply, str) else reply.get("data")
    if not isinstance(listed, list):
        return {}
    cards = [card for card in listed if isinstance(card, dict)]
    return {card["id"]: card for card in cards if isinstance(card.get("id"), str)}


def _context_of(card: Raw) -> int | None:
    found = (inside(card, *path) for path in CONTEXT_FIELDS)
    return next((size for size in found if isinstance(size, int) and size > 0), None)
