"""An opened method is read beside the lookup table, and named by the models that it asks."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from neuron_explainer.collector.plans import CollectPlan
from neuron_explainer.errors import SubjectError, UsageError
from neuron_explainer.explainers.token_lookup import TokenLookupExplainer
from neuron_explainer.pipeline.events import ignore
from neuron_explainer.pipeline.explain import explain
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.kept_patterns import CHOICES
from neuron_explainer.pipeline.model_checks import check_models
from neuron_explainer.pipeline.opening import choices_of_patterns, make_lookup, open_method
from neuron_explainer.pipeline.spec import PATTERNS, TOKEN_LOOKUP, RunSpec, fingerprint
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.stores.results import BASELINE, Results
from neuron_explainer.stores.spending import SpendingStore
from neuron_explainer.subject.tokens import SubjectTokenizer
from tests.fakes import ScriptedSource
from tests.tiny_models import byte_tokenizer, save_tiny_model
from tests.tiny_stores import collect_into

PLAN = CollectPlan(n_ctx=16, block_size=64, n_random=32, n_boundary_windows=60)
NO_KEY = "NO_SUCH_KEY_IS_SET"


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = RunFolder(tmp_path_factory.mktemp("collected") / "run")
    tokenizer = SubjectTokenizer(byte_tokenizer())
    collect_into(folder.store, ScriptedSource(1, 4), tokenizer, PLAN, n_documents=300)
    return folder.path


@pytest.fixture
def folder(collected: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(shutil.copytree(collected, tmp_path / "run"))


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    """A local model that explains and simulates."""
    model = save_tiny_model(tmp_path / "lm", 1, 8, n_ctx=4096)
    return RunSpec(
        explainer=f"hf:{model}", simulator="auto", explainer_prompt="summary", n_resamples=0,
        device="cpu", n_explanations=2,
    )  # fmt: skip


def opened_fingerprint(spec: RunSpec, folder: RunFolder) -> str:
    with open_method(spec, NeuronStore(folder.store), folder, "lookup") as opened:
        assert opened.method.fingerprint == fingerprint(opened.method.choices)
        return opened.method.fingerprint


def test_other_weights_or_another_dtype_under_the_same_path_are_another_method(
    folder: RunFolder, spec: RunSpec, tmp_path: Path
) -> None:
    name = opened_fingerprint(spec, folder)
    assert opened_fingerprint(spec, folder) == name
    assert (
        opened_fingerprint(replace(spec, base_url="http://a/v1", max_in_flight=3), folder) == name
    )
    in_half = opened_fingerprint(replace(spec, model_dtype="bfloat16"), folder)
    save_tiny_model(tmp_path / "lm", 1, 8, seed=1, n_ctx=4096)
    assert len({name, in_half, opened_fingerprint(spec, folder)}) == 3


def test_an_opened_method_explains_and_is_read_beside_the_one_it_names(
    folder: RunFolder, spec: RunSpec
) -> None:
    store = NeuronStore(folder.store)
    ids = list(store.neuron_ids())
    lookup = make_lookup(spec, store)
    with (
        Results(folder.results) as results,
        open_method(spec, store, folder, lookup.fingerprint) as opened,
    ):
        explain(opened.method, store, results, ids, ignore)
        units = list(results.units(opened.method.fingerprint))
        assert opened.method.choices[BASELINE] == lookup.fingerprint
        assert opened.simulator.name == f"all_at_once {spec.explainer}"
        total = opened.models.total()
    assert [unit.neuron_id for unit in units] == ids
    assert all(unit.cost is not None and unit.cost.n_requests > 20 for unit in units)
    assert total.n_requests == sum(unit.cost.n_requests for unit in units if unit.cost)
    with SpendingStore(folder.spending) as spending:
        assert spending.of_purpose().counted == total


def test_the_lookup_table_is_the_same_whatever_language_models_are_asked(
    folder: RunFolder, spec: RunSpec
) -> None:
    store = NeuronStore(folder.store)
    asked = replace(spec, explainer="token_lookup", simulator="token_lookup", cache="x")
    plain = RunSpec(n_resamples=0)
    assert make_lookup(asked, store).fingerprint == make_lookup(plain, store).fingerprint


def test_evidence_is_of_explainers_that_ask_alone(folder: RunFolder, spec: RunSpec) -> None:
    """The table stays the table, and no patterns are sought for it."""
    table = replace(spec, explainer=TOKEN_LOOKUP, simulator=spec.explainer, evidence=PATTERNS)
    with open_method(table, NeuronStore(folder.store), folder, None) as opened:
        assert isinstance(opened.method.explainer, TokenLookupExplainer)
        assert CHOICES not in opened.method.choices
    assert not folder.patterns.exists()


@pytest.mark.parametrize("explainer", ["patterns", "openai:m"])
def test_what_patterns_are_found_with_is_among_the_choices_of_a_method_that_reads_them(
    folder: RunFolder, explainer: str
) -> None:
    store = NeuronStore(folder.store)
    spec = RunSpec(explainer=explainer, evidence=PATTERNS)
    names = {
        fingerprint(choices_of_patterns(changed, store, folder))
        for changed in (
            spec,
            replace(spec, pattern_tokens=77),
            replace(spec, n_contexts=9),
            replace(spec, seed=3),
        )
    }
    assert len(names) == 4
    assert choices_of_patterns(replace(spec, device="cpu", memory_gb=1.0), store, folder) == (
        choices_of_patterns(spec, store, folder)
    )
    assert choices_of_patterns(replace(spec, explainer=TOKEN_LOOKUP), store, folder) == {}


def test_the_subject_is_loaded_when_a_prompt_shows_its_weights_and_not_before(
    folder: RunFolder, spec: RunSpec
) -> None:
    spec = replace(spec, model="./absent", explainer_prompt="logits")
    store = NeuronStore(folder.store)
    with (
        Results(folder.results) as results,
        open_method(spec, store, folder, "lookup") as opened,
        pytest.raises(SubjectError, match=r"no model folder at \./absent"),
    ):
        explain(opened.method, store, results, list(store.neuron_ids()), ignore)


def test_what_keeps_models_from_being_asked_is_found_without_asking(
    spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_models(RunSpec())
    check_models(spec)
    monkeypatch.delenv(NO_KEY, raising=False)
    server = RunSpec(explainer="openai:x", simulator="auto", api_key_env=NO_KEY)
    near = replace(server, base_url="http://localhost:1/v1")
    check_models(replace(near, budget_usd=1.0))
    with pytest.raises(UsageError, match=f"{NO_KEY} is not set"):
        check_models(server)
    with pytest.raises(UsageError, match="no price is known for x"):
        check_models(replace(server, base_url="http://a.example/v1", budget_usd=1.0))
    with pytest.raises(SubjectError, match="no model folder at"):
        check_models(replace(near, simulator_tokenizer=str(tmp_path / "absent")))
    for path in (tmp_path / "lm").glob("*token*"):
        path.unlink()
    with pytest.raises(UsageError, match="lm: the tokenizer knows no words"):
        check_models(spec)
