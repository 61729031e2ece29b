"""The benchmark compares patterns, whole and in parts, with the table, on two texts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.benchmark_explainers import HEADLINES, LOOKUP, PARTS, WHOLE, benchmark
from neuron_explainer.errors import NeuronExplainerError
from tests.pipeline.test_run import write_corpus
from tests.tiny_models import save_tiny_model


def test_every_part_is_read_beside_the_table_on_both_texts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(save_tiny_model(tmp_path / "model", n_embd=8))
    here, there = str(tmp_path / "here.jsonl"), str(tmp_path / "there.jsonl")
    write_corpus(Path(here), n_documents=250)
    write_corpus(Path(there), n_documents=240)
    benchmark(
        model=model, corpus=here, other_corpus=there, tokens=12_000, neurons=5,
        pattern_tokens=200, as_json=True,
    )  # fmt: skip
    answer = json.loads(capsys.readouterr().out)
    assert answer["scores"].keys() == {here, there}
    for of_text in answer["scores"].values():
        assert of_text.keys() == set(HEADLINES)
        for of_headline in of_text.values():
            assert of_headline.keys() == set(PARTS)
            for by_rule in of_headline.values():
                assert by_rule.keys() == {LOOKUP, WHOLE}
                for by_layer in by_rule.values():
                    assert by_layer.keys() == {"0", "1", "all"}
                    assert by_layer["all"]["n_units"] == 10
    of_rules = answer["scores"][here][HEADLINES[0]]
    whole = of_rules[WHOLE][LOOKUP]["all"]
    assert whole["difference"] == pytest.approx(whole["mean"] - whole["baseline_mean"])
    for rule in PARTS:
        beside_table, beside_whole = (of_rules[rule][beside]["all"] for beside in (LOOKUP, WHOLE))
        without = whole["difference"] - beside_table["difference"]
        assert beside_whole["difference"] == pytest.approx(-without)
    assert of_rules[WHOLE][WHOLE]["all"]["difference"] == 0
    assert of_rules["no back-off"][LOOKUP]["all"]["difference"] < 0
    assert answer["search"].keys() == {"0", "1"}
    for measured in answer["search"].values():
        assert measured["n_units"] == 5
        assert 0 < measured["cost"]["n_tokens"] <= 5 * 200


def test_a_second_text_that_is_not_there_is_told_before_the_work_begins(tmp_path: Path) -> None:
    with pytest.raises(NeuronExplainerError, match=r"nowhere\.jsonl"):
        benchmark(model=str(tmp_path / "no model"), other_corpus=str(tmp_path / "nowhere.jsonl"))
