"""The patterns stage: what units respond to in context, found once and kept in the run folder.

1. contexts: the fit text is read again (`contexts.py`).
2. patterns: the subject is asked about the units' strongest activations, many units at a time.

What is there is kept: after any end the same command goes on, and comes to the same patterns. A
group of units is searched as a whole, for the bits of a forward pass depend on what shares it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from neuron_explainer.errors import UsageError
from neuron_explainer.explainers.pattern_probe import ProbeCost, SubjectProbe, SubjectVocabulary
from neuron_explainer.explainers.pattern_search import PatternPlan, UnitSearch
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
from neuron_explainer.pipeline.process_memory import memory_budget_bytes, used_memory_bytes
from neuron_explainer.pipeline.records import read_subject_choices
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.records.explanation import TokenLookupTable
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.patterns import ContextMeans, FoundPatterns
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.stores.pattern_store import PatternStore
from neuron_explainer.stores.record_source import RecordSource
from neuron_explainer.stores.windows import FIT
from neuron_explainer.subject.model import Subject
from neuron_explainer.subject.source import SubjectSource

UNITS_A_GROUP = 128
TOKENS_A_COLLECTED_ONE = 4
"""Of forward passes for patterns in all, for one token of the collection."""
MOST_TOKENS = 1200
"""A unit, when `--pattern-tokens` is not given."""
MUCH_CUT = 0.25
"""Of the units; from there on it is said how more is had."""
LEAST_FOR_SUMS = 1e8
"""Bytes; some hundred units with all their contexts."""
FILLER_TOKENS = 4
N_FILLERS = 2


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
    """When no budget is named, with the one that the folder's first patterns had, so that more
    units later are searched alike."""
    budget = None
    if spec.pattern_tokens is None:
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
        yield PatternReaders(
            kept.read_patterns,
            lambda neuron_id: kept.read_contexts(neuron_id, store.vocabulary),
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
) -> None:
    """Those of the units that have none yet, for a spec that needs them."""
    if not lack_patterns(spec, records, folder, neuron_ids):
        return
    store = require_store(records)
    plan = pattern_plan(spec, store, folder)
    with open_pattern_store(folder.patterns, pattern_choices(spec, store, folder)) as kept:
        if spec.pattern_tokens is None:
            kept.keep_budget(store.manifest.fingerprint, plan.budget_tokens)
        wanted = sorted(neuron_ids)
        known, done = kept.units_with_contexts(), kept.units_with_patterns()
        subject = load_collected(spec, folder)
        new = [neuron_id for neuron_id in wanted if neuron_id not in known]
        if new:
            choices = read_subject_choices(folder)
            stage = ContextStage(
                store,
                open_collected(subject, folder),
                n_kept=spec.n_contexts,
                sums_gb=choices.get("token_means_gb", spec.token_means_gb),
                memory_bytes=room_for_sums(spec),
            )
            stage.run(new, kept, listen)

        def read_contexts(neuron_id: NeuronId) -> ContextMeans:
            return kept.read_contexts(neuron_id, store.vocabulary)

        searcher = PatternSearcher(store, subject, read_contexts, spec.seed)
        _search_all(searcher, plan, kept, wanted, done, listen)


def room_for_sums(spec: RunSpec) -> float:
    """Half of what the run may still take, and no more than token means may; enough in any case
    that the passes over the text are not one a unit."""
    budget = memory_budget_bytes(spec.memory_gb, torch.device("cpu"))
    left = budget - used_memory_bytes(torch.device("cpu"))
    return max(LEAST_FOR_SUMS, min(spec.token_means_gb * 1e9, left / 2))


@dataclass(frozen=True)
class PatternSearcher:
    """Searches units of a store whose context means are known."""

    store: NeuronStore
    subject: Subject
    read_contexts: Callable[[NeuronId], ContextMeans]
    seed: int

    def search(
        self, layer: int, group: Sequence[NeuronId], plan: PatternPlan, cost: ProbeCost
    ) -> list[FoundPatterns]:
        """One a unit of the layer; cost: what is asked is added to it."""
        probe = SubjectProbe(self.subject, SubjectSource(self.subject, [layer]), cost)
        searches = []
        for neuron_id in group:
            search = UnitSearch(
                self.store.read_neuron(neuron_id),
                plan,
                self._vocabulary,
                self._fillers,
                self._others,
                self._known(neuron_id).mean,
            )
            searches.append((neuron_id.neuron_index, search.run()))
        return probe.search(layer, searches)

    def _known(self, neuron_id: NeuronId) -> _Known:
        table = self.store.read_token_lookup(neuron_id)
        return _Known(table, self.read_contexts(neuron_id))

    @cached_property
    def _vocabulary(self) -> SubjectVocabulary:
        return SubjectVocabulary(self.subject)

    @cached_property
    def _fillers(self) -> tuple[tuple[int, ...], ...]:
        """Pieces of the fit text."""
        rng = random.Random(self.seed)
        return tuple(self._draw(FILLER_TOKENS, rng) for _ in range(N_FILLERS))

    @cached_property
    def _others(self) -> tuple[int, ...]:
        """Tokens as frequent as they are in the fit text."""
        rng = random.Random(self.seed + 1)
        return tuple(self._draw(1, rng)[0] for _ in range(N_FILLERS))

    def _draw(self, n_tokens: int, rng: random.Random) -> tuple[int, ...]:
        """From a window of its own; of a text that has none so long, its longest one."""
        windows = self.store.windows
        fit = np.concatenate(list(windows.ids(FIT)))
        long = fit[windows.lengths(fit) > n_tokens]
        tokens = windows.tokens(int(rng.choice(long.tolist() or fit.tolist())))
        start = rng.randrange(max(1, len(tokens) - n_tokens))
        return tuple(tokens[start : start + n_tokens].tolist())


def _search_all(
    searcher: PatternSearcher,
    plan: PatternPlan,
    kept: PatternStore,
    wanted: Sequence[NeuronId],
    done: set[NeuronId],
    listen: Listener,
) -> None:
    """Groups are made of all that are wanted, whatever of them is done."""
    left = set(wanted) - done
    n_waiting, cost, n_cut = len(left), ProbeCost(), 0
    most = f"{plan.budget_tokens:,} tokens of forward passes a neuron"
    listen(Noted("patterns", f"at most {most}, {plan.budget_tokens * n_waiting:,} in all"))
    listen(StageStarted("patterns", len(wanted), "neurons"))
    listen(StageAdvanced("patterns", len(wanted) - n_waiting))
    started = time.perf_counter()
    for layer, members in by_layer(wanted).items():
        for first in range(0, len(members), UNITS_A_GROUP):
            group = members[first : first + UNITS_A_GROUP]
            if left.isdisjoint(group):
                continue
            both = zip(group, searcher.search(layer, group, plan, cost), strict=True)
            found = [(neuron_id, patterns) for neuron_id, patterns in both if neuron_id in left]
            kept.write_patterns(found)
            left.difference_update(group)
            n_cut += sum(patterns.is_cut_short for _, patterns in found)
            listen(StageAdvanced("patterns", len(wanted) - len(left)))
    seconds = (time.perf_counter() - started) / n_waiting
    listen(
        StageFinished(
            "patterns",
            f"{n_waiting:,} neurons: {cost.n_passes:,} forward passes, "
            f"{cost.n_tokens / n_waiting:,.0f} tokens and {seconds:.3f} s a neuron; the budget cut "
            f"{n_cut / n_waiting:.0%} short"
            + (
                f" (--pattern-tokens {max(MOST_TOKENS, 3 * plan.budget_tokens)} for more)"
                if n_cut > MUCH_CUT * n_waiting
                else ""
            ),
        )
    )


@dataclass(frozen=True, slots=True)
class _Known:
    """What the fit text says of the last few tokens."""

    table: TokenLookupTable
    contexts: ContextMeans

    def mean(self, tokens: tuple[str, ...]) -> float | None:
        if len(tokens) == 1:
            return self.table.mean_by_token.get(tokens[0])
        return self.contexts.by_suffix.get(tokens)
