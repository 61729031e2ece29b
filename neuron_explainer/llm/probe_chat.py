"""What a server's /v1/chat/completions can do."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

from neuron_explainer.llm.capabilities import Capability
from neuron_explainer.llm.probe_server import ProbedServer, Raw, first_choice, inside

PATH = "/chat/completions"
QUESTION = "What colour is a cloudless sky at noon? Answer in one word."
SYSTEM_PROMPT = "You are brief."
FIELDS = {"colour": "string", "n_letters": "integer"}
SCHEMA = {
    "type": "object",
    "properties": {name: {"type": kind} for name, kind in FIELDS.items()},
    "required": list(FIELDS),
    "additionalProperties": False,
}
"""The question does not speak of JSON, so no answer is like this by chance."""
N_TOP = (20, 5)
"""Asked for in turn: OpenAI's largest, then what servers take that allow less."""
SHORT, LONG = 16, 1024
"""Most tokens of an answer; with thoughts, which come first, and short of an object."""
CUT_OFF = -1000.0
"""Alternatives with a logprob below are none: sampling at temperature 0 left them no chance."""


class ChatFindings(NamedTuple):
    """Fields of Capabilities."""

    chat: Capability
    temperature: Capability
    thoughts: Capability
    system_prompt: Capability
    top_logprobs: Capability
    n_top_logprobs: int
    json_schema: Capability


async def look_at_chat(server: ProbedServer, model: str) -> ChatFindings:
    """Six requests at the most; two when the model does not chat."""
    asked: dict[str, Any] = {"model": model, "max_tokens": SHORT, "temperature": 0}
    reply = await _ask(server, asked)
    temperature = Capability(True, "taken")
    if isinstance(reply, str):
        first_reason = reply
        asked = {"model": model, "max_completion_tokens": LONG}
        reply = await _ask(server, asked)
        if isinstance(reply, str):
            return _no_chat(first_reason)
        temperature = Capability(False, first_reason)
    if not first_choice(reply):
        return _no_chat("it answers without a choice")
    thoughts = _find_thoughts(reply)
    if thoughts.has and temperature.has:
        asked["max_tokens"] = LONG
    top_logprobs, n_top = await _look_at_top_logprobs(server, asked)
    return ChatFindings(
        chat=Capability(True, f"/v1{PATH} answers"),
        temperature=temperature,
        thoughts=thoughts,
        system_prompt=await _look_at_system_prompt(server, asked),
        top_logprobs=top_logprobs,
        n_top_logprobs=n_top,
        json_schema=await _look_at_schema(server, asked),
    )


async def _ask(
    server: ProbedServer, asked: Raw, *, system: str | None = None, **more: Any
) -> Raw | str:
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": QUESTION})
    return await server.ask("POST", PATH, {**asked, "messages": messages, **more})


def _no_chat(reason: str) -> ChatFindings:
    unknown = Capability(False, "not known, as the model does not chat")
    return ChatFindings(Capability(False, reason), unknown, unknown, unknown, unknown, 0, unknown)


def _find_thoughts(reply: Raw) -> Capability:
    choice = first_choice(reply)
    for name in ("reasoning_content", "reasoning"):
        if inside(choice, "message", name):
            return Capability(True, f"they come in `{name}`")
    if "<think>" in _text_of(reply):
        return Capability(True, "they stand in the answer, after <think>")
    if inside(reply, "usage", "completion_tokens_details", "reasoning_tokens"):
        return Capability(True, "unseen, and counted")
    if not _text_of(reply) and choice.get("finish_reason") == "length":
        return Capability(True, f"no answer within {SHORT} tokens")
    return Capability(False, "it answers straight away")


def _text_of(reply: Raw) -> str:
    return str(inside(first_choice(reply), "message", "content") or "")


async def _look_at_system_prompt(server: ProbedServer, asked: Raw) -> Capability:
    reply = await _ask(server, asked, system=SYSTEM_PROMPT)
    return Capability(False, reply) if isinstance(reply, str) else Capability(True, "taken")


async def _look_at_top_logprobs(server: ProbedServer, asked: Raw) -> tuple[Capability, int]:
    """With how many alternatives a token comes."""
    reason = ""
    for n_wanted in N_TOP:
        reply = await _ask(server, asked, logprobs=True, top_logprobs=n_wanted)
        if not isinstance(reply, str):
            return _count_alternatives(reply, n_wanted)
        reason = reply
    return Capability(False, reason), 0


def _count_alternatives(reply: Raw, n_wanted: int) -> tuple[Capability, int]:
    content = inside(first_choice(reply), "logprobs", "content")
    if not isinstance(content, list) or not content:
        return Capability(False, "asked for, and not in the answer"), 0
    listed = inside(content[0], "top_logprobs") or []
    n_usable = sum(is_usable(inside(other, "logprob")) for other in listed)
    if n_usable < 2:
        return Capability(False, f"{n_wanted} asked for, and none beside the written token"), 0
    return Capability(True, f"{n_usable} alternatives a token"), n_usable


def is_usable(logprob: object) -> bool:
    """A finite one."""
    return isinstance(logprob, int | float) and math.isfinite(logprob) and logprob > CUT_OFF


async def _look_at_schema(server: ProbedServer, asked: Raw) -> Capability:
    schema = {"name": "answer", "strict": True, "schema": SCHEMA}
    wanted = {"type": "json_schema", "json_schema": schema}
    room = {name: LONG for name in asked if name.startswith("max_")}
    reply = await _ask(server, {**asked, **room}, response_format=wanted)
    if isinstance(reply, str):
        return Capability(False, reply)
    text = _text_of(reply)
    if follows_schema(text):
        return Capability(True, "answers follow it")
    return Capability(False, f"taken, and not followed: {' '.join(text.split())[:40]!r}")


def follows_schema(text: str) -> bool:
    """SCHEMA: both fields and no other."""
    try:
        answer = json.loads(text)
    except ValueError:
        return False
    return (
        isinstance(answer, dict)
        and set(answer) == set(FIELDS)
        and isinstance(answer["colour"], str)
        and type(answer["n_letters"]) is int
    )
