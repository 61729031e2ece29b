"""What a dry run says is what will be asked, and it takes neither a server nor weights."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from neuron_explainer.collector.plans import CollectPlan
from neuron_explainer.errors import UsageError
from neuron_explainer.llm.capabilities import ALL_AT_ONCE, ONE_AT_A_TIME, STREAMING, STRUCTURED
from neuron_explainer.llm.local_model import Speed
from neuron_explainer.llm.messages import Completion, CompletionRequest, Usage
from neuron_explainer.llm.prices import Price
from neuron_explainer.pipeline.counting import CountingModels
from neuron_explainer.pipeline.estimate import (
    Estimate,
    Tallies,
    Tally,
    any_completion,
    estimate,
    some_of,
    typical_record,
)
from neuron_explainer.pipeline.events import ignore
from neuron_explainer.pipeline.explain import Method, explain
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.methods import TextModel, make_explainer, make_scorer, make_simulator
from neuron_explainer.pipeline.model_names import ModelName
from neuron_explainer.pipeline.opening import estimate_method
from neuron_explainer.pipeline.run import estimate_run
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.prompts.explain_kinds import PROMPTS
from neuron_explainer.records.cost import PICOUSD
from neuron_explainer.records.neuron import NeuronId, NeuronRecord
from neuron_explainer.scoring.simulation import SimulationScorer
from neuron_explainer.simulators.token_lookup import TokenLookupSimulator
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.stores.results import Results
from neuron_explainer.subject.model import load_subject
from neuron_explainer.subject.tokens import SubjectTokenizer
from tests.fakes import FakeClient, FakeExplainer, ScriptedSource
from tests.tiny_models import byte_tokenizer, save_tiny_model
from tests.tiny_stores import collect_into

SPEC = RunSpec(explainer="openai:gpt-4o-mini", simulator="auto", n_resamples=0, n_ctx=16)
PLAN = CollectPlan(n_ctx=16, block_size=64, n_random=32, n_boundary_windows=60)
N_UNITS = 8
PRICE = Price(Decimal(1), Decimal("0.5"), Decimal(4))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> NeuronStore:
    folder = tmp_path_factory.mktemp("run") / "store"
    tokenizer = SubjectTokenizer(byte_tokenizer())
    store = collect_into(folder, ScriptedSource(1, N_UNITS), tokenizer, PLAN, n_documents=300)
    assert store is not None
    return store


class AskedModels(CountingModels):
    """One client for everything, which remembers what it is asked."""

    def __init__(self, spec: RunSpec) -> None:
        super().__init__(spec)
        self.client: FakeClient[CompletionRequest, Completion] = FakeClient(any_completion)

    def text_model(self, name: ModelName, *, for_numbers: bool = False) -> TextModel:
        counting = super().text_model(name, for_numbers=for_numbers)
        return replace(counting, client=self.client)


def asked_for(
    spec: RunSpec, store: NeuronStore, path: Path, simulation: str
) -> Sequence[CompletionRequest]:
    """What explaining all units asks."""
    models = AskedModels(spec)
    simulator = make_simulator(spec, models, simulation, store.manifest.n_ctx)
    explainer = make_explainer(spec, models, store.read_token_lookup)
    method = Method(explainer, make_scorer(spec, simulator), {"spec": repr(spec)})
    with Results(path) as results:
        explain(method, store, results, list(store.neuron_ids()), ignore)
    return models.client.requests


@pytest.mark.parametrize("simulation", [STREAMING, STRUCTURED, ONE_AT_A_TIME])
@pytest.mark.parametrize("n_explanations", [1, 3])
def test_what_is_counted_is_what_is_asked(
    store: NeuronStore, tmp_path: Path, simulation: str, n_explanations: int
) -> None:
    spec = replace(SPEC, n_explanations=n_explanations, simulation=simulation)
    requests = asked_for(spec, store, tmp_path / "results.sqlite", simulation)
    found = estimate_method(spec, store, list(store.neuron_ids()))
    (tally,) = found.by_model.values()
    sizes = [request.size() for request in requests]
    assert tally.n_requests == len(requests) > N_UNITS
    assert tally.n_prompt_tokens == sum(size.n_prompt_tokens for size in sizes)
    assert tally.n_answer_tokens == sum(size.n_answer_tokens for size in sizes)


def test_some_units_stand_for_all(store: NeuronStore) -> None:
    ids = list(store.neuron_ids())
    few, many = (estimate_method(SPEC, store, [i for i in ids for _ in range(n)]) for n in (1, 50))
    (one,), (all_of_them,) = few.by_model.values(), many.by_model.values()
    assert many.n_units == 50 * few.n_units
    assert all_of_them.n_requests == 50 * one.n_requests
    assert all_of_them.n_prompt_tokens == 50 * one.n_prompt_tokens
    assert some_of(range(1000)) == list(range(0, 1000, 125))
    assert some_of(range(3)) == [0, 1, 2]
    assert some_of([]) == []


def test_no_unit_takes_nothing(store: NeuronStore) -> None:
    found = estimate_method(SPEC, store, [])
    assert (found.n_units, found.cost_picousd) == (0, 0)
    assert all(tally == Tally() for tally in found.by_model.values())


# Dollars and seconds


def of_one_unit(price: Price | None, speeds: dict[str, Speed], tally: Tally) -> Estimate:
    """Of a method that asks nobody, beside a tally."""
    explainer = FakeExplainer(lambda _: pytest.fail("no table is needed"), {NeuronId(0, 0): "x"})
    method = Method(explainer, SimulationScorer(TokenLookupSimulator()), {})
    tallies = Tallies({"m": tally})
    records: list[NeuronRecord] = [typical_record(16, 5)]
    return asyncio.run(estimate(method, tallies, records, 10, lambda _: price, speeds))


def test_the_cost_is_exact_and_unknown_without_a_price() -> None:
    tally = Tally(2, 1000, 400, 50)
    found = of_one_unit(PRICE, {}, tally)
    assert found.cost_picousd == PRICE.picousd(Usage(10_000, 0, 500))
    assert f"at most ${10_000 * 1e-6 + 500 * 4e-6:.4f}" in found.sentence()
    unknown = of_one_unit(None, {}, tally)
    assert unknown.cost_picousd is None
    assert "price not known (add it with --prices)" in unknown.sentence()
    assert "$" not in unknown.sentence()


def test_a_local_model_takes_the_time_of_what_it_has_not_read_yet() -> None:
    tally = Tally(2, 1000, 400, 50)
    found = of_one_unit(PRICE, {"m": Speed(read=100.0, write=10.0)}, tally)
    assert found.seconds == pytest.approx((10_000 - 4_000) / 100 + 500 / 10)
    assert found.sentence().endswith("; about 2 min")
    assert of_one_unit(PRICE, {}, tally).seconds is None
    assert of_one_unit(PRICE, {"another": Speed(1.0, 1.0)}, tally).seconds is None


def test_the_list_price_of_a_known_model_is_used(store: NeuronStore) -> None:
    found = estimate_method(SPEC, store, list(store.neuron_ids()))
    assert found.cost_picousd is not None
    assert 0 < found.cost_picousd < PICOUSD
    other = replace(SPEC, explainer="openai:nobody-knows-this")
    assert estimate_method(other, store, list(store.neuron_ids())).cost_picousd is None


# Before a collection, and without weights


def test_before_a_collection_typical_text_stands_for_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    found = estimate_run(replace(SPEC, neurons="6", simulation=STRUCTURED), folder)
    (tally,) = found.by_model.values()
    # An explanation; ten windows to calibrate on and ten to score.
    assert (found.n_units, tally.n_requests) == (6, 6 * 21)
    assert estimate_run(SPEC, folder).n_units == 50
    assert estimate_run(replace(SPEC, neurons="0:3,1:7,0:3,"), folder).n_units == 2
    assert estimate_run(replace(SPEC, units="0:3,1:7", neurons="all"), folder).n_units == 2
    for neurons, says in (("-3", "write a number"), ("0:x", "write LAYER")):
        with pytest.raises(UsageError, match=says):
            estimate_run(replace(SPEC, neurons=neurons), folder)
    assert not folder.path.exists()


def test_how_many_neurons_there_are_is_read_from_the_configuration(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "m")
    whole = load_subject(str(model))
    (model / "model.safetensors").unlink()
    spec = RunSpec(model=str(model), n_tokens=1000, neurons="all")
    for layers, n_layers in ((spec.layers, whole.n_layers), ("1", 1)):
        found = estimate_run(replace(spec, layers=layers), RunFolder(tmp_path / "run"))
        assert found.n_units == n_layers * whole.d_mlp


def test_what_the_subject_reads_is_told(tmp_path: Path, store: NeuronStore) -> None:
    folder = RunFolder(tmp_path / "run")
    spec = RunSpec(n_tokens=50_000, neurons="6", pattern_tokens=300)
    before = estimate_run(spec, folder)
    assert before.passes == {"the collection": 50_000, "patterns": 6 * 300}
    assert "reads at most 50,000 tokens for the collection and 1,800 tokens" in before.sentence()
    assert "patterns" not in estimate_run(replace(spec, explainer="token_lookup"), folder).passes
    collected = RunFolder(store.folder.parent)
    assert estimate_run(spec, collected).passes == {"patterns": 6 * 300}


def test_no_weights_are_read(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "m", n_ctx=4096)
    (model / "model.safetensors").unlink()
    spec = replace(SPEC, explainer=f"hf:{model}", neurons="6")
    found = estimate_run(spec, RunFolder(tmp_path / "run"))
    (tally,) = found.by_model.values()
    assert found.cost_picousd == 0
    # The examples, which all windows share, are most of what is read.
    assert tally.n_prompt_tokens / 2 < tally.n_shared_tokens < tally.n_prompt_tokens


def test_who_counts_on_prompt_logprobs_is_not_told_that_the_server_has_none(tmp_path: Path) -> None:
    tokenizer = str(save_tiny_model(tmp_path / "m"))
    spec = replace(SPEC, simulator_tokenizer=tokenizer, simulator_context=8192, neurons="6")
    for simulation in ("auto", ALL_AT_ONCE):
        found = estimate_run(replace(spec, simulation=simulation), RunFolder(tmp_path / "run"))
        (tally,) = found.by_model.values()
        assert tally.n_shared_tokens > 0
    named = replace(spec, simulation=ALL_AT_ONCE, simulator=f"openai:{tokenizer}")
    bare = replace(named, simulator_tokenizer=None)  # the model's own, by its name
    assert len(estimate_run(bare, RunFolder(tmp_path / "run")).by_model) == 2


@pytest.mark.parametrize("prompt", PROMPTS)
def test_an_estimate_is_silent(
    store: NeuronStore, caplog: pytest.LogCaptureFixture, prompt: str
) -> None:
    caplog.set_level(logging.INFO)
    spec = replace(SPEC, explainer_prompt=prompt, n_explanations=3)
    estimate_method(spec, store, list(store.neuron_ids()))
    assert caplog.records == []
