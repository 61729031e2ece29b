"""The probe against servers that can do this and not that, over real HTTP."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from typing import Any

import pytest

from neuron_explainer.errors import AuthFailed, LLMError, RateLimited, ServerFailed, UsageError
from neuron_explainer.llm.capabilities import Capabilities, Capability, simulations_for
from neuron_explainer.llm.probe import probe
from tests.llm.loopback import Reply, failure, loopback
from tests.llm.rule_faults import Fault, FaultPlan
from tests.llm.rule_options import ServerOptions
from tests.llm.rule_server import rule_server

KEY = "sk-this-is-a-secret-0123456789"
EVERYTHING = ("all_at_once", "streaming", "structured", "one_at_a_time")
MOST_REQUESTS = 13


def probed(options: ServerOptions, **more: Any) -> Capabilities:
    """What the probe finds; its own count and sum are held against the server's log."""
    with rule_server(options) as server:
        can = asyncio.run(probe(base_url=server.base_url, api_key=KEY, **more))
    assert can.n_requests == len(server.log.entries) <= MOST_REQUESTS
    assert can.usage == (server.log.charged if server.log.n_told else None)
    return can


def missing(can: Capabilities) -> set[str]:
    """Names of the capabilities that are not there."""
    found = {f.name: getattr(can, f.name) for f in fields(can)}
    assert all("\n" not in c.found and c.found for c in found.values() if isinstance(c, Capability))
    return {name for name, c in found.items() if isinstance(c, Capability) and not c.has}


def test_a_server_that_can_do_all() -> None:
    can = probed(ServerOptions(prompt_logprobs="yes"))
    assert missing(can) == {"thoughts"}
    assert (can.model, can.models, can.n_context_tokens) == ("rule-1", ("rule-1",), 32_768)
    assert (can.n_top_logprobs, can.n_prompt_logprobs, can.echo_max_tokens) == (20, 20, 1)
    assert simulations_for(can) == EVERYTHING


def test_a_server_that_can_do_nothing_but_answer() -> None:
    can = probed(
        ServerOptions(
            completions=False, n_top_logprobs=0, schema="ignored", system_prompts=False,
            context_field=None, tells_usage=False,
        )
    )  # fmt: skip
    there = {"chat", "temperature"}
    assert missing(can) == {f.name for f in fields(can) if f.type == "Capability"} - there
    assert (can.n_top_logprobs, can.n_prompt_logprobs, can.n_context_tokens) == (0, 0, None)
    assert simulations_for(can) == ("structured",)


LACKS: dict[str, tuple[ServerOptions, set[str], tuple[str, ...]]] = {
    "vLLM's field is not known": (ServerOptions(), {"prompt_logprobs"}, EVERYTHING),
    "vLLM's field alone": (
        ServerOptions(echo="refused", prompt_logprobs="yes"), {"echo"}, EVERYTHING,
    ),
    "no logprobs of the prompt": (
        ServerOptions(echo="refused", prompt_logprobs="refused"),
        {"echo", "prompt_logprobs", "token_ids"}, EVERYTHING[1:],
    ),
    "echo without a word": (
        ServerOptions(echo="ignored"), {"echo", "prompt_logprobs"}, EVERYTHING[1:],
    ),
    "no token ids": (
        ServerOptions(token_ids=False), {"token_ids", "prompt_logprobs"}, EVERYTHING[1:],
    ),
    "token ids are made text": (
        ServerOptions(retokenizes=True, prompt_logprobs="yes"),
        {"token_ids", "prompt_logprobs"}, EVERYTHING[1:],
    ),
    "token ids are made text, in secret": (
        ServerOptions(retokenizes=True, tells_usage=False),
        {"token_ids", "prompt_logprobs"}, EVERYTHING[1:],
    ),
    "a base model": (
        ServerOptions(chat=False),
        {"chat", "system_prompt", "temperature", "top_logprobs", "json_schema", "prompt_logprobs"},
        EVERYTHING[:1],
    ),
    "no logprobs of the answer": (
        ServerOptions(n_top_logprobs=0), {"top_logprobs", "prompt_logprobs"},
        ("all_at_once", "structured"),
    ),
    "a schema is taken and not followed": (
        ServerOptions(schema="ignored"), {"json_schema", "prompt_logprobs"}, EVERYTHING,
    ),
    "a schema is refused": (
        ServerOptions(schema="refused"), {"json_schema", "prompt_logprobs"}, EVERYTHING,
    ),
    "no system prompt": (
        ServerOptions(system_prompts=False), {"system_prompt", "prompt_logprobs"}, EVERYTHING,
    ),
    "no list of models": (ServerOptions(lists_models=False), {"prompt_logprobs"}, EVERYTHING),
}  # fmt: skip


@pytest.mark.parametrize("name", LACKS)
def test_what_a_server_lacks_is_found_and_nothing_else(name: str) -> None:
    options, lacks, simulations = LACKS[name]
    can = probed(options, model="rule-1")
    assert missing(can) == lacks | {"thoughts"}
    assert simulations_for(can) == simulations


def test_a_reasoning_model_thinks_and_gives_no_logprobs() -> None:
    can = probed(ServerOptions(is_reasoning=True, completions=False))
    assert can.thoughts.has
    assert can.json_schema.has
    assert not can.temperature.has
    assert simulations_for(can) == ("structured",)


def test_a_model_that_thinks_aloud_is_asked_with_room_for_it() -> None:
    can = probed(ServerOptions(thinks=True))
    assert "reasoning_content" in can.thoughts.found
    assert missing(can) == {"prompt_logprobs"}
    assert simulations_for(can) == ("all_at_once", "structured")


@pytest.mark.parametrize(("most", "found"), [(5, 5), (7, 5), (3, 0)])
def test_fewer_alternatives_are_asked_for_where_many_are_refused(most: int, found: int) -> None:
    can = probed(ServerOptions(n_top_logprobs=most, n_completion_logprobs=most))
    assert (can.n_top_logprobs, can.n_prompt_logprobs) == (found, found)
    assert can.top_logprobs.has == can.echo.has == (found > 0)


def test_max_tokens_is_0_only_where_1_is_refused() -> None:
    places: list[dict[str, float] | None] = [None, *[{"a": -0.5, "b": -1.5}] * 7]
    echoed = Reply({"choices": [{"logprobs": {"top_logprobs": places}}]})
    no = failure(400, "no")
    with loopback(no, no, no, no, echoed, no, no) as server:
        can = asyncio.run(probe(base_url=server.base_url, api_key=KEY, model="m"))
    assert server.replies == []
    assert can.echo.has
    assert can.token_ids.has
    assert can.echo_max_tokens == server.bodies[4]["max_tokens"] == 0


@pytest.mark.parametrize(
    "name",
    ["max_model_len", "context_length", "max_context_length", "context_window",
     "meta.n_ctx", "meta.n_ctx_train"],
)  # fmt: skip
def test_the_context_is_read_where_servers_say_it(name: str) -> None:
    options = ServerOptions(context_field=name, n_context_tokens=4096)
    assert probed(options).n_context_tokens == 4096


def test_a_model_that_is_not_there_answers_nothing() -> None:
    can = probed(ServerOptions(), model="another")
    assert "another" in can.chat.found
    assert simulations_for(can) == ()


def test_a_key_that_is_not_taken_is_one_line_without_the_key() -> None:
    for model in ("rule-1", None):
        options = ServerOptions(api_key="the-right-one")
        with rule_server(options) as server, pytest.raises(AuthFailed) as raised:
            asyncio.run(probe(base_url=server.base_url, api_key=KEY, model=model))
        assert "401" in str(raised.value)
        assert KEY not in repr(raised.value)


def test_no_server_is_a_broken_connection() -> None:
    with rule_server() as server:
        pass
    with pytest.raises(ServerFailed, match="no connection"):
        asyncio.run(probe(base_url=server.base_url, api_key=KEY))


@pytest.mark.parametrize(
    ("fault", "kind"), [("rate_limit", RateLimited), ("overloaded", ServerFailed)]
)
def test_too_much_to_do_is_no_lack_of_the_server(fault: Fault, kind: type[LLMError]) -> None:
    plan = FaultPlan(share=1.0, kinds=(fault,))
    with rule_server(plan=plan) as server, pytest.raises(kind):
        asyncio.run(probe(base_url=server.base_url, api_key=KEY))


def test_a_server_without_a_list_needs_a_name() -> None:
    with rule_server(ServerOptions(lists_models=False)) as server, pytest.raises(UsageError):
        asyncio.run(probe(base_url=server.base_url, api_key=KEY))


def test_a_page_in_place_of_an_answer_says_that_the_address_may_be_wrong() -> None:
    plan = FaultPlan(share=1.0, kinds=("garbage",))
    with rule_server(plan=plan) as server, pytest.raises(ServerFailed, match="/v1"):
        asyncio.run(probe(base_url=server.base_url, api_key=KEY))


def test_a_server_that_breaks_at_a_question_lacks_what_it_asked_for() -> None:
    """Some answer 500 to parameters that they do not know."""
    with loopback(*[failure(500, "no such field")] * MOST_REQUESTS) as server:
        can = asyncio.run(probe(base_url=server.base_url, api_key=KEY, model="m"))
    assert simulations_for(can) == ()
    assert "no such field" in can.chat.found


def test_a_connection_that_ends_after_an_error_is_not_asked_again() -> None:
    plan = FaultPlan(share=1.0, kinds=("server_error",))
    with rule_server(ServerOptions(breaks_after_500=True), plan) as server:
        can = asyncio.run(probe(base_url=server.base_url, api_key=KEY))
    assert "500" in can.chat.found
    assert server.log.outcomes["server_error"] == can.n_requests - 1


def test_replies_of_no_shape_at_all_are_no_capabilities() -> None:
    none: list[list[object]] = [[], [1], [{"logprobs": 3, "message": None}], [{"message": []}]]
    odd = [Reply({"choices": choices, "usage": 3}) for choices in none]
    with loopback(*odd * 3) as server:
        can = asyncio.run(probe(base_url=server.base_url, api_key=KEY, model="m"))
    assert not can.top_logprobs.has
    assert not can.echo.has
