"""The whole method with language models, over real HTTP, on the bundled model and real text.

The server answers by rule: as an explainer it names the tokens with the highest values it is
shown, as a simulator it gives high values where the explanation's words stand.
"""

from __future__ import annotations

import pydoc_data.topics
import random
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.fault_run import run_with_faults
from neuron_explainer.errors import AuthFailed, BudgetExceeded
from neuron_explainer.pipeline.events import UnitExplained, ignore
from neuron_explainer.pipeline.explain import explain
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.opening import make_lookup, open_method
from neuron_explainer.pipeline.rescore import run_rescore
from neuron_explainer.pipeline.revise import RevisionEvidence
from neuron_explainer.pipeline.revise_estimate import estimate_revise
from neuron_explainer.pipeline.run import estimate_run, run_collect, run_explain
from neuron_explainer.pipeline.run_revise import run_revise
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.pipeline.summary import summarize_method
from neuron_explainer.records.cost import PICOUSD, UnitCost
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId, NeuronRecord
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.stores.results import BASELINE, Results
from neuron_explainer.stores.spending import SpendingStore
from neuron_explainer.subject.model import BUNDLED_FOLDER
from neuron_explainer.viewer.report_source import read_report_data
from tests.e2e.command_lines import write_lines
from tests.fakes import FakeListener
from tests.llm.rule_options import ServerOptions
from tests.llm.rule_server import RuleServer, rule_server

COLLECT = RunSpec(n_tokens=60_000, device="cpu", n_boundary_windows=200, n_resamples=0)
TOKENIZER = str(BUNDLED_FOLDER)


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The bundled model on Python's own documentation; it is never written to."""
    folder = tmp_path_factory.mktemp("collected")
    texts = pydoc_data.topics.topics.values()
    write_lines(folder / "corpus.jsonl", *({"text": text} for text in texts))
    run = RunFolder(folder / "run")
    run_collect(replace(COLLECT, corpus=str(folder / "corpus.jsonl")), run, ignore)
    return run


@pytest.fixture
def folder(collected: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(collected.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


@pytest.fixture
def server() -> Iterator[RuleServer]:
    with rule_server(ServerOptions()) as server:
        yield server


def asking(server: RuleServer, **more: object) -> RunSpec:
    spec = replace(
        COLLECT,
        explainer="openai:rule-1",
        simulator="auto",
        base_url=server.base_url,
        neurons="24",
        requests_a_minute=1_000_000,
    )
    return replace(spec, **more)  # type: ignore[arg-type]


def value_of(unit: UnitResult) -> float | None:
    return None if unit.score is None else unit.score.value


def units_by_id(results: Results, method: str) -> dict[NeuronId, UnitResult]:
    return {unit.neuron_id: unit for unit in results.units(method)}


def scores_beside_lookup(folder: RunFolder) -> tuple[np.ndarray, np.ndarray]:
    """(unit,) of the current method and of the token lookup table, where both have one."""
    with Results(folder.results, read_only=True) as results:
        current = results.current_method()
        lookup = units_by_id(results, results.choices(current)[BASELINE])
        pairs = [
            (value_of(unit), value_of(lookup[i]))
            for i, unit in units_by_id(results, current).items()
        ]
    both = np.array([pair for pair in pairs if None not in pair], dtype=np.float64)
    return both[:, 0], both[:, 1]


def test_explanations_of_a_language_model_reach_half_of_the_lookup_tables_scores(
    folder: RunFolder, server: RuleServer
) -> None:
    run_explain(asking(server, neurons="48", simulation="structured"), folder, ignore)
    mine, lookup = scores_beside_lookup(folder)
    assert len(mine) >= 40
    good = lookup > 0.5
    assert good.sum() >= 24
    assert mine[good].mean() >= lookup[good].mean() / 2
    page = folder.report.read_text(encoding="utf-8")
    assert "token lookup table" in page
    assert "structured openai:rule-1" in page


def test_the_ways_to_simulate_agree(folder: RunFolder, server: RuleServer) -> None:
    scores = []
    for simulation in ("structured", "streaming", "all_at_once"):
        spec = asking(server, neurons="5", simulation=simulation, simulator_tokenizer=TOKENIZER)
        run_explain(spec, folder, ignore)
        scores.append(scores_beside_lookup(folder)[0])
    assert len(scores[0]) >= 4
    np.testing.assert_allclose(scores[1], scores[0], atol=0.02)
    np.testing.assert_allclose(scores[2], scores[0], atol=0.02)


class Shuffled:
    """Gives each unit the explanation of another one."""

    name = "shuffled"

    def __init__(self, by_id: Mapping[NeuronId, Explanation]) -> None:
        ids = sorted(by_id)
        random.Random(0).shuffle(ids)
        self._by_id = {i: by_id[other] for i, other in zip(ids, ids[1:] + ids[:1], strict=True)}

    async def explain(self, record: NeuronRecord) -> tuple[Explanation, ...]:
        return (replace(self._by_id[record.neuron_id], neuron_id=record.neuron_id),)


def test_explanations_of_other_neurons_score_about_nothing(
    folder: RunFolder, server: RuleServer
) -> None:
    spec = asking(server, simulation="structured")
    run_explain(spec, folder, ignore)
    own, _ = scores_beside_lookup(folder)
    store = NeuronStore(folder.store)
    lookup = make_lookup(spec, store)
    with (
        Results(folder.results) as results,
        open_method(spec, store, folder, lookup.fingerprint) as opened,
    ):
        units = units_by_id(results, results.current_method())
        explanations = {
            i: Explanation(i, unit.text, unit.explainer)
            for i, unit in units.items()
            if unit.text is not None
        }
        method = replace(
            opened.method,
            explainer=Shuffled(explanations),
            choices={**opened.method.choices, "explainer": "shuffled"},
        )
        explain(method, store, results, sorted(explanations), ignore)
    shuffled, _ = scores_beside_lookup(folder)
    assert abs(shuffled.mean()) < 0.1
    assert own.mean() > 4 * abs(shuffled.mean())


def test_faults_lose_no_neuron_and_no_money(folder: RunFolder, tmp_path: Path) -> None:
    findings = run_with_faults(tmp_path, folder, 12, share=0.2)
    assert findings.problems() == []
    assert findings.n_repeated == 0
    assert findings.charged_picousd == findings.spent_picousd > 0
    assert sum(n for kind, n in findings.outcomes.items() if kind != "answer") > 20


@pytest.mark.slow
def test_a_killed_run_pays_for_nothing_twice_but_what_was_in_flight(
    folder: RunFolder, tmp_path: Path
) -> None:
    findings = run_with_faults(tmp_path, folder, 12, share=0.05, kills=1, every_s=8.0)
    assert findings.problems() == []


def test_a_budget_is_kept_and_a_larger_one_goes_on(
    folder: RunFolder, server: RuleServer, tmp_path: Path
) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text('{"models": {"rule-1": {"input": "1", "output": "4"}}}')
    spec = asking(server, neurons="6", simulation="structured", prices=str(prices), budget_usd=0.15)
    with pytest.raises(BudgetExceeded, match="a larger --budget-usd goes on from here"):
        run_explain(spec, folder, ignore)
    with SpendingStore(folder.spending) as spending:
        assert 0.05 * PICOUSD < spending.total_picousd() <= 0.15 * PICOUSD
    run_explain(replace(spec, budget_usd=100.0), folder, ignore)
    assert max(server.log.n_answered.values()) == 1
    with Results(folder.results, read_only=True) as results:
        units = list(results.units(results.current_method()))
    assert len(units) == 6
    with SpendingStore(folder.spending) as spending:
        spent = spending.of_purpose().counted
        of_probe = spending.of_purpose("probe/").counted
    total = sum((unit.cost for unit in units if unit.cost is not None), start=UnitCost())
    assert total + of_probe == spent
    assert spent.n_prompt_tokens == server.log.charged.n_prompt_tokens
    assert spent.n_completion_tokens == server.log.charged.n_completion_tokens


def test_what_a_dry_run_counts_is_what_is_asked(folder: RunFolder, server: RuleServer) -> None:
    spec = asking(server, neurons="8", simulation="structured", n_explanations=2)
    estimate = estimate_run(spec, folder)
    assert server.log.entries == []
    run_explain(spec, folder, ignore)
    (tally,) = estimate.by_model.values()
    n_asked = sum(entry.path.endswith("completions") for entry in server.log.entries)
    with SpendingStore(folder.spending) as spending:
        n_probe = spending.of_purpose("probe/").counted.n_requests
    # Where both explanations are the same text, one of them is simulated.
    assert 0.6 * tally.n_requests <= n_asked - n_probe <= tally.n_requests


def test_the_key_is_sent_and_written_nowhere(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    key = "sk-do-not-tell-anybody-0123456789"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    caplog.set_level("DEBUG", logger="neuron_explainer")
    with rule_server(ServerOptions(api_key=key)) as server:
        run_explain(asking(server, neurons="2", simulation="structured"), folder, ignore)
        monkeypatch.setenv("OPENAI_API_KEY", key[:-1] + "x")
        with pytest.raises(AuthFailed) as failed:
            run_explain(asking(server, neurons="3", simulation="structured"), folder, ignore)
    assert key[:12] not in str(failed.value) + caplog.text
    files = [path for path in folder.path.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert [path for path in files if key[3:-1].encode() in path.read_bytes()] == []


def test_an_interrupted_run_goes_on_to_the_same_results(
    folder: RunFolder, server: RuleServer, tmp_path: Path
) -> None:
    spec = asking(server, neurons="8", simulation="structured", n_explanations=2)
    whole = RunFolder(tmp_path / "whole")
    shutil.copytree(folder.path, whole.path)
    run_explain(spec, whole, ignore)
    with pytest.raises(KeyboardInterrupt):
        run_explain(spec, folder, FakeListener(fail_at=(UnitExplained, 3)))
    run_explain(spec, folder, ignore)
    assert read_results(folder) == read_results(whole)


def read_results(folder: RunFolder) -> list[UnitResult]:
    """Without what it cost: a run that was stopped has thrown some answers away."""
    with Results(folder.results, read_only=True) as results:
        return [replace(unit, cost=None) for unit in results.units(results.current_method())]


def test_revising_scores_both_versions_and_is_read_beside_what_it_revised(
    folder: RunFolder, server: RuleServer
) -> None:
    spec = asking(server, neurons="4", simulation="structured")
    run_explain(replace(spec, neurons="7"), folder, ignore)
    with Results(folder.results, read_only=True) as results:
        before = units_by_id(results, results.current_method())
    estimated = estimate_revise(spec, folder, RevisionEvidence.SENTENCES)
    asked_before = len(server.log.entries)
    summary = run_revise(spec, folder, RevisionEvidence.SENTENCES, ignore)
    assert summary.n_revised >= 3
    n_asked = len(server.log.entries) - asked_before
    (tally,) = estimated.by_model.values()
    assert estimated.n_units == 4
    # Sentences and the revision; both versions on 20 windows and 5 sentences, of which the run has
    # kept what the old version was simulated on.
    assert n_asked <= tally.n_requests == 4 * (2 + 2 * (20 + 5))
    assert n_asked >= 3 * (2 + 20 + 2 * 5)
    assert estimated.cost_picousd is not None
    with Results(folder.results, read_only=True) as results:
        compared = summarize_method(results).comparison
        after = units_by_id(results, results.current_method())
        (beside,) = read_report_data(NeuronStore(folder.store), results).baselines
    assert (beside.label, len(beside.values)) == ("before revision", summary.on_windows.n_units)
    assert compared is not None
    assert compared.label == "before revision"
    for neuron_id, unit in after.items():
        if unit.text is not None:
            old = before[neuron_id].score
            assert unit.scores["before_top_and_random"] == old
            assert {"with_sentences", "before_with_sentences"} <= set(unit.scores)
    assert run_revise(spec, folder, RevisionEvidence.SENTENCES, ignore).n_units == 0


def test_rescoring_keeps_what_was_said_and_compares_unit_by_unit(
    folder: RunFolder, server: RuleServer
) -> None:
    run_explain(asking(server, neurons="6", simulation="structured"), folder, ignore)
    with Results(folder.results, read_only=True) as results:
        origin = results.current_method()
        old = units_by_id(results, origin)
    spec = asking(server, neurons=None, simulation="streaming", explainer_prompt="token_space")
    rescored = run_rescore(spec, folder, ignore)
    with Results(folder.results, read_only=True) as results:
        kept = units_by_id(results, rescored.kept)
        assert rescored.new == results.current_method()
        new = units_by_id(results, rescored.new or "")
        assert units_by_id(results, origin) == old
    assert {i: u.text for i, u in kept.items()} == {
        i: u.text for i, u in old.items() if u.text is not None
    }
    assert {unit.simulator for unit in kept.values()} == {"streaming openai:rule-1"}
    values = {i: (value_of(unit), value_of(kept[i])) for i, unit in new.items()}
    differences = {i: a - b for i, (a, b) in values.items() if a is not None and b is not None}
    assert len(differences) >= 4
    assert {m.neuron_id: m.difference for m in rescored.paired.movers} == differences
    compared = rescored.paired.compare()
    assert compared is not None
    assert compared.difference == pytest.approx(np.mean(list(differences.values())))
    again = run_rescore(spec, folder, ignore)
    assert again == rescored


def test_another_simulator_alone_is_compared_with_the_scores_before(
    folder: RunFolder, server: RuleServer
) -> None:
    run_explain(asking(server, neurons="4", simulation="structured"), folder, ignore)
    spec = asking(
        server, neurons=None, explainer="token_lookup", simulator="openai:rule-1",
        simulation="streaming",
    )  # fmt: skip
    rescored = run_rescore(spec, folder, ignore)
    assert rescored.new is None
    assert len(rescored.paired.movers) >= 3
    assert max(abs(mover.difference) for mover in rescored.paired.movers) < 0.02


def test_a_server_that_takes_no_system_message_explains_and_simulates_as_any_other(
    folder: RunFolder, server: RuleServer, tmp_path: Path
) -> None:
    whole = RunFolder(tmp_path / "whole")
    shutil.copytree(folder.path, whole.path)
    run_explain(asking(server, neurons="4", simulation="structured"), whole, ignore)
    with rule_server(ServerOptions(system_prompts=False)) as strict:
        run_explain(asking(strict, neurons="4", simulation="structured"), folder, ignore)
    refused = [entry for entry in strict.log.entries if entry.outcome == "refused"]
    assert len(refused) == 1  # the question whether it does
    here, there = read_results(folder), read_results(whole)
    assert [unit.text for unit in here] == [unit.text for unit in there]
    assert sum(unit.score is not None for unit in here) >= 3


def test_the_explainer_is_known_as_well_as_the_simulator(
    folder: RunFolder, server: RuleServer
) -> None:
    """Each on a server of its own, of which the explainer's takes least."""
    options = ServerOptions(model="strict-1", system_prompts=False, is_reasoning=True)
    with rule_server(options) as strict:
        spec = asking(
            strict, neurons="2", explainer="openai:strict-1", simulator="openai:rule-1",
            simulator_base_url=server.base_url, simulation="streaming",
        )  # fmt: skip
        run_explain(spec, folder, ignore)
        n_probe = len(strict.log.entries)
        run_explain(replace(spec, neurons="3"), folder, ignore)
    assert all(unit.text for unit in read_results(folder))
    assert len(strict.log.entries) <= n_probe + 2  # whether it is there, and one more neuron
