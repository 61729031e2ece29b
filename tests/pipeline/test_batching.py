"""A run that asks in batches finds what a run that asks directly finds, for half the money."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from neuron_explainer.collector.plans import CollectPlan
from neuron_explainer.errors import BadRequest, UsageError
from neuron_explainer.llm.batch import BatchPace
from neuron_explainer.pipeline.batching import describe_batches, require_batch
from neuron_explainer.pipeline.events import BatchAdvanced, Noted, ignore
from neuron_explainer.pipeline.explain import explain
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.opening import estimate_method, make_lookup, open_method
from neuron_explainer.pipeline.rescore import run_rescore
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.pipeline.status import read_status
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.stores.results import Results
from neuron_explainer.subject.tokens import SubjectTokenizer
from tests.fakes import FakeListener, ScriptedSource
from tests.llm.rule_batches import BatchFaults
from tests.llm.rule_server import RuleServer, rule_server
from tests.tiny_models import byte_tokenizer
from tests.tiny_stores import collect_into

PLAN = CollectPlan(n_ctx=16, block_size=64, n_random=32, n_boundary_windows=60)
WELL = BatchFaults(n_faulty=0)
QUICK = BatchPace(linger_s=0.3, first_pause_s=0.0, longest_pause_s=0.0)
N_UNITS = 5


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = RunFolder(tmp_path_factory.mktemp("collected") / "run")
    tokenizer = SubjectTokenizer(byte_tokenizer())
    collect_into(folder.store, ScriptedSource(1, N_UNITS), tokenizer, PLAN, n_documents=300)
    return folder.path


@pytest.fixture
def folder(collected: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(shutil.copytree(collected, tmp_path / "run"))


@pytest.fixture
def server() -> Iterator[RuleServer]:
    with rule_server(batches=WELL) as server:
        yield server


@pytest.fixture
def prices(tmp_path: Path) -> str:
    path = tmp_path / "prices.json"
    path.write_text('{"models": {"rule-1": {"input": "1", "output": "4"}}}')
    return str(path)


def asking(server: RuleServer, prices: str, **more: object) -> RunSpec:
    spec = RunSpec(
        explainer="openai:rule-1", simulator="auto", simulation="structured", prices=prices,
        base_url=server.base_url, requests_a_minute=1_000_000, n_resamples=0, device="cpu",
    )  # fmt: skip
    return replace(spec, **more)  # type: ignore[arg-type]


def explain_all(
    spec: RunSpec, folder: RunFolder, listen: FakeListener | None = None
) -> list[UnitResult]:
    store = NeuronStore(folder.store)
    lookup = make_lookup(spec, store)
    with (
        Results(folder.results) as results,
        open_method(
            spec, store, folder, lookup.fingerprint, listen or ignore, pace=QUICK
        ) as opened,
    ):
        explain(opened.method, store, results, list(store.neuron_ids()), listen or ignore)
        return list(results.units(opened.method.fingerprint))


def said(listen: FakeListener) -> list[str]:
    return [e.text for e in listen.events if isinstance(e, Noted) and e.subject == "batch"]


@pytest.mark.parametrize(("simulation", "n_explanations"), [("structured", 2), ("streaming", 1)])
def test_batches_give_the_same_texts_and_scores_at_half_the_price(
    folder: RunFolder,
    server: RuleServer,
    prices: str,
    tmp_path: Path,
    simulation: str,
    n_explanations: int,
) -> None:
    other = RunFolder(shutil.copytree(folder.path, tmp_path / "other"))
    spec = asking(server, prices, simulation=simulation, n_explanations=n_explanations)
    listen = FakeListener()
    in_batches = explain_all(replace(spec, batch=True), folder, listen)
    with rule_server() as fresh:
        directly = explain_all(replace(spec, base_url=fresh.base_url), other)
    assert [replace(unit, cost=None) for unit in in_batches] == [
        replace(unit, cost=None) for unit in directly
    ]
    assert any(unit.score is not None and unit.score.value is not None for unit in directly)
    for batched, direct in zip(in_batches, directly, strict=True):
        assert batched.cost is not None
        assert direct.cost is not None
        halved = 2 * (batched.cost.cost_picousd or 0)
        assert (batched.cost.n_requests, halved) == (
            direct.cost.n_requests, direct.cost.cost_picousd,
        )  # fmt: skip
    n_rounds = 1 + n_explanations  # explanations, the choice among them if there is one, scores
    assert len(server.batches.batches) == n_rounds
    assert max(server.batches.n_sent.values()) == 1
    assert [line.split(" ")[0] for line in said(listen)[1:]] == [
        batch.id for batch in server.batches.batches
    ]


def test_what_failed_in_a_batch_is_as_though_it_had_failed_directly(
    folder: RunFolder, prices: str
) -> None:
    faults = BatchFaults(statuses=(500, 429, 400), n_left_out=1)
    with rule_server(batches=faults) as server:
        first = explain_all(asking(server, prices, batch=True), folder)
        again = explain_all(asking(server, prices, batch=True), folder)
    failed = [unit for unit in first if unit.reason is not None]
    assert [unit.reason for unit in failed] == ["request not taken: the server said 400: spoiled"]
    assert [unit.reason for unit in again] == [None] * N_UNITS


def test_a_batch_that_is_not_taken_ends_the_run_in_one_line(folder: RunFolder, prices: str) -> None:
    with (
        rule_server(batches=BatchFaults(invalid="Bad file")) as server,
        pytest.raises(BadRequest, match="batch_0 was not taken: line 1: Bad file"),
    ):
        explain_all(asking(server, prices, batch=True), folder)


def test_an_estimate_with_batches_is_half_of_one_without(
    folder: RunFolder, server: RuleServer, prices: str
) -> None:
    store = NeuronStore(folder.store)
    spec = asking(server, prices)
    direct = estimate_method(spec, store, 100)
    batched = estimate_method(replace(spec, batch=True), store, 100)
    assert 2 * (batched.cost_picousd or 0) == direct.cost_picousd != 0
    assert "openai:rule-1 (in batches): " in batched.sentence()
    assert server.log.entries == []


def test_who_has_no_batch_is_named_before_anything_is_asked() -> None:
    spec = RunSpec(explainer="openai:a", simulator="openai:b", batch=True)
    require_batch(spec, "auto")
    require_batch(spec, "all_at_once")
    assert "the explainer and the simulator in batches" in describe_batches(spec, "structured")
    assert "the explainer in batches" in describe_batches(spec, "all_at_once")
    assert "the simulator directly" in describe_batches(spec, "all_at_once")
    local = replace(spec, explainer="hf:a")
    assert "the explainer directly" in describe_batches(local, "streaming")
    for idle in (
        RunSpec(batch=True),
        replace(local, simulator="auto"),
        replace(local, simulation="all_at_once"),
    ):
        with pytest.raises(UsageError, match="leave --batch out"):
            require_batch(idle, idle.simulation)


def test_an_open_batch_is_shown_and_said_where_it_would_be_paid_for_again(
    folder: RunFolder, server: RuleServer, prices: str
) -> None:
    spec = asking(server, prices, batch=True)
    server.batches.is_held = True
    with pytest.raises(KeyboardInterrupt):
        explain_all(spec, folder, FakeListener(fail_at=(BatchAdvanced, 1)))
    (batch,) = read_status(folder).batches
    assert (batch.batch_id, batch.n_requests, batch.n_done) == ("batch_0", N_UNITS, 0)
    assert "batch at the provider: batch_0, in_progress, 0 of 5 requests done" in batch.sentence()

    listen = FakeListener()
    lookup_only = replace(spec, batch=False)
    with open_method(lookup_only, NeuronStore(folder.store), folder, "f", listen):
        assert said(listen)[0].startswith("5 requests of an earlier start are with the provider")

    server.batches.is_held = False
    explain_all(spec, folder)
    assert max(server.batches.n_sent.values()) == 1
    assert read_status(folder).batches == []


@pytest.mark.slow
def test_rescoring_in_batches_asks_for_the_simulations_alone(
    folder: RunFolder, server: RuleServer, prices: str
) -> None:
    spec = asking(server, prices)
    explain_all(spec, folder)
    rescored = run_rescore(
        replace(spec, explainer="token_lookup", simulator="openai:rule-1", simulation="streaming",
                batch=True),
        folder, ignore,
    )  # fmt: skip
    assert len(rescored.paired.movers) >= 3
    assert len(server.batches.batches) == 1
