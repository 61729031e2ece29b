"""The search for patterns over the units of a store, with what the search needs to know."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neuron_explainer.explainers.pattern_probe import ProbeCost, SubjectProbe, SubjectVocabulary
from neuron_explainer.explainers.pattern_search import PatternPlan, UnitSearch
from neuron_explainer.records.explanation import TokenLookupTable
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.patterns import ContextMeans, FoundPatterns
from neuron_explainer.stores.neuron_store import NeuronStore
from neuron_explainer.stores.windows import FIT
from neuron_explainer.subject.model import Subject
from neuron_explainer.subject.source import SubjectSource

FILLER_TOKENS = 4
N_FILLERS = 2


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


@dataclass(frozen=True, slots=True)
class _Known:
    """What the fit text says of the last few tokens."""

    table: TokenLookupTable
    contexts: ContextMeans

    def mean(self, tokens: tuple[str, ...]) -> float | None:
        if len(tokens) == 1:
            return self.table.mean_by_token.get(tokens[0])
        return self.contexts.by_suffix.get(tokens)
