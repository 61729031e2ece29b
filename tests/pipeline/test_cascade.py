"""A cascade spends where most is gained, never more than it may, and ends the same way always."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from neuron_explainer.errors import AuthFailed, CannotExplain, ServerFailed
from neuron_explainer.pipeline.cascade import ALL_DONE, SPENT
from neuron_explainer.pipeline.cascade_rows import NOT_CHOSEN
from neuron_explainer.pipeline.cascade_steps import CascadePlan
from neuron_explainer.pipeline.events import UnitExplained
from neuron_explainer.records.cost import PICOUSD
from neuron_explainer.records.neuron import DEAD_UNIT, NeuronId
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.results import Results
from tests.fakes import FakeListener
from tests.pipeline.cascades import FakeLedger, Ran, World, noisy_world, run_world

ALL = CascadePlan(n_pilots=10, min_gain=-10)
PLAN = CascadePlan(n_pilots=20, min_gain=0.01)


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Results]:
    with Results(tmp_path / "results.sqlite") as results:
        yield results


def run(
    world: World,
    results: Results,
    plan: CascadePlan = ALL,
    ledger: FakeLedger | None = None,
    listen: FakeListener | None = None,
) -> Ran:
    listen = listen or FakeListener()
    return asyncio.run(run_world(world, results, ledger or FakeLedger(), plan, listen))


def found(results: Results, ran: Ran) -> dict[NeuronId, UnitResult]:
    units = list(results.units(ran.method))
    assert len({unit.neuron_id for unit in units}) == len(units)
    return {unit.neuron_id: unit for unit in units}


def everything(results: Results, ran: Ran) -> object:
    """All that readers see of a cascade."""
    units = found(results, ran)
    return [(unit, results.candidates(ran.method, i)) for i, unit in units.items()], ran.report


def two_stages(n: int, gain: np.ndarray, costs: tuple[float, ...] = (0.0, 0.01)) -> World:
    """gain (stage - 1, unit): what the later stages add to a first score that rises with the
    unit's index; the same on both splits."""
    first = np.linspace(0, 0.5, n)[None]
    scores = np.concatenate([first, first + gain])
    return World(scores, scores, costs)


@pytest.mark.parametrize("seed", range(4))
def test_with_money_for_all_every_unit_ends_at_its_best_stage_by_calibration(
    results: Results, seed: int
) -> None:
    world = noisy_world(40, seed)
    ran = run(world, results)
    assert ran.report.ended == ALL_DONE
    units = found(results, ran)
    for neuron_id in world.ids:
        at, unit = neuron_id.neuron_index, units[neuron_id]
        done = [k for k in range(3) if neuron_id in ran.stages[k].explained]
        best = max(done, key=lambda k: world.calibration[k, at])
        assert unit.text == f"stage{best} says {neuron_id}"
        assert unit.score is not None
        assert unit.score.value == world.valid[best, at]
        values = [score.value for _, score in results.candidates(ran.method, neuron_id)]
        assert values == sorted((world.calibration[k, at] for k in done), reverse=True)
        assert unit.cost is not None
        assert unit.cost.cost_usd == pytest.approx(sum(world.costs_usd[k] for k in done))
    pilots = [i for part in ran.cascade.parts for i in part.pilots]
    assert all(pilots_done in ran.stages[2].explained for pilots_done in pilots)
    assert results.current_method() == ran.method


def test_what_does_not_win_on_calibration_is_not_simulated_on_the_reported_windows(
    results: Results,
) -> None:
    world = noisy_world(40)
    ran = run(world, results)
    for at, stage in enumerate(ran.stages):
        for neuron_id in stage.explained:
            before = max(
                (world.calibration[k, neuron_id.neuron_index]
                 for k in range(at) if neuron_id in ran.stages[k].explained),
                default=-np.inf,
            )  # fmt: skip
            has_won = world.calibration[at, neuron_id.neuron_index] > before
            assert (neuron_id in stage.scored) == has_won
            score = results.unit(f"f{at}", neuron_id).score
            assert score is not None
            assert (score.reason == NOT_CHOSEN) == (not has_won)


def test_without_money_there_is_the_first_stage_for_all(results: Results) -> None:
    world = noisy_world(30)
    ran = run(world, results, PLAN, FakeLedger(0.0))
    assert ran.report.ended == SPENT
    units = found(results, ran)
    assert sorted(units) == sorted(world.ids)
    for neuron_id, unit in units.items():
        assert unit.text == f"stage0 says {neuron_id}"
        assert unit.cost is None
    assert [stage.n_done for stage in ran.report.stages] == [30, 0, 0]
    assert ran.report.mean_first == ran.report.mean_last == pytest.approx(world.valid[0].mean())


def test_no_budget_is_ever_exceeded_and_more_money_goes_on(results: Results) -> None:
    world, ledger, means = noisy_world(80), FakeLedger(), []
    for limit in (0.05, 0.5, 2.3, 4.0, 100.0):
        ledger.limit_picousd = round(limit * PICOUSD)
        ran = run(world, results, CascadePlan(20, 0.0), ledger)
        assert ledger.spent() <= ledger.limit_picousd
        assert (ran.report.ended == SPENT) == (limit < 100)
        costs = [stage.cost.cost_picousd or 0 for stage in ran.report.stages]
        assert sum(costs) == ledger.spent()
        assert ran.report.mean_last is not None
        means.append(ran.report.mean_last)
    assert means[-1] == max(means) > means[0]


def test_a_stage_that_never_helps_gets_only_its_pilots(results: Results) -> None:
    world = noisy_world(100)
    world.calibration[1] = world.valid[1] = -0.5
    ran = run(world, results, PLAN)
    useless, useful = ran.report.stages[1:]
    assert (useless.n_done, useless.n_won, useless.n_drawn) == (20, 0, 20)
    assert useless.pilot_gain is not None
    assert useless.pilot_gain.mean == 0
    assert useful.n_done > 20
    assert useless.n_passed_over == useful.n_done - 20
    assert useless.n_not_worth == 100 - useful.n_done
    assert useless.usd_a_point is None


def test_money_goes_where_most_is_gained(results: Results) -> None:
    n = 200
    world = two_stages(n, np.linspace(0.4, 0, n)[None])
    ran = run(world, results, CascadePlan(40, 0.0), FakeLedger(0.01 * (40 + 50)))
    pilots = {i for part in ran.cascade.parts for i in part.pilots}
    others = [i.neuron_index for i in world.ids if i not in pilots]
    went_on = {i.neuron_index for i in ran.stages[1].explained if i not in pilots}
    assert len(went_on) == 50
    assert went_on == set(others[:50])  # those that gain most come first, and are the lowest
    gains = [g for g in np.linspace(0.4, 0, n)[sorted(went_on)]]
    assert min(gains) > np.median(np.linspace(0.4, 0, n))


@pytest.mark.parametrize(("costs", "first"), [((0.0, 0.01, 0.2), 1), ((0.0, 0.01, 0.011), 2)])
def test_the_stage_that_gains_most_a_dollar_is_first(
    results: Results, costs: tuple[float, ...], first: int
) -> None:
    n = 100
    gain = np.stack([np.full(n, 0.1), np.full(n, 0.3)])
    world = two_stages(n, gain, costs)
    n_pilots, n_more = 20, 10
    budget = sum(costs) * n_pilots + costs[first] * n_more
    ran = run(world, results, CascadePlan(n_pilots, 0.01), FakeLedger(budget))
    n_done = [len(stage.explained) for stage in ran.stages]
    n_done[first] -= n_more
    assert n_done == [n, n_pilots, n_pilots]
    pilot_gain = ran.report.stages[2].pilot_gain
    assert pilot_gain is not None
    assert pilot_gain.mean == pytest.approx(0.2)


def test_units_that_would_gain_too_little_do_not_go_on(results: Results) -> None:
    n = 200
    world = two_stages(n, np.linspace(0.2, 0, n)[None])
    ran = run(world, results, CascadePlan(40, 0.1))
    pilots = {i for part in ran.cascade.parts for i in part.pilots}
    went_on = [i.neuron_index for i in ran.stages[1].explained if i not in pilots]
    assert all(index < 0.6 * n for index in went_on)
    assert len([i for i in range(int(0.4 * n)) if NeuronId(i % 2, i) not in pilots]) <= len(went_on)
    assert ran.report.ended == ALL_DONE
    (stage,) = ran.report.stages[1:]
    assert stage.n_done + stage.n_not_worth == n


def test_noise_that_a_choice_profits_from_is_no_gain(results: Results) -> None:
    """Three stages say the same of a unit; only the noise differs."""
    rng = np.random.default_rng(0)
    n, noise = 300, 0.15
    true = rng.beta(2, 2, n)
    world = World(
        true + rng.normal(0, noise, (3, n)), true + rng.normal(0, noise, (3, n)), (0.0, 0.01, 0.01)
    )
    ran = run(world, results, CascadePlan(n, 10))
    flattered = [
        p.after.calibration - p.before.calibration
        for of_unit in ran.cascade.passages.values()
        for p in of_unit[1:]
        if p.after.calibration is not None and p.before.calibration is not None
    ]
    assert np.mean(flattered) > 0.04
    for stage in ran.report.stages[1:]:
        gain = stage.pilot_gain
        assert gain is not None and gain.low is not None and gain.high is not None
        assert gain.low < 0 < gain.high
        assert abs(gain.mean) < 0.03
    assert ran.report.mean_last == pytest.approx(true.mean(), abs=0.03)


@pytest.mark.parametrize("n_heard", [1, 30, 45, 62, 90])
def test_a_cascade_that_is_killed_goes_on_to_the_end_of_an_undisturbed_one(
    results: Results, tmp_path: Path, n_heard: int
) -> None:
    world, plan = noisy_world(40, seed=5), CascadePlan(10, 0.0)
    with Results(tmp_path / "undisturbed.sqlite") as undisturbed:
        expected = everything(undisturbed, run(world, undisturbed, plan))
    ledger = FakeLedger()
    with pytest.raises(KeyboardInterrupt):
        run(world, results, plan, ledger, FakeListener(fail_at=(UnitExplained, n_heard)))
    assert everything(results, run(world, results, plan, ledger)) == expected


def test_a_row_that_a_kill_left_behind_is_written_anew(results: Results) -> None:
    world = noisy_world(30)
    ledger = FakeLedger()
    ran = run(world, results, ledger=ledger)
    expected = everything(results, ran)
    lost = ran.stages[2].scored[0]
    with sqlite3.connect(results.path) as file:
        file.execute(
            "DELETE FROM explanations WHERE fingerprint = ? AND neuron_index = ?",
            (ran.method, lost.neuron_index),
        )
    again = run(world, results, ledger=ledger)
    assert everything(results, again) == expected
    assert [stage.explained for stage in again.stages] == [[], [], []]


def test_replaced_rows_leave_nothing_behind(results: Results) -> None:
    run(noisy_world(30), results)
    with sqlite3.connect(results.path) as file:
        for table in ("scores", "scored_windows", "candidates", "costs"):
            query = (
                f"SELECT count(*) FROM {table} "
                "WHERE explanation_id NOT IN (SELECT id FROM explanations)"
            )
            assert file.execute(query).fetchone() == (0,)


def test_two_cascades_of_the_same_choices_are_the_same(tmp_path: Path) -> None:
    seen = []
    for name in ("a", "b"):
        with Results(tmp_path / f"{name}.sqlite") as results:
            seen.append(everything(results, run(noisy_world(60), results, PLAN, FakeLedger(2.5))))
    assert seen[0] == seen[1]


def test_a_longer_cascade_takes_up_what_a_shorter_one_did(results: Results) -> None:
    world = noisy_world(30)
    short = World(world.calibration[:2], world.valid[:2], world.costs_usd[:2])
    ledger = FakeLedger()
    run(short, results, ledger=ledger)
    ran = run(world, results, ledger=ledger)
    assert ran.stages[0].explained == ran.stages[1].explained == []
    assert len(ran.stages[2].explained) == 30


def test_the_dead_do_not_go_on_and_are_counted(results: Results) -> None:
    world = noisy_world(40)
    dead = world.ids[5]
    world.errors[0, dead] = CannotExplain(DEAD_UNIT)
    ran = run(world, results)
    unit = found(results, ran)[dead]
    assert (unit.text, unit.reason) == (None, DEAD_UNIT)
    for stage in ran.stages[1:]:
        assert dead not in stage.explained
    assert [stage.n_unknown for stage in ran.report.stages] == [0, 1, 1]
    assert ran.report.stages[0].unexplained == {"dead unit": 1}
    assert (ran.report.n_neurons, ran.report.n_scored) == (40, 39)


def test_units_that_the_table_says_nothing_of_go_on_where_their_pilots_get_scores(
    results: Results,
) -> None:
    """The one kind gets good scores, and is no gain; the other none, and is left alone."""
    world = two_stages(100, np.zeros((1, 100)))
    silent = world.ids[::2]
    for neuron_id in silent:
        world.errors[0, neuron_id] = CannotExplain("no token has a positive mean activation")
    ran = run(world, results, CascadePlan(20, 0.01))
    (stage,) = ran.report.stages[1:]
    assert set(silent) <= set(ran.stages[1].explained)
    assert len(ran.stages[1].explained) == 50 + 10
    assert (stage.n_new, stage.n_done, stage.mean_before) == (50, 60, stage.mean_after)
    assert stage.mean_new == pytest.approx(world.valid[1, ::2].mean())
    assert stage.pilot_gain is not None
    assert (stage.pilot_gain.n_pilots, stage.pilot_gain.mean) == (10, 0)
    assert (ran.report.n_scored, ran.report.n_both) == (100, 50)
    assert found(results, ran)[silent[0]].text == f"stage1 says {silent[0]}"


def test_a_silent_unit_goes_where_the_stage_itself_scores_and_not_where_another_did(
    results: Results,
) -> None:
    """The first model gives poor scores, the second good ones, the third adds nothing."""
    gains = np.stack([np.full(60, 0.05), np.full(60, 0.3), np.full(60, 0.3)])
    world = two_stages(60, gains, (0.0, 0.01, 0.011, 0.001))
    for neuron_id in world.ids:
        world.errors[0, neuron_id] = CannotExplain("no token has a positive mean activation")
    ran = run(world, results, CascadePlan(10, 0.01))
    assert [stage.n_done for stage in ran.report.stages] == [60, 10, 60, 10]
    assert [stage.n_passed_over for stage in ran.report.stages] == [0, 50, 0, 0]
    assert all(stage.pilot_gain is None for stage in ran.report.stages[:2])


def test_where_no_stage_can_score_what_the_table_could_not_the_pilots_alone_are_asked(
    results: Results,
) -> None:
    world = two_stages(100, np.zeros((1, 100)))
    for scores in (world.calibration, world.valid):
        scores[:, ::2] = np.nan
    ran = run(world, results, CascadePlan(20, 0.01))
    assert len(ran.stages[1].explained) == 20
    assert ran.report.stages[1].n_without == 10
    assert ran.report.n_scored == 50


def test_an_explanation_that_is_refused_is_paid_for_gains_nothing_and_is_counted(
    results: Results,
) -> None:
    world = noisy_world(40)
    for neuron_id in world.ids:
        world.errors[1, neuron_id] = CannotExplain("refused: no")
    ran = run(world, results)
    assert ran.report.stages[1].unexplained == {"refused": 10}
    assert ran.report.stages[1].n_lost == ran.report.stages[1].n_done == 10
    assert ran.report.stages[2].n_done == 40


def test_a_score_that_is_lost_on_the_valid_split_is_no_gain_and_is_counted(
    results: Results,
) -> None:
    world = two_stages(40, np.full((1, 40), 0.2))
    world.valid = world.valid.copy()
    world.valid[1, :10] = np.nan
    ran = run(world, results, CascadePlan(40, 0.01))
    (stage,) = ran.report.stages[1:]
    assert stage.n_without == 10
    assert stage.pilot_gain is not None
    assert stage.pilot_gain.n_pilots == 30
    assert stage.mean_before is not None and stage.mean_after is not None
    assert stage.mean_after - stage.mean_before == pytest.approx(0.2)


def test_a_unit_without_an_answer_stays_where_it_is_and_is_tried_again(results: Results) -> None:
    world = noisy_world(40)
    failing = world.ids[7]
    world.errors[1, failing] = ServerFailed("the server said 500: x")
    ledger = FakeLedger()
    ran = run(world, results, CascadePlan(40, -10), ledger)
    assert ran.report.failures == {"no answer": 1}
    assert found(results, ran)[failing].text == f"stage0 says {failing}"
    assert failing not in ran.stages[2].explained
    world.errors.clear()
    again = run(world, results, CascadePlan(40, -10), ledger)
    assert again.stages[1].explained == again.stages[2].explained == [failing]
    assert again.report.n_failed == 0


def test_a_wrong_key_ends_a_cascade_and_what_is_done_is_kept(results: Results) -> None:
    world = noisy_world(40)
    for neuron_id in world.ids:
        world.errors[2, neuron_id] = AuthFailed("no")
    with pytest.raises(AuthFailed):
        run(world, results)
    assert len(results.finished("f0")) == 40
    assert len(results.finished("f1")) == 10
    assert results.finished("f2") == set()


def test_a_server_that_answers_nobody_ends_a_cascade_at_once(results: Results) -> None:
    world = noisy_world(40)
    for neuron_id in world.ids:
        world.errors[1, neuron_id] = ServerFailed("gone")
    ledger = FakeLedger()
    with pytest.raises(ServerFailed):
        run(world, results, ledger=ledger)
    assert ledger.by_purpose == {}
