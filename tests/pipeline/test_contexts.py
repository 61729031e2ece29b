"""The contexts stage gives each unit the same means, however many are asked for at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from torch import Tensor

from neuron_explainer.collector.contexts import N_PLACES, plan_contexts
from neuron_explainer.pipeline.contexts import MOST_CONTEXTS, ContextStage
from neuron_explainer.pipeline.events import Event, StageAdvanced, StageFinished, StageStarted
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.patterns import ContextMeans
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.stores.pattern_store import PatternStore
from neuron_explainer.stores.windows import FIT
from neuron_explainer.subject.source import Receive, SubjectSource
from neuron_explainer.subject.tokens import SubjectTokenizer
from tests.fakes import FakeListener, ScriptedSource
from tests.tiny_models import byte_tokenizer, tiny_subject
from tests.tiny_stores import collect_into

ROOM = 1e9
"""Bytes for sums."""
Means = dict[NeuronId, ContextMeans]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> NeuronStore:
    """Of a tiny model, on scripted documents."""
    folder = tmp_path_factory.mktemp("store")
    subject = tiny_subject(n_embd=8)
    store = collect_into(folder, SubjectSource(subject), subject.tokenizer, n_documents=200)
    assert store is not None
    return store


@pytest.fixture(scope="module")
def source() -> SubjectSource:
    return SubjectSource(tiny_subject(n_embd=8))


def find(
    path: Path,
    stage: ContextStage,
    *asked: Sequence[NeuronId],
    listener: FakeListener | None = None,
) -> Means:
    """What is kept of all units that are asked for, one lot after the other."""
    with PatternStore(path / "patterns.sqlite", "f", "c") as kept:
        for neuron_ids in asked:
            stage.run(neuron_ids, kept, listener or FakeListener())
        units = sorted(kept.units_with_contexts())
        return {i: kept.read_contexts(i, stage.store.vocabulary) for i in units}


def stage_of(
    store: NeuronStore, source: SubjectSource | ScriptedSource, room: float = ROOM, n_kept: int = 40
) -> ContextStage:
    return ContextStage(store, source, n_kept=n_kept, sums_gb=0.1, memory_bytes=room)


def n_followed(store: NeuronStore) -> int:
    return plan_contexts(store.windows, len(store.vocabulary), MOST_CONTEXTS).n_contexts


def followed(path: Path) -> list[tuple[bytes]]:
    """What is kept of the contexts that are followed, a row a choice."""
    with closing(sqlite3.connect(path / "patterns.sqlite")) as connection:
        return connection.execute("SELECT tokens FROM contexts").fetchall()


@pytest.fixture(scope="module")
def at_once(
    store: NeuronStore, source: SubjectSource, tmp_path_factory: pytest.TempPathFactory
) -> Means:
    path = tmp_path_factory.mktemp("at_once")
    return find(path, stage_of(store, source), list(store.neuron_ids()))


def test_every_unit_has_as_many_contexts_as_are_kept(store: NeuronStore, at_once: Means) -> None:
    assert list(at_once) == list(store.neuron_ids())
    for means in at_once.values():
        assert len(means.by_suffix) + len(means.by_previous) == 40
        assert len(means.by_place) == N_PLACES
    assert len({tuple(means.by_place) for means in at_once.values()}) == len(at_once)


@pytest.mark.parametrize(("room_for", "n_passes"), [(0, 22), (1, 22), (5, 5), (22, 1), (99, 1)])
def test_little_memory_means_more_passes_and_the_same_means(
    store: NeuronStore, source: SubjectSource, at_once: Means, room_for: int, n_passes: int,
    tmp_path: Path,
) -> None:  # fmt: skip
    some = [NeuronId(layer, unit) for layer in (0, 1) for unit in range(0, 32, 3)]
    listener = FakeListener()
    stage = stage_of(store, source, room=4 * room_for * n_followed(store))
    assert find(tmp_path, stage, some, listener=listener) == {i: at_once[i] for i in some}
    (started,) = listener.heard(StageStarted)
    assert started.total == n_passes * store.windows.count(FIT)[1]
    read = [event.n_done for event in listener.heard(StageAdvanced)]
    assert read == sorted(read)
    assert read[-1] == started.total
    assert [event.stage for event in listener.heard(StageFinished)] == ["contexts"]


def test_units_asked_for_one_lot_after_the_other_have_the_means_of_all_at_once(
    store: NeuronStore, source: SubjectSource, at_once: Means, tmp_path: Path
) -> None:
    first, *others = list(store.neuron_ids())[3:60:7]
    stage = stage_of(store, source)
    assert find(tmp_path, stage, [first], others) == {i: at_once[i] for i in (first, *others)}


def test_a_stage_that_is_interrupted_goes_on_to_the_same_means(
    store: NeuronStore, source: SubjectSource, at_once: Means, tmp_path: Path
) -> None:
    wanted = list(store.neuron_ids())[::5]
    n_a_pass = store.windows.count(FIT)[1]

    def listen(event: Event) -> None:
        if isinstance(event, StageAdvanced) and event.n_done > 2 * n_a_pass:
            raise KeyboardInterrupt

    with PatternStore(tmp_path / "patterns.sqlite", "f", "c") as kept:
        with pytest.raises(KeyboardInterrupt):
            stage_of(store, source, room=0).run(wanted, kept, listen)
        assert kept.units_with_contexts() == set(wanted[:2])
    found = find(tmp_path, stage_of(store, source), wanted[2:])
    assert found == {i: at_once[i] for i in wanted}


def test_what_is_there_of_a_unit_stays(
    store: NeuronStore, source: SubjectSource, at_once: Means, tmp_path: Path
) -> None:
    units = [NeuronId(0, 3), NeuronId(1, 4)]
    assert find(tmp_path, stage_of(store, source), units, units) == {i: at_once[i] for i in units}


def test_fewer_that_are_kept_are_among_more(
    store: NeuronStore, source: SubjectSource, at_once: Means, tmp_path: Path
) -> None:
    units = list(store.neuron_ids())[:8]
    for neuron_id, few in find(tmp_path, stage_of(store, source, n_kept=7), units).items():
        many = at_once[neuron_id]
        assert len(few.by_suffix) + len(few.by_previous) == 7
        assert few.by_suffix.items() <= many.by_suffix.items()
        assert few.by_previous.items() <= many.by_previous.items()
        assert few.by_place == many.by_place


def test_no_context_may_be_kept_at_all(
    store: NeuronStore, source: SubjectSource, tmp_path: Path
) -> None:
    (means,) = find(tmp_path, stage_of(store, source, n_kept=0), [NeuronId(0, 0)]).values()
    assert (means.by_suffix, means.by_previous) == ({}, {})
    assert len(means.by_place) == N_PLACES


def test_positions_that_do_not_count_leave_no_mark(tmp_path: Path) -> None:
    """Where `h` stands the source is made to say nonsense; the means are those without."""
    tokenizer = SubjectTokenizer(byte_tokenizer())
    bad = tokenizer.display.index("h")

    def counts(tokens: Tensor) -> Tensor:
        return tokens != bad

    plain = ScriptedSource(1, 6, counts=counts)
    store = collect_into(tmp_path / "store", plain, tokenizer, n_documents=200)
    assert store is not None
    units = list(store.neuron_ids())
    clean = find(tmp_path / "a", stage_of(store, plain), units)
    assert find(tmp_path / "b", stage_of(store, _Loud(plain, bad)), units) == clean
    for means in clean.values():
        assert not any(suffix[-1] == "h" for suffix in means.by_suffix)


def test_contexts_that_are_followed_do_not_depend_on_the_units_that_are_asked_for(
    store: NeuronStore, source: SubjectSource, tmp_path: Path
) -> None:
    find(tmp_path / "one", stage_of(store, source), [NeuronId(1, 1)])
    find(tmp_path / "all", stage_of(store, source), list(store.neuron_ids()))
    (one,), (every,) = (followed(tmp_path / name) for name in ("one", "all"))
    assert one == every
    assert n_followed(store) > 100


class _Loud(ScriptedSource):
    """Of another one, with a large number where a token stands."""

    def __init__(self, source: ScriptedSource, token: int) -> None:
        self._source = source
        self._token = token

    def read(self, tokens: Tensor, layers: Sequence[int], receive: Receive) -> None:
        def receive_loud(layer: int, activations: Tensor, counted: Tensor | None) -> None:
            receive(layer, activations + 1e6 * (tokens == self._token)[..., None], counted)

        self._source.read(tokens, layers, receive_loud)
