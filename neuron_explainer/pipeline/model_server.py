"""What doctor says of a server of language models: what it can do, and what that is good for."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Any

from neuron_explainer.llm.capabilities import Capabilities, Capability, simulations_for
from neuron_explainer.llm.openai_client import read_api_key
from neuron_explainer.llm.probe import probe
from neuron_explainer.pipeline.check import Check, note, ok, problem
from neuron_explainer.pipeline.model_names import check_address

MAX_LISTED = 5
"""Models that are named."""


@dataclass(frozen=True, slots=True)
class ServerFindings:
    """What a server can do, as a program and as a person read it."""

    capabilities: Capabilities
    checks: list[Check]

    def as_json(self) -> dict[str, Any]:
        return {
            "checks": [asdict(check) for check in self.checks],
            "simulations": simulations_for(self.capabilities),
            "capabilities": asdict(self.capabilities),
        }


def examine_server(base_url: str, model: str | None, api_key_env: str) -> ServerFindings:
    """model None: the first that the server lists.

    An LLMError when there is no such server or the key is not taken; UsageError for an address
    that is none, and when no model is given or listed.
    """
    check_address(base_url, "--base-url")
    api_key = read_api_key(api_key_env, base_url)
    can = asyncio.run(probe(base_url=base_url, api_key=api_key, model=model))
    return ServerFindings(can, check_server(can))


def check_server(can: Capabilities) -> list[Check]:
    """In the order to read them."""
    checks = [_check_models(can), _check_context(can), _check_chat(can)]
    if can.chat.has:
        checks += [
            _check(
                "system prompt", can.system_prompt, "the prompts have one; choose another model"
            ),
            _check("temperature", can.temperature, "it is asked without, as a reasoning model"),
            _check_thoughts(can),
            _check(
                "logprobs",
                can.top_logprobs,
                "the streaming and one_at_a_time simulations need them",
            ),
            _check(
                "JSON schema", can.json_schema, "JSON is asked for in words, and read leniently"
            ),
        ]
    return [*checks, _check_prompt_logprobs(can), _check_simulations(can), _tell_cost(can)]


def _check(name: str, capability: Capability, todo: str) -> Check:
    if capability.has:
        return ok(name, capability.found)
    return note(name, capability.found, todo)


def _check_models(can: Capabilities) -> Check:
    name = "model"
    n_other = len(set(can.models) - {can.model})
    if can.model in can.models or not can.models:
        listed = f"{n_other} more at" if n_other else "at"
        return ok(name, f"{can.model}, {listed} {can.base_url}")
    shown = ", ".join(can.models[:MAX_LISTED]) + (" …" if len(can.models) > MAX_LISTED else "")
    return note(name, f"{can.model} is not listed", f"--model-name with one of {shown}")


def _check_context(can: Capabilities) -> Check:
    name = "context"
    if can.n_context_tokens is None:
        return note(name, "the server does not say its size", "see its documentation")
    return ok(name, f"{can.n_context_tokens:,} tokens")


def _check_chat(can: Capabilities) -> Check:
    return _check(
        "chat", can.chat, "explanations, and all simulations but all_at_once, need a chat model"
    )


def _check_thoughts(can: Capabilities) -> Check:
    if can.thoughts.has:
        todo = "they cost as answers do; streaming and one_at_a_time cannot see past them"
        return note("thoughts", can.thoughts.found, todo)
    return ok("thoughts", can.thoughts.found)


def _check_prompt_logprobs(can: Capabilities) -> Check:
    """Either way will do."""
    name = "prompt logprobs"
    ways = {"prompt_logprobs": can.prompt_logprobs, "echo": can.echo}
    given = {way: found.found for way, found in ways.items() if found.has}
    if not given:
        found = "; ".join(f"{way}: {missing.found}" for way, missing in ways.items())
        return note(name, found, "the all_at_once simulation needs them; vLLM has them")
    if not can.token_ids.has:
        found = f"{next(iter(given))}, but token ids: {can.token_ids.found}"
        return note(name, found, "the all_at_once simulation sends token ids; vLLM takes them")
    return ok(name, "; ".join(f"{way}: {found}" for way, found in given.items()))


def _check_simulations(can: Capabilities) -> Check:
    name = "simulations"
    offered = simulations_for(can)
    if not offered:
        return problem(name, "none: the model answers nothing", "see to the model's name")
    return ok(name, " > ".join(offered))


def _tell_cost(can: Capabilities) -> Check:
    found = f"{can.n_requests} requests"
    if can.usage is not None:
        n_in, n_out = can.usage.n_prompt_tokens, can.usage.n_completion_tokens
        found += f", {n_in:,} tokens asked and {n_out:,} answered"
    return ok("cost of this", found)
