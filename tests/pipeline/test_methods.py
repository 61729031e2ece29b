"""A method is named by all that can change its results, and resolved by what a server offers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

import pytest

from neuron_explainer.errors import UsageError
from neuron_explainer.llm.capabilities import (
    ALL_AT_ONCE,
    ONE_AT_A_TIME,
    STREAMING,
    STRUCTURED,
    Capabilities,
    Capability,
)
from neuron_explainer.pipeline.methods import (
    DISTILLED,
    TextModel,
    ValueModel,
    check_method,
    lookup_choices,
    method_choices,
    resolve_simulation,
)
from neuron_explainer.pipeline.model_names import ModelName
from neuron_explainer.pipeline.spec import (
    ASK,
    COLLECT,
    EXPLAIN,
    PATTERNS,
    REACH,
    TOKEN_LOOKUP,
    WHERE,
    RunSpec,
    fingerprint,
)
from neuron_explainer.records.scale import CalibrationKind

SPEC = RunSpec(explainer="openai:a", simulator="openai:b", simulator_tokenizer="./t")
OTHERS: Mapping[str, object] = {
    "n_per_split": 4, "n_resamples": 7, "calibration": CalibrationKind.NONE,
    "max_missing_share": 0.2, "explainer": "openai:c", "simulator": "openai:c",
    "explainer_prompt": "summary", "n_explanations": 3, "explainer_context": 4096,
    "simulation": STRUCTURED, "simulator_context": 2048, "simulator_tokenizer": "./other",
    "reasoning_effort": "low", "model_dtype": "float32", "base_url": "http://a/v1",
    "simulator_base_url": "http://b/v1", "api_key_env": "KEY", "requests_a_minute": 9,
    "tokens_a_minute": 9, "max_in_flight": 9, "timeout_s": 9.0, "budget_usd": 9.0, "prices": "p",
    "cache": "c", "batch_size": 9, "order": "lookup", "batch": True, "evidence": "patterns",
}  # fmt: skip
"""Another value of each choice of the stages EXPLAIN, ASK and REACH."""


class MadeUp:
    """Models that only say what they are and what they can do."""

    def __init__(
        self, can: Capabilities | None = None, identities: Mapping[str, str] | None = None
    ) -> None:
        self._can = can
        self._identities = identities or {}

    def text_model(self, name: ModelName, *, for_numbers: bool = False) -> TextModel:
        raise NotImplementedError

    def value_model(self, name: ModelName, *, distilled: bool) -> ValueModel:
        raise NotImplementedError

    def identity(self, name: ModelName) -> str:
        return self._identities.get(str(name), str(name))

    def capabilities(self, name: ModelName) -> Capabilities | None:
        return None if name.is_local else self._can


def server(*, prompts: bool = False, logprobs: bool = False, chat: bool = True) -> Capabilities:
    """With logprobs of the prompt, of the answer, and whether it answers at all."""

    def capability(has: bool) -> Capability:
        return Capability(has, "made up")

    return Capabilities(
        base_url="http://a/v1", model="b", models=(), n_context_tokens=None,
        chat=capability(chat), temperature=capability(True), thoughts=capability(False),
        system_prompt=capability(True), top_logprobs=capability(logprobs),
        n_top_logprobs=20 * logprobs, json_schema=capability(True), token_ids=capability(prompts),
        echo=capability(prompts), echo_max_tokens=1, prompt_logprobs=capability(False),
        n_prompt_logprobs=20 * prompts, n_requests=7, usage=None,
    )  # fmt: skip


ALL = server(prompts=True, logprobs=True)


def name_of(spec: RunSpec, simulation: str = STREAMING, models: MadeUp | None = None) -> str:
    return fingerprint(method_choices(spec, "collection", models or MadeUp(), simulation))


def stages() -> dict[str, str]:
    return {f.name: f.metadata["stage"] for f in fields(RunSpec)}


def test_every_choice_about_explaining_is_tried_here() -> None:
    assert set(OTHERS) == {n for n, stage in stages().items() if stage in (EXPLAIN, ASK, REACH)}


@pytest.mark.parametrize("choice", OTHERS)
def test_a_choice_makes_another_method_when_it_can_change_a_result(choice: str) -> None:
    other = replace(SPEC, **{choice: OTHERS[choice]})
    is_another = name_of(other) != name_of(SPEC)
    # The simulation counts as it was resolved, which here is the same.
    assert is_another == (stages()[choice] in (EXPLAIN, ASK) and choice != "simulation")


def test_the_collection_and_the_simulation_as_resolved_make_another_method() -> None:
    names = {name_of(SPEC, simulation) for simulation in (STREAMING, STRUCTURED, ALL_AT_ONCE)}
    names.add(fingerprint(method_choices(SPEC, "another", MadeUp(), STREAMING)))
    assert len(names) == 4


def test_auto_is_the_model_that_it_stands_for() -> None:
    same = replace(SPEC, simulator="auto")
    assert name_of(same) == name_of(replace(SPEC, simulator="openai:a")) != name_of(SPEC)


@pytest.mark.parametrize("choice", [n for n in OTHERS if n not in ("explainer", "simulator")])
def test_no_choice_about_language_models_changes_the_lookup_table(choice: str) -> None:
    spec = RunSpec()
    other = replace(spec, **{choice: OTHERS[choice]})
    is_another = lookup_choices(other, "f") != lookup_choices(spec, "f")
    assert is_another == (stages()[choice] == EXPLAIN)


def test_what_was_collected_is_named_once_by_the_collection() -> None:
    named = set(method_choices(SPEC, "f", MadeUp(), STREAMING))
    assert not named & {n for n, stage in stages().items() if stage in (COLLECT, WHERE)}


def test_other_weights_under_the_same_name_are_another_method() -> None:
    spec = RunSpec(explainer="hf:./m", simulator="auto")
    first, second = (MadeUp(identities={"hf:./m": f"hf:./m float32 {c}"}) for c in "ab")
    assert name_of(spec, ALL_AT_ONCE, first) != name_of(spec, ALL_AT_ONCE, second)


# The way to simulate


@pytest.mark.parametrize(
    ("can", "with_tokenizer", "without"),
    [
        (ALL, ALL_AT_ONCE, STREAMING),
        (server(prompts=True), ALL_AT_ONCE, STRUCTURED),
        (server(prompts=True, chat=False), ALL_AT_ONCE, ALL_AT_ONCE),
        (server(logprobs=True), STREAMING, STREAMING),
        (server(), STRUCTURED, STRUCTURED),
    ],
)
def test_auto_is_the_best_that_the_server_offers(
    can: Capabilities, with_tokenizer: str, without: str
) -> None:
    assert resolve_simulation(SPEC, MadeUp(can)) == with_tokenizer
    bare = replace(SPEC, simulator_tokenizer=None)
    assert resolve_simulation(bare, MadeUp(can)) == without


def test_a_way_that_is_named_is_taken_when_it_is_offered() -> None:
    for simulation in (ALL_AT_ONCE, STREAMING, STRUCTURED, ONE_AT_A_TIME):
        spec = replace(SPEC, simulation=simulation)
        assert resolve_simulation(spec, MadeUp(ALL)) == simulation
    with pytest.raises(UsageError, match=r"openai:b does not offer it; it does structured$"):
        resolve_simulation(replace(SPEC, simulation=STREAMING), MadeUp(server()))


def test_a_server_that_offers_none_is_refused_with_what_was_found() -> None:
    with pytest.raises(UsageError, match="openai:b: made up; `neuron-explainer doctor"):
        resolve_simulation(SPEC, MadeUp(server(chat=False)))


def test_a_local_model_offers_every_way_and_the_lookup_table_its_own() -> None:
    local = replace(SPEC, simulator="hf:./m")
    assert resolve_simulation(local, MadeUp()) == ALL_AT_ONCE
    for simulation in (STREAMING, STRUCTURED, DISTILLED):
        assert resolve_simulation(replace(local, simulation=simulation), MadeUp()) == simulation
    for embedded in (TOKEN_LOOKUP, PATTERNS):
        assert resolve_simulation(RunSpec(explainer=embedded), MadeUp()) == embedded


# Names


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"explainer": "gpt-4o"}, "--explainer 'gpt-4o' is not known"),
        ({"simulator": "gpt-4o"}, "--simulator 'gpt-4o' is not known"),
        (
            {"explainer_prompt": "zorp"},
            "'zorp' is not known; one of contrastive, highlight, logits",
        ),
        ({"simulation": "zorp"}, "'zorp' is not known; one of all_at_once, .*, distilled, auto"),
        ({"simulation": DISTILLED}, "use --simulator hf:MODEL"),
        ({"simulator": TOKEN_LOOKUP}, "give --simulator openai:MODEL, hf:MODEL, or auto"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_opened(
    changes: dict[str, str], says: str
) -> None:
    check_method(SPEC)
    with pytest.raises(UsageError, match=says):
        check_method(replace(SPEC, **changes))  # type: ignore[arg-type]


def test_the_lookup_table_may_be_simulated_by_a_model_and_a_distilled_one_is_local() -> None:
    check_method(RunSpec())
    check_method(RunSpec(simulator="openai:b"))
    check_method(replace(SPEC, simulator="hf:./m", simulation=DISTILLED))
