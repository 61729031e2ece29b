"""Flags mean what they say, and the fingerprint changes with every choice that matters."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from neuron_explainer.collector.plans import Cut, Shard
from neuron_explainer.errors import UsageError
from neuron_explainer.pipeline.spec import (
    ASK,
    COLLECT,
    EXPLAIN,
    N_ASKED,
    PATTERN,
    REACH,
    WHERE,
    RunSpec,
    fingerprint,
    flag_of,
    parse_layers,
    parse_shard,
)
from neuron_explainer.records.scale import CalibrationKind

OTHER: dict[str, dict[str, Any]] = {
    COLLECT: {
        "model": "gpt2", "layers": "0", "units": "0:3", "n_tokens": 9, "seed": 1,
        "dtype": "float16",
        "cut": Cut.ONE, "text_field": "body", "n_ctx": 32, "max_a_document": 3, "fit_share": 0.4,
        "block_size": 32, "top_k": 10, "n_a_band": 5, "n_random": 16, "n_boundary_windows": 1,
        "token_means_gb": 1.0, "site_module": "h.{layer}.mlp.c_proj",
        "activation_function": "quick_gelu", "max_overlap": 0.75, "skip_first": 2,
        "max_norm_ratio": 8.0, "chat_template": True,
    },
    EXPLAIN: {
        "explainer": "hf:x", "simulator": "hf:x", "n_per_split": 4, "n_resamples": 0,
        "calibration": CalibrationKind.PERCENTILE, "max_missing_share": 0.2,
    },
    PATTERN: {"pattern_tokens": 300, "n_contexts": 64},
    ASK: {
        "evidence": "patterns", "explainer_prompt": "summary", "n_explanations": 3,
        "explainer_context": 4096,
        "simulation": "structured", "simulator_context": 4096, "simulator_tokenizer": "gpt2",
        "reasoning_effort": "low", "model_dtype": "bfloat16",
    },
    REACH: {
        "base_url": "http://localhost:1/v1", "simulator_base_url": "http://localhost:2/v1",
        "api_key_env": "KEY", "requests_a_minute": 3, "tokens_a_minute": 4, "max_in_flight": 5,
        "timeout_s": 6.0, "budget_usd": 7.0, "prices": "prices.json", "cache": "cache.sqlite",
        "batch_size": 8, "order": "lookup", "batch": True,
    },
    WHERE: {
        "corpus": "notes.txt", "neurons": "5", "device": "cpu", "memory_gb": 3.5,
        "checkpoint_s": 1.0, "shard": "2/3",
    },
}  # fmt: skip
"""Another value of every field, by stage."""
CHANGES_NOTHING = {WHERE, REACH}


def fingerprints(spec: RunSpec) -> dict[str, str]:
    return {stage: fingerprint(spec.choices(stage)) for stage in (COLLECT, EXPLAIN, PATTERN, ASK)}


def test_every_field_has_a_stage_a_help_text_and_a_place_in_this_test() -> None:
    found: dict[str, set[str]] = {stage: set() for stage in OTHER}
    for field in fields(RunSpec):
        found[field.metadata["stage"]].add(field.name)
        assert field.metadata["help"].endswith((".", "…"))
    assert found == {stage: set(values) for stage, values in OTHER.items()}


@pytest.mark.parametrize("stage", list(OTHER))
def test_a_choice_changes_the_fingerprint_of_its_stage_and_of_no_other(stage: str) -> None:
    plain = fingerprints(RunSpec())
    seen = {plain.get(stage)}
    for name, value in OTHER[stage].items():
        found = fingerprints(replace(RunSpec(), **{name: value}))
        assert {s for s in found if found[s] != plain[s]} == {stage} - CHANGES_NOTHING
        seen.add(found.get(stage))
    assert len(seen) == (1 if stage in CHANGES_NOTHING else 1 + len(OTHER[stage]))


def test_a_fingerprint_does_not_depend_on_the_order_of_the_choices() -> None:
    choices = RunSpec().choices(COLLECT)
    assert fingerprint(dict(reversed(choices.items()))) == fingerprint(choices)


def test_the_plans_take_every_choice_of_the_same_name() -> None:
    spec = replace(RunSpec(), **OTHER[COLLECT])
    for plan in (spec.window_plan, spec.collect_plan):
        for field in fields(plan):
            if field.name != "min_tokens":
                assert getattr(plan, field.name) == OTHER[COLLECT][field.name]
    assert spec.window_plan.min_tokens == OTHER[COLLECT]["skip_first"] + 1


def test_the_plans_have_the_defaults_of_the_spec() -> None:
    spec = RunSpec()
    assert type(spec.window_plan)() == spec.window_plan
    assert type(spec.collect_plan)() == spec.collect_plan


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_tokens": 0}, "--tokens must be at least 1, not 0"),
        ({"max_overlap": 1.5}, "--max-overlap must lie between 0 and 1, not 1.5"),
        ({"skip_first": 64}, "--skip-first must lie between 0 and --n-ctx 64, not 64"),
        ({"max_norm_ratio": 1.0}, "--max-norm-ratio must be more than 1, not 1.0"),
        ({"memory_gb": 0.0}, "--memory-gb must be a size, not 0.0"),
        ({"n_ctx": 1}, "--n-ctx must be at least 2, not 1"),
        ({"top_k": -1}, "--top-k must be at least 1"),
        ({"n_per_split": 0}, "--n-per-split must be at least 1"),
        ({"max_a_document": 0}, "--max-a-document must be at least 1, not 0"),
        ({"fit_share": 0.0}, "--fit-share must lie between 0 and 1"),
        ({"fit_share": 1.0}, "--fit-share must lie between 0 and 1"),
    ],
)
def test_a_choice_that_cannot_be_meant_is_refused_by_its_flag(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        RunSpec(**changes)


def test_flags_are_the_fields_names_but_for_the_commonest() -> None:
    assert [flag_of(n) for n in ("fit_share", "model", "n_tokens", "cut")] == [
        "--fit-share",
        "--model",
        "--tokens",
        "--windows",
    ]


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        (None, [0, 1, 2, 3, 4, 5]),
        ("0", [0]),
        ("0,2-4", [0, 2, 3, 4]),
        ("5, 1 ,1-2", [1, 2, 5]),
        ("3-3", [3]),
        ("0-5", [0, 1, 2, 3, 4, 5]),
    ],
)
def test_layers_are_numbers_and_ranges(text: str | None, layers: list[int]) -> None:
    assert parse_layers(text, 6) == layers


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "1,,2", "1.5", "1:2"])
def test_what_is_not_a_layer_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="write numbers and ranges, such as 0,2-5"):
        parse_layers(text, 6)


@pytest.mark.parametrize("text", ["6", "0-6", "4-3", "99999999999-99999999999"])
def test_a_layer_that_the_model_has_not_is_refused_with_those_it_has(text: str) -> None:
    with pytest.raises(UsageError, match="the model has layers 0-5"):
        parse_layers(text, 6)


def test_a_shard_is_a_part_and_how_many_there_are() -> None:
    assert parse_shard(None) == Shard(1, 1)
    assert parse_shard(" 3/16 ") == Shard(3, 16)


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "1/0", "-1/4", "1/4/2", "a/b"])
def test_a_shard_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--shard '.*': write the part and how many there are"):
        parse_shard(text)


def test_all_neurons_are_meant_unless_language_models_are_asked() -> None:
    assert RunSpec().neurons_wanted is None
    asked = RunSpec(explainer="hf:x", simulator="auto")
    assert asked.neurons_wanted == str(N_ASKED)
    assert replace(asked, neurons="all").neurons_wanted is None
    assert replace(asked, neurons="0:3").neurons_wanted == "0:3"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_explanations", 0), ("requests_a_minute", 0), ("tokens_a_minute", -1),
        ("max_in_flight", 0), ("batch_size", 0), ("explainer_context", 0), ("timeout_s", 0.0),
        ("simulator_context", 0), ("max_missing_share", 1.0), ("budget_usd", -0.1),
        ("timeout_s", float("nan")), ("budget_usd", float("inf")), ("evidence", "words"),
    ],
)  # fmt: skip
def test_a_choice_about_language_models_that_cannot_be_meant_is_refused(
    field: str, value: object
) -> None:
    with pytest.raises(UsageError, match=flag_of(field)):
        replace(RunSpec(), **{field: value})  # type: ignore[arg-type]
