"""The cascade command over real HTTP on the bundled model, where the token table knows few tokens.

So words that name tokens gain much over it; a prompt that does not show them gains nothing.
"""

from __future__ import annotations

import json
import pydoc_data.topics
import shutil
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from neuron_explainer.cli_cascade import print_cascade
from neuron_explainer.errors import UsageError
from neuron_explainer.pipeline.cascade import SPENT
from neuron_explainer.pipeline.cascade_report import read_cascade
from neuron_explainer.pipeline.cascade_run import estimate_cascade, run_cascade
from neuron_explainer.pipeline.cascade_steps import CascadePlan
from neuron_explainer.pipeline.events import UnitExplained, ignore
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.run import run_collect
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.pipeline.summary import summarize_method
from neuron_explainer.records.cost import PICOUSD
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.results import Results
from neuron_explainer.stores.spending import SpendingStore
from tests.e2e.command_lines import Call, assert_one_line, write_lines
from tests.fakes import FakeListener
from tests.llm.rule_server import RuleServer, rule_server

STAGES = "openai:rule-1/next_token,openai:rule-1/summary"
NEXT_TOKEN, SUMMARY = "openai:rule-1/next_token", "openai:rule-1/summary"
PLAN = CascadePlan(n_pilots=4)


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder and prices; never written to."""
    folder = tmp_path_factory.mktemp("collected")
    texts = pydoc_data.topics.topics.values()
    write_lines(folder / "corpus.jsonl", *({"text": text} for text in texts))
    (folder / "prices.json").write_text('{"models": {"rule-1": {"input": "1", "output": "4"}}}')
    spec = RunSpec(
        corpus=str(folder / "corpus.jsonl"), layers="0", n_tokens=60_000, device="cpu",
        n_ctx=24, n_boundary_windows=200, token_means_gb=0.0002, top_k=12,
    )  # fmt: skip
    run_collect(spec, RunFolder(folder / "run"), ignore)
    return folder


@pytest.fixture
def folder(collected: Path, tmp_path: Path) -> RunFolder:
    shutil.copytree(collected / "run", tmp_path / "run")
    return RunFolder(tmp_path / "run")


def asking(server: RuleServer, collected: Path) -> RunSpec:
    return RunSpec(
        simulator="openai:rule-1", simulation="structured", base_url=server.base_url,
        neurons="12", n_per_split=3, n_resamples=0, requests_a_minute=1_000_000, device="cpu",
        prices=str(collected / "prices.json"),
    )  # fmt: skip


def read_units(folder: RunFolder) -> list[UnitResult]:
    with Results(folder.results, read_only=True) as results:
        return [replace(unit, cost=None) for unit in results.units(results.current_method())]


def test_money_goes_to_the_stage_that_helps_and_readers_see_what_came_of_it(
    folder: RunFolder, collected: Path
) -> None:
    with rule_server() as server:
        spec = asking(server, collected)
        report = run_cascade(spec, folder, STAGES, PLAN, ignore)
        n_asked = len(server.log.entries)
        assert run_cascade(spec, folder, STAGES, PLAN, ignore) == report
        assert len(server.log.entries) == n_asked + 1  # whether it is there
    lookup, next_token, summary = report.stages
    assert (lookup.name, next_token.name, summary.name) == ("token_lookup", NEXT_TOKEN, SUMMARY)
    assert lookup.n_done == 12
    assert next_token.n_done <= 4 < summary.n_done
    assert summary.pilot_gain is not None
    assert summary.pilot_gain.mean > 0.05
    assert report.mean_first is not None and report.mean_last is not None
    assert report.mean_last > report.mean_first
    with Results(folder.results, read_only=True) as results:
        method = results.current_method()
        shown = summarize_method(results)
        units = list(results.units(method))
        assert all(results.candidates(method, u.neuron_id) for u in units if u.text is not None)
    assert read_cascade(folder.cascade, method) == report
    assert shown.comparison is not None
    assert shown.comparison.label == "token lookup table"
    assert shown.comparison.difference == pytest.approx(report.mean_last - report.mean_first)
    assert {unit.made_by for unit in units if unit.text} >= {"summary by openai:rule-1"}
    assert "summary by openai:rule-1" in folder.report.read_text(encoding="utf-8")
    total = sum(unit.cost.cost_picousd or 0 for unit in units if unit.cost is not None)
    assert total == sum(stage.cost.cost_picousd or 0 for stage in report.stages)


def test_a_budget_over_all_stages_is_kept_and_ends_a_cascade_in_good_order(
    folder: RunFolder, collected: Path
) -> None:
    with rule_server() as server:
        spec = replace(asking(server, collected), budget_usd=0.2)
        report = run_cascade(spec, folder, STAGES, PLAN, ignore)
        assert report.ended == SPENT
        assert len(read_units(folder)) == 12
        with SpendingStore(folder.spending) as spending:
            assert 0.1 * PICOUSD < spending.total_picousd() <= 0.2 * PICOUSD
        more = run_cascade(replace(spec, budget_usd=50.0), folder, STAGES, PLAN, ignore)
    assert more.stages[2].n_done > report.stages[2].n_done
    assert max(server.log.n_answered.values()) == 1


def test_a_cascade_that_is_killed_goes_on_to_the_same_results(
    folder: RunFolder, collected: Path, tmp_path: Path
) -> None:
    whole = RunFolder(tmp_path / "whole")
    shutil.copytree(folder.path, whole.path)
    with rule_server() as server:
        spec = asking(server, collected)
        run_cascade(spec, whole, STAGES, PLAN, ignore)
    with rule_server() as server:
        spec = asking(server, collected)
        for n_heard in (13, 4):  # the first pilot; some more
            with pytest.raises(KeyboardInterrupt):
                listen = FakeListener(fail_at=(UnitExplained, n_heard))
                run_cascade(spec, folder, STAGES, PLAN, listen)
        run_cascade(spec, folder, STAGES, PLAN, ignore)
    assert read_units(folder) == read_units(whole)


def test_what_keeps_a_cascade_from_asking_is_found_without_asking(
    folder: RunFolder, collected: Path
) -> None:
    with rule_server() as server:
        spec = asking(server, collected)
        found = estimate_cascade(spec, folder, STAGES, PLAN)
        assert [one.name for one in found] == [NEXT_TOKEN, SUMMARY]
        for one in found:
            assert (one.pilots.n_units, one.all_neurons.n_units) == (4, 12)
            assert one.pilots.cost_picousd is not None and one.all_neurons.cost_picousd is not None
            assert 0 < one.pilots.cost_picousd < one.all_neurons.cost_picousd
        for none in ("token_lookup", "auto"):
            with pytest.raises(UsageError, match=f"one simulator: name it.* not {none}"):
                run_cascade(replace(spec, simulator=none), folder, STAGES, PLAN, ignore)
        far = replace(
            spec, base_url="http://far.example/v1", prices=None, budget_usd=1.0, api_key_env="HOME"
        )
        with pytest.raises(UsageError, match="no price is known for rule-1"):
            run_cascade(far, folder, STAGES, PLAN, ignore)
        assert server.log.entries == []


def test_the_command_and_scores_print_the_stages(
    folder: RunFolder, collected: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rule_server() as server:
        flags = [
            "--run", str(folder.path), "--stages", STAGES, "--simulator", "openai:rule-1",
            "--simulation", "structured", "--base-url", server.base_url, "--neurons", "4",
            "--prices", str(collected / "prices.json"), "--n-resamples", "0",
            "--n-per-split", "3",
        ]  # fmt: skip
        assert call("cascade", *flags, "--dry-run").code == 0
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        at = flags.index("--base-url")
        with_key = [*flags[:at], *flags[at + 2 :]]
        assert call("cascade", *with_key, "--dry-run").code == 0
        assert_one_line(call("cascade", *with_key), 2, "OPENAI_API_KEY is not set")
        assert server.log.entries == []
        assert call("cascade", *flags, "--json").code == 0
        assert call("cascade", *flags).code == 0
        assert call("scores", "--run", str(folder.path)).code == 0
        assert_one_line(call("cascade", *flags, "--stages", "gpt"), 2, "'gpt' is not known")
    written = json.loads(folder.cascade.read_text())
    assert [stage["name"] for stage in written["stages"]] == ["token_lookup", NEXT_TOKEN, SUMMARY]
    report = read_cascade(folder.cascade, written["method"])
    assert report is not None
    shown = StringIO()
    print_cascade(Console(file=shown, width=80), report)
    assert {"token_lookup:", f"{NEXT_TOKEN}:", f"{SUMMARY}:"} <= set(shown.getvalue().split())
    assert f"over {report.n_both} neurons" in shown.getvalue()
    assert "…" not in shown.getvalue()
