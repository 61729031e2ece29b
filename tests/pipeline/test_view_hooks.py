"""What the viewer is told is what the collection has, and what a person writes is scored as the
run's own explanations are."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from neuron_explainer.errors import BudgetExceeded, ServerFailed, UnitNotFound, UsageError
from neuron_explainer.pipeline.collected import load_collected
from neuron_explainer.pipeline.events import ignore
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.records import open_records
from neuron_explainer.pipeline.run import run_collect, run_explain
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.pipeline.view_asked import N_FIRING, ask_collected, ask_published
from neuron_explainer.pipeline.view_hooks import (
    Makers,
    PublishedSubject,
    open_run_hooks,
    published_hooks,
)
from neuron_explainer.pipeline.view_live import N_NEWEST, read_live
from neuron_explainer.pipeline.view_own import OwnScorer
from neuron_explainer.pipeline.view_published import PublishedWeights
from neuron_explainer.pipeline.view_spec import spec_of_own
from neuron_explainer.records.neuron import ActivationRecord, NeuronId
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.stores.record_source import RecordSource
from neuron_explainer.stores.results import Results
from neuron_explainer.subject.output_tokens import output_tokens
from neuron_explainer.viewer.hooks import Hooks
from tests.fakes import WORDS
from tests.llm.rule_options import ServerOptions
from tests.llm.rule_server import RuleServer, rule_server
from tests.tiny_models import SEPARATOR, save_tiny_model

UNITS = [NeuronId(0, 3), NeuronId(1, 0), NeuronId(1, 17)]
UNIT = UNITS[1]
TEXT = "the river of Tuesday"
N_CTX = 32


class Run(NamedTuple):
    spec: RunSpec
    folder: RunFolder
    records: RecordSource


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two layers of 64 neurons, some of them explained by the lookup table; never written to."""
    base = tmp_path_factory.mktemp("run")
    rng = random.Random(0)
    texts = (" ".join(rng.choices(WORDS, k=rng.randint(3, 12))) for _ in range(300))
    corpus = base / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    spec = RunSpec(
        model=str(save_tiny_model(base / "model", n_embd=16)), corpus=str(corpus), device="cpu",
        n_tokens=12_000, n_ctx=N_CTX, max_overlap=1, n_boundary_windows=60, n_resamples=20,
        explainer="token_lookup", simulator="token_lookup", neurons="40",
    )  # fmt: skip
    folder = RunFolder(base / "run")
    run_collect(spec, folder, ignore)
    run_explain(spec, folder, ignore)
    return Run(spec, folder, open_records(folder))


def opened(spec: RunSpec, folder: RunFolder) -> AbstractContextManager[Hooks]:
    """As the command makes them."""
    records = open_records(folder)
    makers = Makers(
        subject=lambda: ask_collected(spec, folder, records),
        scorer=lambda own: OwnScorer(own, folder, records),
    )
    return open_run_hooks(spec, folder, makers)


@pytest.fixture(scope="module")
def hooks(run: Run) -> Iterator[Hooks]:
    with opened(run.spec, run.folder) as hooks:
        yield hooks


@pytest.fixture
def copy(run: Run, tmp_path: Path) -> Run:
    folder = RunFolder(shutil.copytree(run.folder.path, tmp_path / "run"))
    return Run(run.spec, folder, open_records(folder))


@pytest.fixture(scope="module")
def server() -> Iterator[RuleServer]:
    with rule_server(ServerOptions()) as server:
        yield server


def first_windows(run: Run, neuron_id: NeuronId) -> list[ActivationRecord]:
    """Those that begin a document: a text of a person's begins one, too."""
    record = run.records.read_neuron(neuron_id)
    windows = [window for window in record.top if window.tokens[0] == SEPARATOR]
    assert windows
    return windows


def asking(server: RuleServer, **more: object) -> RunSpec:
    """As the command line gives it to the viewer of a run without a language model."""
    spec = RunSpec(
        simulator="openai:rule-1", base_url=server.base_url, simulation="structured",
        device="cpu", requests_a_minute=1_000_000,
    )  # fmt: skip
    return replace(spec, **more)  # type: ignore[arg-type]


def test_activations_are_the_collections_for_the_same_window(run: Run, hooks: Hooks) -> None:
    assert hooks.read_unit is not None
    for neuron_id in UNITS:
        for window in first_windows(run, neuron_id):
            reading = hooks.read_unit(neuron_id, "".join(window.tokens[1:]))
            assert reading.text.tokens == window.tokens[1:]
            assert reading.text.n_left_out == 0
            # The store keeps 16 bits.
            expected = np.array(window.activations[1:], dtype=float)
            np.testing.assert_allclose(
                np.array(reading.activations, dtype=float), expected, rtol=2e-3, atol=2e-3
            )


def test_the_most_active_units_are_those_of_reading_one_after_the_other(hooks: Hooks) -> None:
    assert hooks.read_unit is not None and hooks.read_layers is not None
    found = hooks.read_layers([0, 1], TEXT, None, False)
    alone = {
        unit: hooks.read_unit(unit, TEXT).activations
        for unit in (NeuronId(layer, n) for layer in (0, 1) for n in range(64))
    }
    assert found.layers == (0, 1) and found.n_units == 128
    assert found.text.tokens == tuple(TEXT)
    for place, firing in enumerate(found.firing):
        values = {unit: activations[place] or 0.0 for unit, activations in alone.items()}
        ordered = sorted(values, key=lambda unit: -values[unit])[:N_FIRING]
        assert firing is not None
        assert [one.neuron_id for one in firing] == ordered
        for one in firing:
            assert one.activation == pytest.approx(values[one.neuron_id], abs=1e-5)


def test_by_share_units_are_ranked_by_their_own_largest_activation(run: Run, hooks: Hooks) -> None:
    assert hooks.read_unit is not None and hooks.read_layers is not None
    found = hooks.read_layers([0, 1], TEXT, None, True)
    assert found.by_share
    units = [NeuronId(layer, n) for layer in (0, 1) for n in range(64)]
    alone = {unit: hooks.read_unit(unit, TEXT).activations for unit in units}
    most = {unit: run.records.read_neuron(unit).max_activation for unit in units}
    for place, firing in enumerate(found.firing):
        shares = {
            unit: (activations[place] or 0.0) / most[unit]
            for unit, activations in alone.items()
            if most[unit] > 0
        }
        ordered = sorted(shares.values(), reverse=True)[:N_FIRING]
        assert firing is not None
        assert [one.share for one in firing] == pytest.approx(ordered, rel=1e-3)
        for one in firing:
            assert one.share == pytest.approx(shares[one.neuron_id], rel=1e-3)


@pytest.mark.parametrize("skip_first", [0, 3])
def test_a_layer_s_maxima_are_those_of_its_units(run: Run, tmp_path: Path, skip_first: int) -> None:
    spec = replace(run.spec, units="0:3,1:0,1:17,1:40", neurons=None, skip_first=skip_first)
    folder = RunFolder(tmp_path / "run")
    run_collect(spec, folder, ignore)
    store = NeuronStore(folder.store)
    for layer in (0, 1):
        units = store.units.of_layer(layer)
        expected = [store.read_neuron(NeuronId(layer, n)).max_activation for n in units]
        np.testing.assert_array_equal(store.read_maxima(layer), np.maximum(expected, 0))


def test_among_some_units_no_other_is_named(hooks: Hooks) -> None:
    assert hooks.read_layers is not None
    found = hooks.read_layers([1], TEXT, UNITS, False)
    named = {one.neuron_id for firing in found.firing for one in firing or ()}
    assert named <= {NeuronId(1, 0), NeuronId(1, 17)}
    assert found.n_units == 2
    nobody = hooks.read_layers([0, 1], TEXT, [], False)
    assert nobody.firing == ((),) * len(TEXT)


def test_all_layers_have_the_strongest_of_each(hooks: Hooks) -> None:
    assert hooks.read_layers is not None
    both = hooks.read_layers([0, 1], TEXT, None, False)
    of_each = [hooks.read_layers([layer], TEXT, None, False).firing for layer in (0, 1)]
    for firing, *single in zip(both.firing, *of_each, strict=True):
        assert firing is not None
        every = [one for firings in single for one in firings or ()]
        strongest = sorted((round(one.activation, 4) for one in every), reverse=True)[:N_FIRING]
        assert [round(one.activation, 4) for one in firing] == strongest


def test_a_text_longer_than_a_window_is_cut_and_that_is_told(hooks: Hooks) -> None:
    assert hooks.read_unit is not None
    text = TEXT * 5
    reading = hooks.read_unit(UNIT, text)
    assert len(reading.text.tokens) == N_CTX - 1
    assert reading.text.n_left_out == len(text) - (N_CTX - 1)
    assert reading.activations == hooks.read_unit(UNIT, text[: N_CTX - 1]).activations


def test_positions_that_do_not_count_have_no_value(copy: Run) -> None:
    choices = json.loads((copy.folder.path / "run.json").read_text())
    (copy.folder.path / "run.json").write_text(json.dumps(choices | {"skip_first": 3}))
    with opened(copy.spec, copy.folder) as hooks:
        assert hooks.read_unit is not None and hooks.read_layers is not None
        # The separator is the first of the three.
        assert hooks.read_unit(UNIT, TEXT).activations[:3].count(None) == 2
        firing = hooks.read_layers([0, 1], TEXT, None, False).firing
        assert [of_token is None for of_token in firing[:3]] == [True, True, False]


def test_what_was_not_collected_is_named(hooks: Hooks) -> None:
    assert hooks.read_unit is not None and hooks.read_layers is not None
    with pytest.raises(UnitNotFound, match="1:64"):
        hooks.read_unit(NeuronId(1, 64), TEXT)
    with pytest.raises(UnitNotFound, match="layer 7"):
        hooks.read_layers([0, 7], TEXT, None, False)
    with pytest.raises(UsageError, match="no token"):
        hooks.read_unit(UNIT, "")


def test_many_who_ask_at_once_get_what_each_gets_alone(hooks: Hooks) -> None:
    read = hooks.read_unit
    assert read is not None
    texts = [TEXT[i:] for i in range(16)]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda text: read(UNIT, text), texts))
    assert together == [read(UNIT, text) for text in texts]


def test_weights_are_read_of_the_same_subject(run: Run, hooks: Hooks) -> None:
    assert hooks.output_tokens is not None and hooks.related is not None
    subject = load_collected(run.spec, run.folder)
    (expected,) = output_tokens(subject, 1, [17])
    found = hooks.output_tokens(UNITS[2])
    assert [one.token for one in found.promoted] == [*expected.promoted]
    assert [one.effect for one in found.suppressed] == pytest.approx(expected.lowered_by)
    related = hooks.related(NeuronId(0, 3))
    assert related.upstream_positive == ()
    assert all(u.neuron_id.layer_index == 1 and u.weight > 0 for u in related.downstream_positive)
    assert all(u.weight < 0 and u.is_collected for u in related.downstream_negative)


def test_units_beyond_the_collection_are_marked(run: Run, tmp_path: Path) -> None:
    spec = replace(run.spec, units="0:3,1:0", neurons=None)
    folder = RunFolder(tmp_path / "run")
    run_collect(spec, folder, ignore)
    with opened(spec, folder) as hooks:
        assert hooks.related is not None and hooks.read_layers is not None
        downstream = hooks.related(NeuronId(0, 3))
        for unit in (*downstream.downstream_positive, *downstream.downstream_negative):
            assert unit.is_collected == (unit.neuron_id == NeuronId(1, 0))
        assert hooks.read_layers([0, 1], TEXT, None, False).n_units == 2


def test_a_rule_cannot_predict_from_words_and_that_is_the_reason(hooks: Hooks) -> None:
    assert hooks.cost_of_own is None and hooks.score_own is None
    assert "--simulator" in hooks.reasons["score_own"]


def test_the_runs_choices_are_kept_unless_a_simulator_is_named(
    run: Run, copy: Run, server: RuleServer
) -> None:
    explained = asking(server, n_per_split=4, neurons="0:3", explainer="openai:rule-1")
    run_explain(replace(explained, simulator="auto"), copy.folder, ignore)
    viewing = RunSpec(base_url=server.base_url)
    own = spec_of_own(viewing, copy.folder)
    assert (own.simulator, own.simulation, own.n_per_split) == ("openai:rule-1", "structured", 4)
    other = spec_of_own(replace(viewing, simulator="openai:other"), copy.folder)
    assert (other.simulator, other.simulation, other.n_per_split) == ("openai:other", "auto", 4)
    with pytest.raises(UsageError, match="no language model simulates"):
        spec_of_own(viewing, run.folder)


def test_ones_own_is_scored_as_the_run_scores_it_and_the_results_stay(
    copy: Run, server: RuleServer
) -> None:
    spec = asking(server, explainer="openai:rule-1", simulator="auto", neurons="0:3,1:0,1:17")
    run_explain(spec, copy.folder, ignore)
    with Results(copy.folder.results, read_only=True) as results:
        method = results.current_method()
        unit = next(u for u in results.units(method) if u.score and u.score.value is not None)
    before = copy.folder.results.read_bytes()
    with opened(RunSpec(base_url=server.base_url), copy.folder) as hooks:
        assert hooks.score_own is not None and unit.text is not None
        again = hooks.score_own(unit.neuron_id, unit.text)
        other = hooks.score_own(unit.neuron_id, "something else altogether")
    assert again.scored.scores == unit.scores
    assert again.cost.n_requests == 0  # every answer is known
    assert other.cost.n_requests > 0
    assert copy.folder.results.read_bytes() == before


def test_the_cost_is_told_before_and_covers_what_is_charged(
    copy: Run, server: RuleServer, tmp_path: Path
) -> None:
    prices = write_prices(tmp_path)
    with opened(asking(server, prices=prices, budget_usd=10.0), copy.folder) as hooks:
        assert hooks.cost_of_own is not None and hooks.score_own is not None
        n_before = sum(server.log.n_arrived.values())
        cost = hooks.cost_of_own(UNIT, "rivers")
        assert sum(server.log.n_arrived.values()) == n_before
        assert cost.left_usd == 10.0 and cost.fits
        assert cost.simulator == f"openai:rule-1 at {server.base_url}"
        scored = hooks.score_own(UNIT, "rivers")
        assert scored.cost.cost_usd is not None and cost.cost_usd is not None
        assert 0 < scored.cost.cost_usd <= cost.cost_usd
        left = hooks.cost_of_own(UNIT, "rivers").left_usd
        assert left is not None and left < 10.0 - scored.cost.cost_usd + 1e-9


def test_nobody_is_asked_beyond_the_budget(copy: Run, server: RuleServer, tmp_path: Path) -> None:
    spec = asking(server, prices=write_prices(tmp_path), budget_usd=0.0)
    with opened(spec, copy.folder) as hooks:
        assert hooks.cost_of_own is not None and hooks.score_own is not None
        n_before = sum(server.log.n_arrived.values())
        assert not hooks.cost_of_own(UNIT, "rivers").fits
        with pytest.raises(BudgetExceeded):
            hooks.score_own(UNIT, "rivers")
        assert sum(server.log.n_arrived.values()) == n_before


def test_a_server_that_is_gone_is_an_error_and_the_next_try_works(
    copy: Run, server: RuleServer
) -> None:
    with rule_server(ServerOptions()) as other:
        spec = asking(other)
        hooks_of_other = opened(spec, copy.folder)
    with hooks_of_other as hooks:
        assert hooks.score_own is not None
        with pytest.raises(ServerFailed):
            hooks.score_own(UNIT, "rivers")
    with opened(asking(server), copy.folder) as hooks:
        assert hooks.score_own is not None
        assert hooks.score_own(UNIT, "rivers").scored.scores


def test_a_local_simulator_stays_in_memory(copy: Run, tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "simulator", n_embd=8, n_ctx=2048)
    spec = RunSpec(simulator=f"hf:{model}", device="cpu", simulation="distilled")
    with opened(spec, copy.folder) as hooks:
        assert hooks.score_own is not None and hooks.cost_of_own is not None
        assert hooks.cost_of_own(UNIT, "rivers").cost_usd == 0
        first = hooks.score_own(UNIT, "rivers")
        for weights in model.glob("*.safetensors"):
            weights.unlink()
        second = hooks.score_own(UNIT, "days of the week")
    assert first.scored.score.value is not None
    assert second.scored.scores != first.scored.scores


def test_published_records_have_no_run_to_score_or_to_follow(run: Run) -> None:
    subject = PublishedSubject(run.spec.model, "quick_gelu")
    hooks = published_hooks(
        lambda: ask_published(run.spec, subject, run.records),
        PublishedWeights(Path("none.sqlite"), "gpt2-xl"),
    )
    assert hooks.status is None and hooks.score_own is None
    assert hooks.read_unit is not None
    plain = hooks.read_unit(UNIT, TEXT).activations
    with opened(run.spec, run.folder) as own:
        assert own.read_unit is not None
        assert own.read_unit(UNIT, TEXT).activations != plain  # another activation function


def test_live_tells_what_the_results_say(run: Run) -> None:
    live = read_live(run.folder)
    with Results(run.folder.results, read_only=True) as results:
        units = list(results.units(results.current_method()))
    scored = [u.score.value for u in units if u.score and u.score.value is not None]
    assert not live.is_running and live.left is None
    assert live.n_scored == len(scored)
    assert live.n_scored + sum(live.unscored.values()) == len(units) == 40
    assert live.mean_score == pytest.approx(np.mean(scored))
    assert len(live.newest) == N_NEWEST
    assert all(unit in units for unit in live.newest)


def write_prices(folder: Path) -> str:
    path = folder / "prices.json"
    path.write_text(json.dumps({"models": {"rule-1": {"input": "1", "output": "2"}}}))
    return str(path)
