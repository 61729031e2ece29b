"""The explanations that are kept are those of the method that is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from neuron_explainer.errors import StoreError, UsageError
from neuron_explainer.pipeline.kept import BEFORE, KEPT_FROM, keep_own
from neuron_explainer.pipeline.methods import parse_scorers
from neuron_explainer.pipeline.sides import compare_methods
from neuron_explainer.pipeline.spec import fingerprint
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import TOP_AND_RANDOM, Score, ScoredSimulation
from neuron_explainer.records.subject_names import is_same_site, is_same_subject
from neuron_explainer.stores.results import BASELINE, BASELINE_LABEL, Results

UNITS = (NeuronId(0, 1), NeuronId(0, 2), NeuronId(1, 1))
LOOKUP = {"explainer": "token_lookup"}
FIRST = {"explainer": "summary", "seed": 0}
SECOND = {"explainer": "summary", "seed": 1}


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Results]:
    with Results(tmp_path / "results.sqlite") as results:
        yield results


def add(
    results: Results,
    choices: dict[str, object],
    values: tuple[float | None, ...],
    *,
    explainer: str = "summary",
    model: str | None = "hf:m",
    simulator: str = "structured hf:m",
) -> str:
    """A method that says its own number of each unit; its fingerprint."""
    name = fingerprint(choices)
    results.use_method(name, choices)
    for neuron_id, value in zip(UNITS, values, strict=True):
        reason = "constant prediction" if value is None else None
        score = Score("ev_correlation_score", value, 10, reason=reason)
        scored = ScoredSimulation(
            "simulation", simulator, {TOP_AND_RANDOM: score}, (), TOP_AND_RANDOM
        )
        said = Explanation(neuron_id, f"{name} of {neuron_id}", explainer, model, "v1")
        results.add_explained(name, said, scored)
    return name


def test_a_method_is_found_by_fingerprint_and_by_name(results: Results) -> None:
    lookup = add(results, LOOKUP, (0.1, 0.2, 0.3), explainer="token_lookup", model=None)
    first, second = (add(results, choices, (0.5, 0.6, 0.7)) for choices in (FIRST, SECOND))
    for name, wanted in (
        (None, second), (lookup, lookup), (first[:6], first), ("token_lookup", lookup),
        ("summary by hf:m", second), ("summary", second),
    ):  # fmt: skip
        kept = keep_own(results, name)
        assert (kept.origin, kept.label) == (wanted, BEFORE)
        assert [kept.explanations[i][0].text for i in UNITS] == [f"{wanted} of {i}" for i in UNITS]


def test_what_was_rescored_leads_back_to_what_was_kept(results: Results) -> None:
    first = add(results, FIRST, (0.5, 0.6, 0.7))
    kept = add(results, {"explainer": "kept", KEPT_FROM: first}, (0.5, 0.6, 0.7))
    assert keep_own(results).origin == keep_own(results, kept).origin == first


def test_an_unknown_method_is_refused_with_those_that_there_are(results: Results) -> None:
    with pytest.raises(StoreError, match="run `explain` first"):
        keep_own(results)
    lookup = add(results, LOOKUP, (0.1, 0.2, 0.3), explainer="token_lookup", model=None)
    first = add(results, FIRST, (0.5, 0.6, 0.7))
    with pytest.raises(UsageError, match="no such method") as raised:
        keep_own(results, "sumary")
    for part in (lookup, first, "summary by hf:m", "simulated by structured hf:m", "3 neurons"):
        assert part in str(raised.value)


def test_two_methods_are_compared_with_what_made_them(results: Results) -> None:
    first = add(results, FIRST, (0.5, 0.6, None))
    beside = {"explainer": "other", BASELINE: first, BASELINE_LABEL: "the first"}
    second = add(results, beside, (0.75, 0.5, 0.1), simulator="streaming hf:n")
    compared = compare_methods(results, second)
    assert [mover.neuron_id for mover in compared.paired.movers] == [UNITS[0], UNITS[1]]
    assert [mover.difference for mover in compared.paired.movers] == pytest.approx([0.25, -0.1])
    overall = compared.paired.compare()
    assert overall is not None
    assert (overall.n_better, overall.n_same, overall.n_worse) == (1, 0, 1)
    assert overall.difference == pytest.approx((0.25 - 0.1) / 2)
    assert compared.paired.left_out == {"the first: constant prediction": 1}
    assert compared.now.simulators == ("streaming hf:n",)
    assert compared.before.simulators == ("structured hf:m",)
    assert compared.now.prompt_versions == ("v1",)
    assert [unit.reason for unit in compared.units] == [None] * 3
    assert [unit.baseline_reason for unit in compared.units] == [None, None, "constant prediction"]
    assert "simulated by streaming hf:n; scored by simulation" in str(compared.now)
    with pytest.raises(ValueError, match="beside no other one"):
        compare_methods(results, first)


def test_scorers_are_known_by_name() -> None:
    assert parse_scorers(" simulation,simulation ") == ("simulation",)
    for text in ("", "simulation,guessing"):
        with pytest.raises(UsageError, match="one or more of simulation"):
            parse_scorers(text)


def test_one_model_and_one_site_may_have_several_names() -> None:
    assert is_same_subject("gpt2-small", "openai-community/gpt2")
    assert is_same_subject("./mine", "./mine")
    assert not is_same_subject("gpt2", "gpt2-xl")
    assert is_same_site("blocks.{layer}.mlp.hook_post", "mlp_post_act")
    assert not is_same_site("res-jb", "mlp_post_act")
