"""The rescore command as a user gives it, over a mirror of the published dataset."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from neuron_explainer.cli import main
from neuron_explainer.formats.openai import write_record
from neuron_explainer.published.locations import DocumentId, Kind
from neuron_explainer.records.neuron import ActivationRecord, NeuronId
from neuron_explainer.records.published import PublishedRecord
from neuron_explainer.stores.results import Results
from tests.e2e.command_lines import Call, assert_one_line
from tests.formats.openai_documents import encode, plain_results
from tests.llm.rule_options import ServerOptions
from tests.llm.rule_server import RuleServer, rule_server
from tests.published.mirror import write_mirror
from tests.published.scorable import DATASET, IDS, PUBLISHED_SCORE, scorable_documents
from tests.records.published import PublishedRecords, read_published_records

Ask = Callable[..., dict[str, Any]]
UNIT = NeuronId(9, 6236)
SAID = ' amounts, such as "50" and "200".'
"""True of the valid split, whose tokens the train split has not."""


@pytest.fixture(scope="module")
def server() -> Iterator[RuleServer]:
    with rule_server(ServerOptions()) as server:
        yield server


@pytest.fixture
def flags(server: RuleServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    return [
        "--run", "run", "--source", "mirror", "--archive", "archive.sqlite",
        "--simulator", "openai:rule-1", "--base-url", server.base_url, "--simulation", "structured",
        "--n-resamples", "0", "--requests-a-minute", "1000000",
    ]  # fmt: skip


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """`rescore … --json`, as it is read."""

    def ask(*arguments: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["neuron-explainer", "rescore", *arguments, "--json"])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert not ended.value.code, err
        found: dict[str, Any] = json.loads(out)
        return found

    return ask


def test_json_has_both_sides_and_every_unit_and_is_the_same_again(
    flags: list[str], answer: Ask
) -> None:
    write_mirror(Path("mirror"), scorable_documents())
    command = ("--published", "--dataset", DATASET, *flags, "--neurons", f"{IDS[0]},{IDS[1]}")
    first = answer(*command)
    assert answer(*command) == first
    assert first["label"] == "as published"
    assert first["comparison"]["n_units"] == 2
    assert first["now"]["simulators"] == ["structured openai:rule-1"]
    assert [unit["baseline_value"] for unit in first["units"]] == [PUBLISHED_SCORE] * 2
    assert (first["others"], first["not_taken"]) == ([], {})


def test_a_dry_run_says_what_it_would_cost_and_leaves_nothing(
    flags: list[str], server: RuleServer, answer: Ask
) -> None:
    Path("prices.json").write_text('{"models": {"rule-1": {"input": "1", "output": "2"}}}')
    n_asked = len(server.log.entries)
    what = ("--published", "--dataset", DATASET, "--neurons", "3")
    found = answer(*what, *flags, "--prices", "prices.json", "--dry-run")
    assert found["kept"]["n_units"] == 3
    assert found["kept"]["cost_picousd"] > 0
    assert found["new"] is None
    assert len(server.log.entries) == n_asked
    assert not Path("run").exists()


def test_a_dry_run_needs_no_key(
    flags: list[str], answer: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    at = flags.index("--base-url")
    command = ("--published", "--dataset", DATASET, *flags[:at], *flags[at + 2 :], "--neurons", "3")
    assert answer(*command, "--dry-run")["kept"]["n_units"] == 3


def test_a_rescoring_without_a_score_is_a_failure(flags: list[str], call: Call) -> None:
    write_mirror(Path("mirror"), scorable_documents(wrong=IDS[:1]))
    command = ("--published", "--dataset", DATASET, *flags, "--neurons", str(IDS[0]))
    assert call("rescore", *command).code == 1


def test_what_search_prints_is_a_list_that_is_rescored(
    flags: list[str],
    answer: Ask,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_mirror(Path("mirror"), scorable_documents())
    answer("--published", "--dataset", DATASET, *flags, "--neurons", f"{IDS[0]},{IDS[1]}")
    monkeypatch.setattr(
        sys, "argv", ["neuron-explainer", "search", "the word", "--json", *flags[:2]]
    )
    with pytest.raises(SystemExit):
        main()
    found = capsys.readouterr().out
    Path("found.json").write_text(found, encoding="utf-8")
    where = ("--windows", "published", "--dataset", DATASET)
    again = answer("--imported", "found.json", *where, *flags, "--run", "again")
    rows = json.loads(found)["explanations"]
    printed = {NeuronId(row["layer"], row["neuron"]): row["score"] for row in rows}
    read = {NeuronId(**unit["neuron_id"]): unit["baseline_value"] for unit in again["units"]}
    assert read == printed
    assert len(printed) == 2


def test_what_cannot_be_meant_is_one_line(flags: list[str], call: Call) -> None:
    for arguments, code, says in (
        (["--published"], 2, "no folder 'mirror'"),
        (["--published", "--scorers", "guessing"], 2, "one or more of simulation"),
        (["--published", "--imported", "list.csv"], 2, "name two origins"),
        (["--published", "--neurons", "48:0"], 1, "no neuron 48:0"),
    ):
        assert_one_line(call("rescore", *flags, *arguments), code, says)


@pytest.mark.shared_data
def test_a_published_neuron_is_rescored_on_its_own_windows(
    flags: list[str], answer: Ask, shared_data: Path
) -> None:
    """Train and valid split of GPT-2 XL 9:6236 are real; what is said of it is made up."""
    known = read_published_records(shared_data)
    documents = {
        Kind.ACTIVATIONS: write_record(_whole_record(known)).document,
        Kind.EXPLANATIONS: encode(_explained(known, SAID, 0.5)),
    }
    write_mirror(
        Path("mirror"),
        {DocumentId("gpt2-xl", kind, UNIT).path: content for kind, content in documents.items()},
    )
    command = ("--published", *flags, "--neurons", str(UNIT), "--explainer", "openai:rule-1")
    found = answer(*command)
    (beside,) = found["others"]
    (kept,), (new,) = beside["units"], found["units"]
    assert (kept["baseline_text"], kept["baseline_value"]) == (SAID, 0.5)
    assert kept["text"] == new["baseline_text"] == SAID.strip()
    assert kept["value"] == new["baseline_value"] > 0.5
    assert new["value"] < kept["value"]  # made from the train split, by rule
    with Results(Path("run/results.sqlite"), read_only=True) as results:
        for side in (found["now"], found["before"], beside["before"]):
            windows = results.windows(side["fingerprint"], UNIT)
            assert [(w.simulation.tokens, w.true_activations) for w in windows] == [
                (w.tokens, w.activations) for w in known.valid
            ]


def _whole_record(known: PublishedRecords) -> PublishedRecord:
    """20 top windows and 15 random ones; those that are not at hand are made up."""
    at_hand = [w for pair in zip(known.train, known.valid[:5], strict=True) for w in pair]
    maxima = [*(window.max_activation for window in at_hand), 3.1]
    between = [ActivationRecord((" x",), ((high + low) / 2,)) for high, low in pairwise(maxima)]
    sample = [ActivationRecord((" y",), (0.01 * i,)) for i in range(15)]
    sample[:3] = known.random
    sample[1::3] = known.valid[5:]
    top = tuple(w for pair in zip(at_hand, between, strict=True) for w in pair)
    return PublishedRecord(UNIT, top, tuple(sample))


def _explained(known: PublishedRecords, text: str, score: float) -> dict[str, Any]:
    results = plain_results(UNIT, text)
    simulation = results["scored_explanations"][0]["scored_simulation"]
    simulation["ev_correlation_score"] = score
    simulation["scored_sequence_simulations"] = [
        {
            "simulation": {
                "tokens": window.tokens,
                "expected_activations": [0.0] * len(window.tokens),
                "activation_scale": "simulated_normalized_activations",
            },
            "true_activations": window.activations,
        }
        for window in known.valid
    ]
    return results
