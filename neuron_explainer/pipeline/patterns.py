"""The patterns stage: what units respond to in context, found once and kept in the run folder.

1. contexts: the fit text is read again (`contexts.py`).
2. patterns: the subject is asked about the units' strongest activations, many units at a time.

What is there is kept: after any end the same command goes on, and comes to the same patterns. A
group of units is searched as a whole, for the bits of a forward pass depend on what shares it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch

from neuron_explainer.errors import UsageError
from neuron_explainer.explainers.pattern_probe import ProbeCost
from neuron_explainer.explainers.pattern_search import PatternPlan
from neuron_explainer.pipeline.collected import load_collected, open_collected
from neuron_explainer.pipeline.contexts import ContextStage, by_layer
from neuron_explainer.pipeline.events import (
    Listener,
    Noted,
    StageAdvanced,
    StageFinished,
    StageStarted,
)
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.kept_patterns import kept_budget, open_pattern_store
from neuron_explainer.pipeline.methods import PatternReaders
from neuron_explainer.pipeline.pattern_searcher import PatternSearcher
from neuron_explainer.pipeline.process_memory import memory_budget_bytes, used_memory_bytes
from neuron_explainer.pipeline.records import open_records, read_subject_choices
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.pipeline.workers import Workers, count_workers, keep_for_good
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.patterns import FoundPatterns
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.stores.pattern_store import PatternStore
from neuron_explainer.stores.record_source import RecordSource
from neuron_explainer.subject.model import Subject

UNITS_A_GROUP = 256
TOKENS_A_COLLECTED_ONE = 4
"""Of forward passes for patterns in all, for one token of the collection."""
MOST_TOKENS = 1200
"""A unit, when `--pattern-tokens` is not given."""
MUCH_CUT = 0.25
"""Of the units; from there on it is said how more is had."""
LEAST_FOR_SUMS = 1e8
"""Bytes; some hundred units with all their contexts."""


def check_patterns(spec: RunSpec, records: RecordSource) -> None:
    """UsageError when the spec needs patterns, and they cannot be found."""
    if spec.needs_patterns:
        require_store(records)


def require_store(records: RecordSource) -> NeuronStore:
    """UsageError for records without the text that patterns are fitted on."""
    if not isinstance(records, NeuronStore):
        raise UsageError(
            "patterns are found in a collection of one's own, and the published records are none; "
            "name a language model with --explainer, and --evidence windows"
        )
    return records


def pattern_plan(spec: RunSpec, store: NeuronStore, folder: RunFolder) -> PatternPlan:
    """Some units, when no budget is named: with the one that the folder's last patterns had, so
    that more of them later are searched alike. All of them keep to what all may take."""
    budget = None
    if spec.pattern_tokens is None and spec.neurons_wanted is not None:
        budget = kept_budget(folder, store.manifest.fingerprint)
    if budget is None:
        budget = pattern_budget(spec, store.manifest.n_tokens, len(store.units))
    return PatternPlan(budget_tokens=budget)


def pattern_budget(spec: RunSpec, n_tokens: int, n_units: int) -> int:
    """Tokens of forward passes for a unit, at most; of a collection of so many of both, or of some
    of its units alone."""
    if spec.pattern_tokens is not None:
        return spec.pattern_tokens
    if spec.neurons_wanted is not None:
        return MOST_TOKENS
    return min(MOST_TOKENS, TOKENS_A_COLLECTED_ONE * n_tokens // max(1, n_units))


def pattern_choices(spec: RunSpec, store: NeuronStore, folder: RunFolder) -> dict[str, Any]:
    """What can change the patterns of a unit."""
    return {
        "collection": store.manifest.fingerprint,
        "n_contexts": spec.n_contexts,
        "plan": asdict(pattern_plan(spec, store, folder)),
        "seed": spec.seed,
    }


@contextmanager
def open_patterns(
    spec: RunSpec, records: RecordSource, folder: RunFolder
) -> Iterator[PatternReaders | None]:
    """What was found, for a spec that needs it."""
    if not spec.needs_patterns:
        yield None
        return
    store = require_store(records)
    choices = pattern_choices(spec, store, folder)
    with open_pattern_store(folder.patterns, choices, read_only=True) as kept:
        yield _readers(kept, store)


def _readers(kept: PatternStore, store: NeuronStore) -> PatternReaders:
    return PatternReaders(
        kept.read_patterns, lambda neuron_id: kept.read_contexts(neuron_id, store.vocabulary)
    )


def lack_patterns(
    spec: RunSpec, records: RecordSource, folder: RunFolder, neuron_ids: Sequence[NeuronId]
) -> bool:
    """Whether the spec needs patterns that are not there yet."""
    if not spec.needs_patterns:
        return False
    store = require_store(records)
    if not folder.patterns.exists():
        return True
    choices = pattern_choices(spec, store, folder)
    with open_pattern_store(folder.patterns, choices, read_only=True) as kept:
        return not kept.units_with_patterns().issuperset(neuron_ids)


def find_patterns(
    spec: RunSpec,
    records: RecordSource,
    folder: RunFolder,
    neuron_ids: Sequence[NeuronId],
    listen: Listener,
    workers: Workers | None = None,
) -> None:
    """Those of the units that have none yet, for a spec that needs them.

    workers: they search where there is room for the subject in each; None: as many as are worth
    their start.
    """
    if not lack_patterns(spec, records, folder, neuron_ids):
        return
    store = require_store(records)
    plan = pattern_plan(spec, store, folder)
    with open_pattern_store(folder.patterns, pattern_choices(spec, store, folder)) as kept:
        if spec.pattern_tokens is None:
            kept.keep_budget(store.manifest.fingerprint, plan.budget_tokens)
        wanted = sorted(neuron_ids)
        done = kept.units_with_patterns()
        subject = load_collected(spec, folder)
        _find_contexts(spec, store, folder, subject, kept, wanted, listen)
        own = Workers(count_workers(len(neuron_ids), spec.memory_gb))
        with own if workers is None else nullcontext(workers) as searching:
            if _have_room(searching, subject, spec):
                search: _Search = partial(_search_spread, searching, spec, folder)
            else:
                contexts = _readers(kept, store).contexts
                searcher = PatternSearcher(store, subject, contexts, spec.seed)
                search = partial(_search_here, searcher)
            asyncio.run(_PatternStage(plan, kept, listen).run(wanted, done, search))


def _find_contexts(
    spec: RunSpec,
    store: NeuronStore,
    folder: RunFolder,
    subject: Subject,
    kept: PatternStore,
    wanted: Sequence[NeuronId],
    listen: Listener,
) -> None:
    known = kept.units_with_contexts()
    new = [neuron_id for neuron_id in wanted if neuron_id not in known]
    if not new:
        return
    choices = read_subject_choices(folder)
    stage = ContextStage(
        store,
        open_collected(subject, folder),
        n_kept=spec.n_contexts,
        sums_gb=choices.get("token_means_gb", spec.token_means_gb),
        memory_bytes=room_for_sums(spec),
    )
    stage.run(new, kept, listen)


def room_for_sums(spec: RunSpec) -> float:
    """Half of what the run may still take, and no more than token means may; enough in any case
    that the passes over the text are not one a unit."""
    budget = memory_budget_bytes(spec.memory_gb, torch.device("cpu"))
    left = budget - used_memory_bytes(torch.device("cpu"))
    return max(LEAST_FOR_SUMS, min(spec.token_means_gb * 1e9, left / 2))


class _Group(NamedTuple):
    """Units of a layer that are searched together."""

    layer: int
    members: tuple[NeuronId, ...]


class _Found(NamedTuple):
    group: _Group
    patterns: list[FoundPatterns]
    """One a member."""
    cost: ProbeCost


_Search = Callable[[Sequence[_Group], PatternPlan], AsyncIterator[_Found]]


@dataclass(slots=True)
class _PatternStage:
    """Writes what is found, and says how far it is and what it took."""

    plan: PatternPlan
    kept: PatternStore
    listen: Listener
    cost: ProbeCost = field(default_factory=ProbeCost)
    n_cut: int = 0

    async def run(self, wanted: Sequence[NeuronId], done: set[NeuronId], search: _Search) -> None:
        """Groups are made of all that are wanted, whatever of them is done."""
        left = set(wanted) - done
        n_waiting = len(left)
        self._announce(len(wanted), n_waiting)
        started = time.perf_counter()
        groups = [group for group in _groups(wanted) if not left.isdisjoint(group.members)]
        async for found in search(groups, self.plan):
            both = zip(found.group.members, found.patterns, strict=True)
            new = [(neuron_id, patterns) for neuron_id, patterns in both if neuron_id in left]
            self.kept.write_patterns(new)
            left.difference_update(found.group.members)
            self.n_cut += sum(patterns.is_cut_short for _, patterns in new)
            self.cost.add(found.cost)
            self.listen(StageAdvanced("patterns", len(wanted) - len(left)))
        self._summarise(n_waiting, time.perf_counter() - started)

    def _announce(self, n_wanted: int, n_waiting: int) -> None:
        a_unit = self.plan.budget_tokens
        most = f"{a_unit:,} tokens of forward passes a neuron, {a_unit * n_waiting:,} in all"
        self.listen(Noted("patterns", f"at most {most}"))
        self.listen(StageStarted("patterns", n_wanted, "neurons"))
        self.listen(StageAdvanced("patterns", n_wanted - n_waiting))

    def _summarise(self, n_units: int, seconds: float) -> None:
        more = ""
        if self.n_cut > MUCH_CUT * n_units:
            more = f" (--pattern-tokens {max(MOST_TOKENS, 3 * self.plan.budget_tokens)} for more)"
        self.listen(
            StageFinished(
                "patterns",
                f"{n_units:,} neurons: {self.cost.n_passes:,} forward passes, "
                f"{self.cost.n_tokens / n_units:,.0f} tokens and {seconds / n_units:.3f} s a "
                f"neuron; the budget cut {self.n_cut / n_units:.0%} short{more}",
            )
        )


def _groups(wanted: Sequence[NeuronId]) -> Iterator[_Group]:
    for layer, members in by_layer(wanted).items():
        for first in range(0, len(members), UNITS_A_GROUP):
            yield _Group(layer, tuple(members[first : first + UNITS_A_GROUP]))


async def _search_here(
    searcher: PatternSearcher, groups: Sequence[_Group], plan: PatternPlan
) -> AsyncIterator[_Found]:
    for group in groups:
        cost = ProbeCost()
        yield _Found(group, searcher.search(group.layer, group.members, plan, cost), cost)


async def _search_spread(
    workers: Workers,
    spec: RunSpec,
    folder: RunFolder,
    groups: Sequence[_Group],
    plan: PatternPlan,
) -> AsyncIterator[_Found]:
    """The deepest layers first: their groups take longest."""
    function = partial(search_group, spec, folder, plan)
    async for found in workers.map(function, sorted(groups, reverse=True)):
        yield found


def search_group(spec: RunSpec, folder: RunFolder, plan: PatternPlan, group: _Group) -> _Found:
    """In a worker, when the contexts are written."""
    cost = ProbeCost()
    searcher = _opened_searcher(spec, folder)
    return _Found(group, searcher.search(group.layer, group.members, plan, cost), cost)


@lru_cache(maxsize=1)
def _opened_searcher(spec: RunSpec, folder: RunFolder) -> PatternSearcher:
    """For as long as the worker lives."""
    store = require_store(open_records(folder))
    choices = pattern_choices(spec, store, folder)
    kept = open_pattern_store(folder.patterns, choices, read_only=True)
    contexts = _readers(kept, store).contexts
    subject = load_collected(spec, folder)
    return keep_for_good(PatternSearcher(store, subject, contexts, spec.seed))


def _have_room(workers: Workers, subject: Subject, spec: RunSpec) -> bool:
    """An accelerator is one; many processes would get into each other's way."""
    n_bytes = sum(p.numel() * p.element_size() for p in subject.model.parameters())
    return subject.device.type == "cpu" and workers.have_room(n_bytes, spec.memory_gb)
