"""The report says of each stage what it came to, and reads back as it was written."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neuron_explainer.errors import StoreError
from neuron_explainer.pipeline.cascade_report import read_cascade, write_cascade
from neuron_explainer.pipeline.cascade_steps import CascadePlan
from neuron_explainer.stores.results import Results
from tests.pipeline.cascades import FakeLedger, Ran, noisy_world, run_world


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    world, ledger = noisy_world(60), FakeLedger(3.0)
    with Results(tmp_path_factory.mktemp("cascade") / "results.sqlite") as results:
        return asyncio.run(run_world(world, results, ledger, CascadePlan(20, 0.005)))


def test_every_neuron_is_counted_once_at_every_stage(ran: Ran) -> None:
    for stage in ran.report.stages:
        n_others = stage.n_not_worth + stage.n_unknown + stage.n_passed_over
        assert stage.n_offered + n_others == ran.report.n_neurons
        assert stage.n_won + stage.n_lost == stage.n_done <= stage.n_offered


def test_the_means_of_a_stage_are_over_the_same_neurons(ran: Ran) -> None:
    risen = 0.0
    for at, stage in enumerate(ran.report.stages[1:], start=1):
        passages = [
            p for of_unit in ran.cascade.passages.values() for p in of_unit if p.stage == at
        ]
        assert stage.n_done == len(passages)
        gains = [p.gain for p in passages if p.gain is not None]
        assert stage.mean_before is not None and stage.mean_after is not None
        assert stage.mean_after - stage.mean_before == pytest.approx(np.mean(gains))
        risen += sum(gains)
        assert stage.cost.cost_usd == pytest.approx(sum(p.cost.cost_usd or 0 for p in passages))
        if stage.usd_a_point is not None:
            points = sum(gains) / ran.report.n_neurons / 0.01
            assert stage.usd_a_point * points == pytest.approx(stage.cost.cost_usd)
    assert ran.report.mean_first is not None and ran.report.mean_last is not None
    rise = ran.report.mean_last - ran.report.mean_first
    assert rise * ran.report.n_both == pytest.approx(risen)


def test_a_report_reads_back_for_its_method_alone(ran: Ran, tmp_path: Path) -> None:
    path = tmp_path / "cascade.json"
    assert read_cascade(path, ran.method) is None
    write_cascade(path, ran.report)
    assert read_cascade(path, ran.method) == ran.report
    assert read_cascade(path, "another") is None
    write_cascade(path, replace(ran.report, ended="again"))
    again = read_cascade(path, ran.method)
    assert again is not None
    assert again.ended == "again"


@pytest.mark.parametrize("damage", ["", "{}", "[]", '{"stages": [{}]}', "\x00"])
def test_a_damaged_report_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "cascade.json"
    path.write_text(damage)
    with pytest.raises(StoreError, match=r"cascade\.json is damaged"):
        read_cascade(path, "x")
