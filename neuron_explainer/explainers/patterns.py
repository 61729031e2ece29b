"""Patterns as an explainer: what a unit responds to and in which context, without a language model.

The words are of the patterns that a search found (`pattern_search.py`); the rule behind them knows
the context means of the fit text as well, and backs off to the token lookup table.
"""

from __future__ import annotations

from collections.abc import Callable

from neuron_explainer.errors import CannotExplain
from neuron_explainer.explainers.pattern_words import describe_patterns
from neuron_explainer.records.explanation import Explanation, TokenLookupTable
from neuron_explainer.records.neuron import DEAD_UNIT, NeuronId, NeuronRecord
from neuron_explainer.records.patterns import ContextMeans, FoundPatterns, PatternTrie


class PatternExplainer:
    """Reads what was found of a unit before, such as from a `PatternStore`."""

    name = "patterns"

    def __init__(
        self,
        read_table: Callable[[NeuronId], TokenLookupTable],
        read_patterns: Callable[[NeuronId], FoundPatterns],
        read_contexts: Callable[[NeuronId], ContextMeans],
    ) -> None:
        self._read_table = read_table
        self._read_patterns = read_patterns
        self._read_contexts = read_contexts

    async def explain(self, record: NeuronRecord) -> tuple[Explanation, ...]:
        if record.is_dead:
            raise CannotExplain(DEAD_UNIT)
        neuron_id = record.neuron_id
        found = self._read_patterns(neuron_id)
        text = describe_patterns(found)
        rule = PatternTrie(
            self._read_table(neuron_id), found.patterns, self._read_contexts(neuron_id)
        )
        return (Explanation(neuron_id, text, self.name, rule=rule),)
