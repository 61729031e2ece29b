"""Models are opened once; what they said, and what it cost, stays in the run folder."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from neuron_explainer.errors import ServerFailed
from neuron_explainer.llm.messages import Completion, CompletionRequest, Message
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.model_names import ModelName
from neuron_explainer.pipeline.models import PROBE, OpenModels
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.stores.spending import SpendingStore
from tests.llm.rule_options import ServerOptions
from tests.llm.rule_server import RuleServer, rule_server
from tests.tiny_models import save_tiny_model

SPEC = RunSpec(explainer="openai:rule-1", simulator="auto", device="cpu", api_key_env="NO_SUCH_KEY")
REQUEST = CompletionRequest("m", (Message("user", "one two"),), max_tokens=8)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def name_at(server: RuleServer, model: str = "rule-1") -> ModelName:
    return ModelName("openai", model, server.base_url)


# Local models


def ask_local(folder: RunFolder, model: Path, dtype: str = "auto") -> tuple[str, Completion]:
    """What tells the model from others, and its answer to REQUEST."""
    name = ModelName("hf", str(model))
    with OpenModels(replace(SPEC, model_dtype=dtype), folder) as models:
        answer = asyncio.run(models.text_model(name).client.ask(REQUEST))
        return models.identity(name), answer


def test_an_answer_is_that_of_these_weights_in_this_dtype(
    folder: RunFolder, tmp_path: Path
) -> None:
    model = save_tiny_model(tmp_path / "m", seed=0)
    first, answer = ask_local(folder, model)
    again, kept = ask_local(folder, model)
    assert again == first
    assert (kept.text, kept.is_cached, answer.is_cached) == (answer.text, True, False)

    in_half, of_half = ask_local(folder, model, dtype="bfloat16")
    shutil.rmtree(model)
    other, of_other = ask_local(folder, save_tiny_model(model, seed=1))
    assert len({first, in_half, other}) == 3
    assert not of_half.is_cached
    assert not of_other.is_cached


def test_a_local_model_answers_for_nothing_also_where_a_budget_is_used_up(
    folder: RunFolder, tmp_path: Path
) -> None:
    name = ModelName("hf", str(save_tiny_model(tmp_path / "m")))
    with OpenModels(replace(SPEC, budget_usd=0.0), folder) as models:
        asyncio.run(models.text_model(name).client.ask(REQUEST))
        assert models.total().cost_picousd == 0
        assert models.total().n_requests == 1
        assert models.capabilities(name) is None
        assert set(models.measure_speeds()) == {str(name)}


# Servers


def test_a_server_is_asked_what_it_can_do_once_in_the_life_of_a_folder(
    folder: RunFolder, tmp_path: Path
) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text('{"models": {"rule-1": {"input": "1", "output": "4"}}}')
    spec = replace(SPEC, prices=str(prices))
    with rule_server() as server:
        with OpenModels(spec, folder) as models:
            found = models.capabilities(name_at(server))
            assert models.capabilities(name_at(server)) == found
        n_asked = len(server.log.entries)
        with OpenModels(spec, folder) as models:
            assert models.capabilities(name_at(server)) == found
            asked_again = [entry.path for entry in server.log.entries[n_asked:]]
            assert asked_again == ["/v1/models"]  # whether it is there, which is free
            assert models.cost_of(PROBE) == models.total()
    assert found is not None
    assert found.n_requests == n_asked
    with SpendingStore(folder.spending) as spending:
        spent = spending.of_purpose(PROBE).counted
    charged = server.log.charged
    assert (spent.n_prompt_tokens, spent.n_completion_tokens, spent.n_requests) == (
        charged.n_prompt_tokens, charged.n_completion_tokens, n_asked,
    )  # fmt: skip
    n_full = charged.n_prompt_tokens + 4 * charged.n_completion_tokens
    assert spent.cost_picousd == n_full * 10**6


def test_another_model_or_another_server_is_asked_for_itself(folder: RunFolder) -> None:
    with (
        rule_server() as server,
        rule_server(ServerOptions(n_top_logprobs=0)) as other,
        OpenModels(SPEC, folder) as models,
    ):
        models.capabilities(name_at(server))
        elsewhere = models.capabilities(name_at(other))
        unknown = models.capabilities(name_at(server, "zorp"))
    assert elsewhere is not None
    assert not elsewhere.top_logprobs.has
    assert unknown is not None
    assert not unknown.chat.has


def test_what_was_amiss_and_may_pass_is_looked_at_again(folder: RunFolder) -> None:
    with rule_server() as server:
        for _ in range(2):
            n_before = len(server.log.entries)
            with OpenModels(SPEC, folder) as models:
                can = models.capabilities(name_at(server, "zorp"))
            assert can is not None
            assert len(server.log.entries) - n_before == can.n_requests > 1


def test_a_server_that_has_gone_is_missed_though_it_is_known_what_it_could_do(
    folder: RunFolder,
) -> None:
    with rule_server() as server, OpenModels(SPEC, folder) as models:
        models.capabilities(name_at(server))
    with OpenModels(SPEC, folder) as models, pytest.raises(ServerFailed, match="no connection to"):
        models.capabilities(name_at(server))


def test_a_server_that_lists_no_models_is_there_all_the_same(folder: RunFolder) -> None:
    with rule_server(ServerOptions(lists_models=False)) as server:
        found = []
        for _ in range(2):
            with OpenModels(SPEC, folder) as models:
                found.append(models.capabilities(name_at(server)))
    assert found[0] == found[1]
    assert found[0] is not None
    assert found[0].chat.has
