"""Names of stages mean what they say, and what is no stage is named with those that are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from neuron_explainer.errors import UsageError
from neuron_explainer.pipeline.cascade_stages import StageName, parse_stages
from neuron_explainer.pipeline.cascade_steps import CascadePlan
from neuron_explainer.pipeline.spec import PATTERNS, TOKEN_LOOKUP, RunSpec

LOOKUP = StageName(TOKEN_LOOKUP)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("openai:a", [StageName("openai:a")]),
        ("token_lookup, openai:a", [StageName("openai:a")]),
        ("openai:a,openai:b,", [StageName("openai:a"), StageName("openai:b")]),
        ("openai:a/summary,openai:a", [StageName("openai:a", "summary"), StageName("openai:a")]),
        ("hf:Qwen/Qwen2.5-1.5B/token_space", [StageName("hf:Qwen/Qwen2.5-1.5B", "token_space")]),
        ("hf:Qwen/Qwen2.5-1.5B", [StageName("hf:Qwen/Qwen2.5-1.5B")]),
        ("openai:llama3.2:3b", [StageName("openai:llama3.2:3b")]),
    ],
)
def test_the_token_lookup_table_goes_before_the_stages_that_are_named(
    text: str, names: list[StageName]
) -> None:
    stages = parse_stages(text)
    assert stages == (LOOKUP, *names)
    assert parse_stages(",".join(map(str, stages))) == stages
    assert [stage.kind.asks for stage in stages] == [False] + [True] * len(names)


def test_patterns_are_a_stage_that_asks_nobody_and_stand_where_they_are_named() -> None:
    names = [StageName("openai:a"), StageName(PATTERNS), StageName("openai:b", "summary")]
    stages = parse_stages("openai:a, patterns,openai:b/summary")
    assert stages == (LOOKUP, *names)
    assert [stage.kind.asks for stage in stages] == [False, True, False, True]
    common = RunSpec(simulator="openai:s", evidence=PATTERNS)
    assert [stage.spec(common).needs_patterns for stage in stages] == [False, True, True, True]
    plain = replace(common, evidence="windows")
    assert [stage.spec(plain).needs_patterns for stage in stages] == [False, False, True, False]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no stage after the token lookup table"),
        ("token_lookup", "names no stage after the token lookup table"),
        ("gpt-4o", "'gpt-4o' is not known; known are token_lookup, patterns, openai:MODEL"),
        ("patterns:x,openai:a", "'patterns:x' is not known"),
        ("openai:", "'openai:' is not known"),
        ("token_lookup:x", "'token_lookup:x' is not known"),
        ("openai:/summary", "is not known"),
        ("openai:a,openai:a", "names openai:a twice"),
        ("openai:a,token_lookup", "names token_lookup twice"),
    ],
)
def test_what_is_no_cascade_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_stages(text)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("min_gain", [float("nan"), float("inf")])
def test_a_least_gain_that_is_no_number_is_refused(min_gain: float) -> None:
    with pytest.raises(UsageError, match="--min-gain must be a difference of scores"):
        CascadePlan(min_gain=min_gain)


def test_a_stage_has_its_own_explainer_and_prompt_and_the_rest_is_common() -> None:
    common = RunSpec(simulator="openai:s", n_per_split=4, explainer_prompt="highlight")
    own = StageName("openai:a", "summary").spec(common)
    assert (own.explainer, own.explainer_prompt) == ("openai:a", "summary")
    assert StageName("openai:a").spec(common).explainer_prompt == "highlight"
    assert (own.simulator, own.n_per_split) == ("openai:s", 4)
