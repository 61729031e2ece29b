"""What doctor says of a server: every lack has a way out, and the simulations stand in one line."""

from __future__ import annotations

import json

import pytest

from neuron_explainer.errors import UsageError
from neuron_explainer.pipeline.check import Check
from neuron_explainer.pipeline.model_server import examine_server
from tests.llm.rule_options import ServerOptions
from tests.llm.rule_server import rule_server

NO_SUCH_VARIABLE = "NEURON_EXPLAINER_TEST_KEY"


def examined(options: ServerOptions, model: str | None = None) -> dict[str, Check]:
    with rule_server(options) as server:
        found = examine_server(server.base_url, model, NO_SUCH_VARIABLE)
    assert all((check.todo is None) == (check.status == "ok") for check in found.checks)
    assert all("\n" not in f"{check.found}{check.todo}" for check in found.checks)
    answer = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert set(answer) == {"checks", "simulations", "capabilities"}
    assert len({check.name for check in found.checks}) == len(found.checks)
    return {check.name: check for check in found.checks}


def test_a_server_that_can_do_all_is_all_right() -> None:
    found = examined(ServerOptions(prompt_logprobs="yes"))
    assert {check.status for check in found.values()} == {"ok"}
    assert found["simulations"].found.startswith("all_at_once > streaming > structured > one_at_a")
    assert found["context"].found == "32,768 tokens"
    assert "7 requests" in found["cost of this"].found


def test_either_way_to_prompt_logprobs_will_do() -> None:
    assert examined(ServerOptions())["prompt logprobs"].status == "ok"
    vllm = examined(ServerOptions(echo="refused", prompt_logprobs="yes"))
    assert vllm["prompt logprobs"].status == "ok"


@pytest.mark.parametrize(
    ("options", "name", "says"),
    [
        (ServerOptions(context_field=None), "context", "does not say"),
        (ServerOptions(chat=False), "chat", "404"),
        (ServerOptions(system_prompts=False), "system prompt", "System role"),
        (ServerOptions(is_reasoning=True), "temperature", "max_tokens"),
        (ServerOptions(thinks=True), "thoughts", "reasoning_content"),
        (ServerOptions(n_top_logprobs=0), "logprobs", "not in the answer"),
        (ServerOptions(schema="ignored"), "JSON schema", "not followed"),
        (ServerOptions(completions=False), "prompt logprobs", "404"),
        (ServerOptions(retokenizes=True), "prompt logprobs", "8 ids were read as"),
    ],
)
def test_a_lack_is_a_note(options: ServerOptions, name: str, says: str) -> None:
    check = examined(options)[name]
    assert check.status == "note"
    assert says in check.found


def test_a_model_that_answers_nothing_is_a_problem() -> None:
    found = examined(ServerOptions(), "another")
    assert found["model"].status == "note"
    assert "rule-1" in str(found["model"].todo)
    assert found["simulations"].status == "problem"


@pytest.mark.parametrize("address", ["", "localhost:8000/v1", "http:///v1", "/v1", "ftp://a/v1"])
def test_what_is_no_address_is_wrong_usage(address: str) -> None:
    with pytest.raises(UsageError, match="--base-url"):
        examine_server(address, None, NO_SUCH_VARIABLE)


def test_openai_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NO_SUCH_VARIABLE, raising=False)
    with pytest.raises(UsageError, match=NO_SUCH_VARIABLE):
        examine_server("https://api.openai.com/v1", None, NO_SUCH_VARIABLE)
