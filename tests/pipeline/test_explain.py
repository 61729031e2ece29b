"""Every chosen unit is explained once, or has its reason, and what is finished stays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from neuron_explainer.collector.plans import CollectPlan
from neuron_explainer.errors import AuthFailed, BadRequest, LLMError, ServerFailed
from neuron_explainer.pipeline.events import (
    StageAdvanced,
    StageFinished,
    StageStarted,
    UnitExplained,
)
from neuron_explainer.pipeline.explain import (
    MAX_CONCURRENT,
    Method,
    explain,
    explain_baseline,
)
from neuron_explainer.pipeline.opening import make_lookup
from neuron_explainer.pipeline.patience import MOST_FAILURES, MOST_FIRST_FAILURES
from neuron_explainer.pipeline.spec import RunSpec, fingerprint
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId, NeuronRecord
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.scoring.simulation import SimulationScorer
from neuron_explainer.simulators.token_lookup import TokenLookupSimulator
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.stores.results import Results
from neuron_explainer.stores.store_manifest import read_manifest
from neuron_explainer.subject.tokens import SubjectTokenizer
from tests.fakes import FakeExplainer, FakeListener, ScriptedSource
from tests.tiny_models import byte_tokenizer
from tests.tiny_stores import collect_into

SPEC = RunSpec(n_resamples=20)
PLAN = CollectPlan(n_ctx=16, block_size=64, n_random=32, n_boundary_windows=60)
F = fingerprint({"name": "f"})
REASONS = {NeuronId(0, 3): "dead unit: never active", NeuronId(1, 5): "refused"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> NeuronStore:
    folder = tmp_path_factory.mktemp("run") / "store"
    tokenizer = SubjectTokenizer(byte_tokenizer())
    return collect_into(folder, ScriptedSource(2, 12), tokenizer, PLAN, n_documents=300)


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Results]:
    with Results(tmp_path / "results.sqlite") as results:
        yield results


def make_fake(store: NeuronStore, name: str = "f") -> tuple[FakeExplainer, Method]:
    explainer = FakeExplainer(store.read_token_lookup, REASONS)
    scorer = SimulationScorer(TokenLookupSimulator(), n_resamples=20)
    return explainer, Method(explainer, scorer, {"name": name})


def found(results: Results, name: str = "f") -> dict[NeuronId, UnitResult]:
    units = list(results.units(fingerprint({"name": name})))
    assert len({unit.neuron_id for unit in units}) == len(units)
    return {unit.neuron_id: unit for unit in units}


def test_every_unit_has_an_explanation_and_scores_or_a_reason(
    store: NeuronStore, results: Results
) -> None:
    explainer, method = make_fake(store)
    ids = list(store.neuron_ids())
    explain(method, store, results, ids, FakeListener())
    assert sorted(explainer.asked) == ids
    units = found(results)
    assert list(units) == ids
    for neuron_id, unit in units.items():
        assert unit.reason == REASONS.get(neuron_id)
        if neuron_id in REASONS:
            assert (unit.text, unit.scores) == (None, {})
        else:
            assert unit.text == f"claim {neuron_id}"
            assert unit.score is not None
            assert len(results.windows(F, neuron_id)) == 10


def test_finished_units_are_not_explained_again(store: NeuronStore, results: Results) -> None:
    ids = list(store.neuron_ids())
    explain(make_fake(store)[1], store, results, ids[:10], FakeListener())
    before = found(results)
    explainer, method = make_fake(store)
    explain(method, store, results, ids, FakeListener())
    assert sorted(explainer.asked) == ids[10:]
    assert {neuron_id: found(results)[neuron_id] for neuron_id in before} == before


def test_another_method_explains_the_units_again_and_the_old_results_stay(
    store: NeuronStore, results: Results
) -> None:
    ids = list(store.neuron_ids())[:5]
    explain(make_fake(store)[1], store, results, ids, FakeListener())
    before = found(results)
    explainer, method = make_fake(store, "g")
    explain(method, store, results, ids, FakeListener())
    assert sorted(explainer.asked) == ids
    assert found(results) == before
    assert found(results, "g") == before


def test_the_method_used_last_is_the_current_one_even_when_all_was_finished(
    store: NeuronStore, results: Results
) -> None:
    ids = list(store.neuron_ids())[:2]
    for name in ("f", "g", "f"):
        _, method = make_fake(store, name)
        explain(method, store, results, ids, FakeListener())
        assert results.current_method() == method.fingerprint


@pytest.mark.parametrize("n_before", [1, 8, 23])
def test_an_interrupted_stage_goes_on_to_the_results_of_an_undisturbed_one(
    store: NeuronStore, results: Results, tmp_path: Path, n_before: int
) -> None:
    ids = list(store.neuron_ids())
    with Results(tmp_path / "undisturbed.sqlite") as undisturbed:
        explain(make_fake(store)[1], store, undisturbed, ids, FakeListener())
        expected = found(undisturbed)
    with pytest.raises(KeyboardInterrupt):
        explain(
            make_fake(store)[1],
            store,
            results,
            ids,
            FakeListener(fail_at=(UnitExplained, n_before)),
        )
    finished = results.finished(F)
    assert len(finished) == n_before
    explainer, method = make_fake(store)
    explain(method, store, results, ids, FakeListener())
    assert set(explainer.asked) == set(ids) - finished
    assert found(results) == expected


def test_a_bug_in_an_explainer_ends_the_stage_and_is_no_result(
    store: NeuronStore, results: Results
) -> None:
    class Broken(FakeExplainer):
        async def explain(self, record: NeuronRecord) -> tuple[Explanation, ...]:
            if record.neuron_id == NeuronId(1, 11):
                raise ZeroDivisionError
            return await super().explain(record)

    ids = list(store.neuron_ids())
    method = replace(make_fake(store)[1], explainer=Broken(store.read_token_lookup))
    with pytest.raises(ZeroDivisionError):
        explain(method, store, results, ids, FakeListener())
    assert ids[-1] not in results.finished(F)
    assert len(results.finished(F)) >= len(ids) - MAX_CONCURRENT


class Failing(FakeExplainer):
    """Raises an error for the units that have one."""

    errors: dict[NeuronId, LLMError] = {}  # noqa: RUF012 - set by the test

    async def explain(self, record: NeuronRecord) -> tuple[Explanation, ...]:
        if record.neuron_id in self.errors:
            raise self.errors[record.neuron_id]
        return await super().explain(record)


def failing(store: NeuronStore, errors: dict[NeuronId, LLMError]) -> Method:
    explainer = Failing(store.read_token_lookup, REASONS)
    explainer.errors = errors
    return replace(make_fake(store)[1], explainer=explainer)


def test_a_unit_without_an_answer_has_its_reason_and_is_tried_again(
    store: NeuronStore, results: Results
) -> None:
    ids = list(store.neuron_ids())
    errors: dict[NeuronId, LLMError] = {
        ids[5]: ServerFailed("the server said 500: x"),
        ids[17]: BadRequest("the server said 400: too long"),
    }
    explain(failing(store, errors), store, results, ids, FakeListener())
    units = found(results)
    assert units[ids[5]].reason == "no answer: the server said 500: x"
    assert units[ids[17]].reason == "request not taken: the server said 400: too long"
    explainer, method = make_fake(store)
    explain(method, store, results, ids, FakeListener())
    assert sorted(explainer.asked) == [ids[5], ids[17]]
    with Results(results.path.with_name("undisturbed.sqlite")) as undisturbed:
        explain(make_fake(store)[1], store, undisturbed, ids, FakeListener())
        assert found(results) == found(undisturbed)


@pytest.mark.parametrize("n_good", [0, 2])
def test_a_server_that_answers_nobody_ends_the_stage(
    store: NeuronStore, results: Results, n_good: int
) -> None:
    ids = [i for i in store.neuron_ids() if i not in REASONS]
    explain(make_fake(store)[1], store, results, ids[:n_good], FakeListener())
    errors: dict[NeuronId, LLMError] = {i: ServerFailed("gone") for i in ids[n_good:]}
    with pytest.raises(ServerFailed, match="gone"):
        explain(failing(store, errors), store, results, ids, FakeListener())
    n_failed = MOST_FAILURES if n_good else MOST_FIRST_FAILURES
    assert len(found(results)) == n_good + n_failed
    assert len(results.finished(F)) == n_good


def test_a_wrong_key_ends_the_stage_at_once_and_is_nobodys_result(
    store: NeuronStore, results: Results
) -> None:
    ids = list(store.neuron_ids())
    with pytest.raises(AuthFailed):
        explain(failing(store, {ids[0]: AuthFailed("no")}), store, results, ids, FakeListener())
    assert ids[0] not in found(results)


def test_of_several_explanations_the_best_on_calibration_windows_is_scored_and_all_are_kept(
    store: NeuronStore, results: Results
) -> None:
    class Several(FakeExplainer):
        async def explain(self, record: NeuronRecord) -> tuple[Explanation, ...]:
            (own,) = await super().explain(record)
            other = self._read_table(NeuronId(1 - record.neuron_id.layer_index, 0))
            return (replace(own, text="another unit's", rule=other), own)

    ids = [i for i in store.neuron_ids() if i not in REASONS and i.neuron_index > 0]
    method = replace(make_fake(store)[1], explainer=Several(store.read_token_lookup))
    explain(method, store, results, ids, FakeListener())
    for neuron_id, unit in found(results).items():
        assert unit.text == f"claim {neuron_id}"
        candidates = results.candidates(F, neuron_id)
        assert [text for text, _ in candidates] == [unit.text, "another unit's"]
        values = [score.value for _, score in candidates]
        assert None not in values
        assert values == sorted(values, key=lambda v: -(v or 0))


def test_a_baseline_is_explained_without_becoming_the_current_method(
    store: NeuronStore, results: Results
) -> None:
    ids = list(store.neuron_ids())
    explain(make_fake(store, "main")[1], store, results, ids[:2], FakeListener())
    listener = FakeListener()
    explain_baseline(make_fake(store)[1], store, results, ids, listener)
    assert results.current_method() == fingerprint({"name": "main"})
    assert len(found(results)) == len(ids)
    assert listener.heard(UnitExplained) == []


def test_where_nothing_else_is_there_yet_the_baseline_is_what_readers_see(
    store: NeuronStore, results: Results
) -> None:
    explain_baseline(make_fake(store)[1], store, results, [NeuronId(0, 0)], FakeListener())
    assert results.current_method() == F
    explain(make_fake(store, "main")[1], store, results, [NeuronId(0, 0)], FakeListener())
    assert results.current_method() == fingerprint({"name": "main"})


def test_the_listener_hears_each_unit_once_and_the_counts(
    store: NeuronStore, results: Results
) -> None:
    ids = list(store.neuron_ids())
    explain(make_fake(store)[1], store, results, ids[:4], FakeListener())
    listener = FakeListener()
    explain(make_fake(store)[1], store, results, ids, listener)
    assert listener.heard(StageStarted) == [StageStarted("explain", 24, "neurons")]
    assert [event.n_done for event in listener.heard(StageAdvanced)] == list(range(4, 25))
    heard = [event.result for event in listener.heard(UnitExplained)]
    assert {unit.neuron_id: unit for unit in heard} == {
        neuron_id: unit for neuron_id, unit in found(results).items() if neuron_id in ids[4:]
    }
    (finished,) = listener.heard(StageFinished)
    assert "22 neurons scored" in finished.summary
    assert "2 not scored (" in finished.summary
    assert "dead unit 1" in finished.summary


def test_a_method_is_named_by_the_collection_and_every_choice(
    store: NeuronStore, tmp_path: Path
) -> None:
    specs = [SPEC, replace(SPEC, n_per_split=4), replace(SPEC, n_resamples=21)]
    names = {make_lookup(spec, store).fingerprint for spec in specs}
    other = collect_into(
        tmp_path / "store", ScriptedSource(1, 2), SubjectTokenizer(byte_tokenizer())
    )
    other.manifest = replace(read_manifest(other.folder), fingerprint="another")
    names.add(make_lookup(SPEC, other).fingerprint)
    assert len(names) == 4
    same = [replace(SPEC, neurons="3"), replace(SPEC, device="cpu"), replace(SPEC, corpus="x")]
    assert {make_lookup(spec, store).fingerprint for spec in same} == {
        make_lookup(SPEC, store).fingerprint
    }
