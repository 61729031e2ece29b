"""What the page tells of two methods is what the results hold of both, and of nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from neuron_explainer.records.explanation import Explanation, TokenLookupTable
from neuron_explainer.records.neuron import ActivationRecord, Moments, NeuronId, NeuronRecord
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.score import TOP_AND_RANDOM, Score, ScoredSimulation, ScoredWindow
from neuron_explainer.records.simulation import SequenceSimulation
from neuron_explainer.stores.comparison import PairedScores
from neuron_explainer.stores.makers import Makers
from neuron_explainer.stores.record_source import Facts
from neuron_explainer.stores.results import BASELINE, BASELINE_LABEL, Results
from neuron_explainer.viewer.report_data import ReportData
from neuron_explainer.viewer.report_source import read_report_data

CHOICES = {BASELINE: "b", BASELINE_LABEL: "kept", "simulation_prompt": "all_at_once/1"}


class Records:
    """A record of any neuron."""

    @dataclass(frozen=True)
    class Manifest:
        fingerprint: str = "f"
        subject: str = "gpt2"
        site: str = "mlp_post_act"
        layers: tuple[int, ...] = (0, 1)
        n_ctx: int = 2

        def size(self) -> str:
            return "two layers"

        def facts(self) -> Facts:
            return ()

    manifest = Manifest()

    def neuron_ids(self) -> Iterator[NeuronId]:
        raise NotImplementedError

    def read_neuron(self, neuron_id: NeuronId) -> NeuronRecord:
        top = (ActivationRecord(("a", "b"), (0.5, 2.0)),)
        return NeuronRecord(neuron_id, top, (), (), Moments(None, None, None, None, None))

    def read_token_lookup(self, neuron_id: NeuronId) -> TokenLookupTable:
        raise NotImplementedError


def window(tokens: tuple[str, str], expected: float) -> ScoredWindow:
    return ScoredWindow(
        "top",
        SequenceSimulation(tokens, (expected, None), ActivationScale.NORMALIZED),
        (0.5, 2.0),
        Score("m", None, 2, reason="too few tokens"),
    )


def add(
    results: Results,
    method: str,
    neuron_id: NeuronId,
    value: float | None,
    tokens: tuple[str, str] = ("a", "b"),
) -> None:
    score = Score("m", value, 2, reason="dead unit" if value is None else None)
    results.add_explained(
        method,
        Explanation(neuron_id, f"said by {method}", "summary", f"model-{method}", f"{method}/1"),
        ScoredSimulation(
            "simulation", f"simulator-{method}", {TOP_AND_RANDOM: score},
            (window(tokens, 1.0 if method == "m" else 9.0),), TOP_AND_RANDOM,
        ),
    )  # fmt: skip


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Results]:
    with Results(tmp_path / "r.sqlite") as opened:
        opened.use_method("b", {"simulation_prompt": "streaming/1"})
        opened.use_method("m", CHOICES)
        yield opened


def read(results: Results) -> ReportData:
    return read_report_data(Records(), results)


def test_the_pairs_are_those_of_the_results_and_the_movers_are_in_order(results: Results) -> None:
    for i, (mine, other) in enumerate([(0.5, 0.25), (0.1, 0.4), (0.9, 0.1), (0.3, 0.3)]):
        add(results, "m", NeuronId(i % 2, i), mine)
        add(results, "b", NeuronId(i % 2, i), other)
    add(results, "b", NeuronId(1, 9), 0.99)
    found = read(results).comparison
    assert found is not None
    assert found.paired == PairedScores.of(
        results.units("m"), results.units("b"), CHOICES[BASELINE_LABEL]
    )
    assert [mover.neuron_id.neuron_index for mover in found.gains] == [2, 0]
    assert [mover.neuron_id.neuron_index for mover in found.losses] == [1]
    largest = found.gains[0]
    assert largest.difference == pytest.approx(0.8)
    assert (largest.this.text, largest.other.text) == ("said by m", "said by b")
    assert (largest.this.score.value, largest.other.score.value) == (0.9, 0.1)
    assert largest.max_activation == 2.0
    assert read(results).baselines[0].values == (0.25, 0.1, 0.4, 0.3)


def test_both_sides_name_explainer_simulator_prompts_and_scorer(results: Results) -> None:
    add(results, "m", NeuronId(0, 0), 0.5)
    add(results, "b", NeuronId(0, 0), 0.1)
    page = read(results)
    assert page.comparison is not None
    this = Makers("summary by model-m", "m/1", "simulator-m", "all_at_once/1", "simulation (m)")
    other = Makers("summary by model-b", "b/1", "simulator-b", "streaming/1", "simulation (m)")
    assert page.makers == page.comparison.makers == (this,)
    assert page.comparison.other_makers == (other,)
    (mover,) = page.comparison.gains
    assert (mover.this.makers, mover.other.makers) == (this, other)
    assert page.best[0].makers == this


def test_a_mover_has_both_predictions_of_the_same_windows(results: Results) -> None:
    for method, value in (("m", 0.5), ("b", 0.1)):
        add(results, method, NeuronId(0, 0), value)
        add(results, method, NeuronId(0, 1), value - 0.1, ("a", method))
    found = read(results).comparison
    assert found is not None
    same, different = sorted(found.gains, key=lambda mover: mover.neuron_id)
    (pair,) = same.windows
    assert pair.this.real == pair.other.real == (0.5, 2.0)
    assert (pair.this.simulated, pair.other.simulated) == ((1.0, None), (9.0, None))
    assert different.windows == ()


def test_units_that_the_other_method_never_scored_are_counted(results: Results) -> None:
    add(results, "m", NeuronId(0, 0), 0.5)
    add(results, "m", NeuronId(0, 1), 0.5)
    add(results, "b", NeuronId(0, 0), None)
    page = read(results)
    assert page.comparison is not None
    assert page.comparison.paired.left_out == {"kept: dead unit": 1, "kept: no result": 1}
    assert page.comparison.other_makers == page.baselines == ()
    assert page.comparison.gains == page.comparison.losses == ()


def test_a_method_that_is_beside_no_other_has_no_comparison(results: Results) -> None:
    add(results, "b", NeuronId(0, 0), 0.5)
    results.use_method("b", {})
    assert read(results).comparison is None


def test_a_prompt_that_was_not_kept_is_not_named(results: Results) -> None:
    results.use_method("m", CHOICES | {BASELINE: "unused"})
    add(results, "m", NeuronId(0, 0), 0.5)
    add(results, "unused", NeuronId(0, 0), 0.1)
    found = read(results).comparison
    assert found is not None
    assert [makers.simulator_prompt for makers in found.other_makers] == [""]
