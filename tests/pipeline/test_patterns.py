"""Patterns of a run: found once, resumable to the same rows, read as the collection was made.

A group of units is searched in shared forward passes, whose bits depend on who shares them. So
patterns are promised to be the same where the groups are; context means always are.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import pytest
import torch

from neuron_explainer.errors import SpecMismatch, UsageError
from neuron_explainer.pipeline.events import Event, StageAdvanced, StageStarted, ignore
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.patterns import (
    LEAST_FOR_SUMS,
    MOST_TOKENS,
    check_patterns,
    find_patterns,
    lack_patterns,
    open_patterns,
    pattern_plan,
    room_for_sums,
)
from neuron_explainer.pipeline.process_memory import used_memory_bytes
from neuron_explainer.pipeline.records import open_records, run_choices
from neuron_explainer.pipeline.run import run, run_collect, run_explain
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.stores.results import BASELINE, Results
from tests.fakes import FakeListener
from tests.pipeline.cascades import FakeStore
from tests.pipeline.test_run import everything, make_spec
from tests.subject.test_chat import CHATML
from tests.tiny_models import byte_tokenizer, save_tiny_model

UNITS = [NeuronId(layer, unit) for layer in (0, 1) for unit in range(1, 32, 5)]
LISTED = ",".join(map(str, UNITS))
LATER = RunSpec(
    device="cpu", n_resamples=5, neurons=LISTED, pattern_tokens=300, n_contexts=60
)  # fmt: skip
"""`explain` over a folder that is there: the choices of its collection are not given again."""


class Row(NamedTuple):
    """One unit, as it lies on disk."""

    contexts: bytes
    patterns: bytes | None


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> RunSpec:
    base = tmp_path_factory.mktemp("inputs")
    return make_spec(base, n_resamples=5, pattern_tokens=300, n_contexts=60)


@pytest.fixture(scope="module")
def collected(spec: RunSpec, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Nothing is explained there yet; it is never written to."""
    folder = RunFolder(tmp_path_factory.mktemp("collected") / "run")
    run_collect(spec, folder, ignore)
    return folder


@pytest.fixture
def folder(collected: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(shutil.copytree(collected.path, tmp_path / "run"))


@pytest.fixture(scope="module")
def found(
    spec: RunSpec, collected: RunFolder, tmp_path_factory: pytest.TempPathFactory
) -> RunFolder:
    """UNITS have their patterns; it is never written to."""
    path = tmp_path_factory.mktemp("found") / "run"
    folder = RunFolder(shutil.copytree(collected.path, path))
    find(spec, folder, UNITS)
    return folder


def find(
    spec: RunSpec, folder: RunFolder, units: Iterable[NeuronId], listen: Any = ignore
) -> dict[NeuronId, Row]:
    """As a stage of a run, and what is there then."""
    find_patterns(spec, open_records(folder), folder, list(units), listen)
    return rows(folder)


def rows(folder: RunFolder) -> dict[NeuronId, Row]:
    """Of the one choice that the file knows."""
    (only,) = rows_by_choice(folder).values()
    return only


def rows_by_choice(folder: RunFolder) -> dict[tuple[str, str | None], dict[NeuronId, Row]]:
    """By the fingerprints of the context means and of the patterns."""
    query = (
        "SELECT c.fingerprint, p.fingerprint, layer_index, neuron_index, c.found, p.found "
        "FROM unit_contexts AS c LEFT JOIN unit_patterns AS p USING (layer_index, neuron_index)"
    )
    of_all: dict[tuple[str, str | None], dict[NeuronId, Row]] = {}
    with closing(sqlite3.connect(folder.patterns)) as connection:
        for means, patterns, layer, unit, *blobs in connection.execute(query):
            of_all.setdefault((means, patterns), {})[NeuronId(layer, unit)] = Row(*blobs)
    return of_all


def contexts(folder: RunFolder) -> dict[NeuronId, bytes]:
    return {neuron_id: row.contexts for neuron_id, row in rows(folder).items()}


def move_model(folder: RunFolder, before: str, now: Path) -> None:
    """The collection says that its model lies elsewhere."""
    choices = folder.path / "run.json"
    choices.write_text(choices.read_text().replace(before, str(now)))


def test_every_unit_has_its_patterns_and_one_is_read_without_the_rest(
    spec: RunSpec, found: RunFolder
) -> None:
    assert sorted(rows(found)) == UNITS
    records = open_records(found)
    with open_patterns(spec, records, found) as readers:
        assert readers is not None
        of_units = [readers.found(neuron_id) for neuron_id in UNITS]
    assert all(one.n_tokens <= 300 for one in of_units)
    assert sum(len(one.patterns) for one in of_units) > len(UNITS)
    assert not lack_patterns(spec, records, found, UNITS)
    assert lack_patterns(spec, records, found, [*UNITS, NeuronId(0, 0)])


def test_interrupted_at_any_event_it_goes_on_to_the_same_rows(
    spec: RunSpec, found: RunFolder, folder: RunFolder
) -> None:
    listener = FakeListener()
    find(spec, folder, UNITS, listener)
    assert rows(folder) == rows(found)
    for n_events in range(len(listener.events)):
        folder.patterns.unlink()
        with pytest.raises(KeyboardInterrupt):
            find(spec, folder, UNITS, _interrupting(n_events))
        assert find(spec, folder, UNITS) == rows(found), listener.events[n_events]


def test_a_run_interrupted_while_patterns_are_found_comes_to_the_same_results(
    spec: RunSpec, tmp_path: Path
) -> None:
    whole, broken = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "broken")
    run(spec, whole, ignore)

    def listen(event: Event) -> None:
        if isinstance(event, StageAdvanced) and event.stage == "patterns" and event.n_done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(spec, broken, listen)
    run(spec, broken, ignore)
    assert rows(broken) == rows(whole)
    assert everything(broken) == everything(whole)
    assert broken.report.read_bytes() == whole.report.read_bytes()


def test_what_is_found_needs_no_subject_again(
    spec: RunSpec, folder: RunFolder, tmp_path: Path
) -> None:
    model = shutil.copytree(spec.model, tmp_path / "model")
    move_model(folder, spec.model, model)
    run_explain(LATER, folder, ignore)
    before = rows(folder), everything(folder)
    shutil.rmtree(model)
    listener = FakeListener()
    run_explain(LATER, folder, listener)
    assert (rows(folder), everything(folder)) == before
    assert [event.stage for event in listener.heard(StageStarted)] == ["baseline", "explain"]


def test_patterns_are_not_sought_with_another_model_than_the_collection_was_made_with(
    spec: RunSpec, folder: RunFolder, tmp_path: Path
) -> None:
    move_model(folder, spec.model, save_tiny_model(tmp_path / "other", n_embd=8, seed=3))
    with pytest.raises(SpecMismatch, match="is not the model that the collection was made with"):
        run_explain(LATER, folder, ignore)
    assert not rows_by_choice(folder)


def test_units_asked_for_in_two_steps_have_the_context_means_of_all_at_once(
    spec: RunSpec, found: RunFolder, folder: RunFolder
) -> None:
    first = find(spec, folder, UNITS[::3])
    both = find(spec, folder, UNITS)
    assert contexts(folder) == contexts(found)
    assert {neuron_id: both[neuron_id] for neuron_id in first} == first  # what is there stays


def test_where_the_groups_are_the_same_so_are_the_patterns(
    spec: RunSpec, found: RunFolder, folder: RunFolder
) -> None:
    of_layer_0 = [neuron_id for neuron_id in UNITS if neuron_id.layer_index == 0]
    find(spec, folder, of_layer_0)
    assert find(spec, folder, UNITS) == rows(found)


def test_little_memory_changes_nothing(spec: RunSpec, found: RunFolder, folder: RunFolder) -> None:
    assert find(replace(spec, memory_gb=1e-6), folder, UNITS) == rows(found)


def test_room_for_sums_is_half_of_what_is_left_and_never_too_little() -> None:
    used_gb = used_memory_bytes(torch.device("cpu")) / 1e9
    assert room_for_sums(RunSpec(memory_gb=1e-6)) == LEAST_FOR_SUMS
    assert room_for_sums(RunSpec(memory_gb=1e6)) == RunSpec().token_means_gb * 1e9
    assert 0.4e9 <= room_for_sums(RunSpec(memory_gb=used_gb + 1)) <= 0.6e9


@pytest.mark.parametrize(
    ("change", "reads_again"),
    [({"pattern_tokens": 100}, False), ({"n_contexts": 7}, True), ({"seed": 5}, False)],
)
def test_other_choices_have_rows_of_their_own_and_the_old_ones_stay(
    spec: RunSpec, folder: RunFolder, change: dict[str, int], reads_again: bool
) -> None:
    before = find(spec, folder, UNITS[:4])
    (names,) = rows_by_choice(folder)
    listener = FakeListener()
    find_patterns(replace(spec, **change), open_records(folder), folder, UNITS[:4], listener)
    of_all = rows_by_choice(folder)
    assert of_all[names] == before
    assert len({patterns for _, patterns in of_all}) == 2
    assert len({means for means, _ in of_all}) == 1 + reads_again
    stages = [event.stage for event in listener.heard(StageStarted)]
    assert stages == (["contexts", "patterns"] if reads_again else ["patterns"])


def test_a_sample_of_the_neurons_has_the_whole_budget_for_each(
    spec: RunSpec, collected: RunFolder
) -> None:
    def budget(neurons: str | None, pattern_tokens: int | None = None) -> int:
        changed = replace(spec, neurons=neurons, pattern_tokens=pattern_tokens)
        return pattern_plan(changed, store, collected).budget_tokens

    store = NeuronStore(collected.store)
    of_all = 4 * store.manifest.n_tokens // len(store.units)
    assert budget(None) == budget("all") == of_all < MOST_TOKENS
    assert budget("3") == budget(LISTED) == MOST_TOKENS
    assert budget(None, 7) == budget("3", 7) == 7


def test_more_neurons_later_have_the_budget_of_the_first(spec: RunSpec, folder: RunFolder) -> None:
    store, free = NeuronStore(folder.store), replace(spec, pattern_tokens=None)
    find(spec, folder, UNITS[:1])  # a budget that was named binds no other
    find_patterns(replace(free, neurons="2"), store, folder, UNITS[:2], ignore)
    later = replace(free, neurons="3")
    assert pattern_plan(later, store, folder).budget_tokens == MOST_TOKENS
    assert not lack_patterns(later, store, folder, UNITS[:2])


def test_all_neurons_keep_to_the_budget_of_all_whatever_was_found_before(
    spec: RunSpec, collected: RunFolder, folder: RunFolder
) -> None:
    store, free = NeuronStore(folder.store), replace(spec, pattern_tokens=None)
    find_patterns(replace(free, neurons="2"), store, folder, UNITS[:2], ignore)
    for neurons in (None, "all"):
        of_all = replace(free, neurons=neurons)
        expected = pattern_plan(of_all, store, collected)  # where nothing was found before
        assert pattern_plan(of_all, store, folder) == expected
        assert expected.budget_tokens < MOST_TOKENS
        assert lack_patterns(of_all, store, folder, UNITS[:2])


def test_all_neurons_between_some_and_some_leave_one_budget(
    spec: RunSpec, folder: RunFolder
) -> None:
    store, free = NeuronStore(folder.store), replace(spec, pattern_tokens=None)
    for neurons, n in (("2", 2), ("all", 3)):
        find_patterns(replace(free, neurons=neurons), store, folder, UNITS[:n], ignore)
    of_all = pattern_plan(replace(free, neurons="all"), store, folder)
    assert pattern_plan(replace(free, neurons="3"), store, folder) == of_all


def test_some_neurons_after_all_have_the_budget_of_all(spec: RunSpec, folder: RunFolder) -> None:
    store, free = NeuronStore(folder.store), replace(spec, pattern_tokens=None)
    find_patterns(free, store, folder, UNITS[:3], ignore)
    assert not lack_patterns(replace(free, neurons="2"), store, folder, UNITS[:2])


@pytest.mark.parametrize(
    "changes",
    [
        {"skip_first": 3},
        {"max_norm_ratio": 1.2},
        {"token_means_gb": 0.000001},
        {"seed": 9},
        {"chat_template": True},
    ],
)
def test_explain_reads_as_the_collection_was_made(
    spec: RunSpec, changes: dict[str, Any], tmp_path: Path
) -> None:
    changed = replace(spec, neurons=LISTED, **changes)
    if "chat_template" in changes:
        changed = replace(changed, model=_save_chat_model(tmp_path / "model"))
    together, apart = RunFolder(tmp_path / "together"), RunFolder(tmp_path / "apart")
    run(changed, together, ignore)
    run_collect(changed, apart, ignore)
    run_explain(LATER, apart, ignore)
    assert rows(apart) == rows(together)
    assert rows_by_choice(apart).keys() == rows_by_choice(together).keys()


def test_positions_that_are_skipped_add_nothing(spec: RunSpec, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    run_collect(replace(spec, skip_first=2), folder, ignore)
    find(spec, folder, UNITS[:3])
    with open_patterns(spec, open_records(folder), folder) as readers:
        assert readers is not None
        for neuron_id in UNITS[:3]:
            means = readers.contexts(neuron_id)
            assert means.by_place[:2] == (0.0, 0.0)
            assert all(means.by_place[2:])
            for one in readers.found(neuron_id).patterns:
                assert one.seed_activations[-1] is not None


def test_a_collection_of_chosen_units_has_the_rows_of_the_whole_one(
    spec: RunSpec, found: RunFolder, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    run_collect(replace(spec, units=LISTED), folder, ignore)
    assert find(spec, folder, UNITS) == rows(found)


def test_patterns_over_another_runs_records_lie_in_the_folder_that_asks(
    collected: RunFolder, found: RunFolder, tmp_path: Path
) -> None:
    asking = RunFolder(tmp_path / "asking")
    asking.path.mkdir()
    asking.claim(run_choices(collected))
    run_explain(LATER, asking, ignore)
    assert rows(asking) == rows(found)
    assert rows_by_choice(asking).keys() == rows_by_choice(found).keys()
    assert not collected.patterns.exists()


@pytest.mark.parametrize("named", [{}, {"explainer": "openai:m", "evidence": "patterns"}])
def test_records_without_a_text_of_ones_own_are_refused_in_one_line(named: dict[str, str]) -> None:
    spec = RunSpec(**named)  # type: ignore[arg-type]
    with pytest.raises(UsageError) as refused:
        check_patterns(spec, FakeStore([]))
    assert "--evidence windows" in str(refused.value)
    assert "\n" not in str(refused.value)
    check_patterns(replace(spec, explainer="token_lookup"), FakeStore([]))


def test_patterns_predict_better_than_the_table(spec: RunSpec, tmp_path: Path) -> None:
    """Units of random weights answer to the last few tokens together."""
    folder = RunFolder(tmp_path / "run")
    run(replace(spec, pattern_tokens=None, n_contexts=512), folder, ignore)
    differences = _differences(folder)
    assert len(differences) > 40
    assert mean(differences) > 0.05, mean(differences)
    assert sum(difference > 0 for difference in differences) > 0.8 * len(differences)


def _differences(folder: RunFolder) -> list[float]:
    """Score of the current method less the table's, of the units that have both."""
    with Results(folder.results, read_only=True) as results:
        method = results.current_method()
        beside = str(results.choices(method)[BASELINE])
        mine, table = (
            {u.neuron_id: u.score.value for u in results.units(name) if u.score is not None}
            for name in (method, beside)
        )
    pairs = [(mine[i], table[i]) for i in mine.keys() & table.keys()]
    return [a - b for a, b in pairs if a is not None and b is not None]


def _interrupting(n_events: int) -> Any:
    left = n_events

    def listen(_event: Event) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt

    return listen


def _save_chat_model(folder: Path) -> str:
    save_tiny_model(folder, n_embd=8)
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    return str(folder)
