"""The token lookup table as an explainer: what the unit does on average on each token.

Bills et al. 2023, "token lookup table" baseline: the table predicts, and its largest entries are
its words. The table is fitted on the fit documents, none of which is ever a record window.
"""

from __future__ import annotations

from collections.abc import Callable

from neuron_explainer.errors import CannotExplain
from neuron_explainer.explainers.token_names import name_token
from neuron_explainer.records.explanation import Explanation, TokenLookupTable
from neuron_explainer.records.neuron import DEAD_UNIT, NeuronId, NeuronRecord

MIN_COUNT = 5
"""A token is named only when the fit text has it at least this often, if any token is."""
MAX_NAMED = 8
MIN_SHARE_OF_BEST = 0.4
"""A token is named only when its mean is at least this share of the best token's."""


class TokenLookupExplainer:
    """`read_table` gives a unit's table, such as `NeuronStore.read_token_lookup`."""

    name = "token_lookup"

    def __init__(self, read_table: Callable[[NeuronId], TokenLookupTable]) -> None:
        self._read_table = read_table

    async def explain(self, record: NeuronRecord) -> tuple[Explanation, ...]:
        if record.is_dead:
            raise CannotExplain(DEAD_UNIT)
        table = self._read_table(record.neuron_id)
        explanation = Explanation(
            neuron_id=record.neuron_id, text=describe(table), explainer=self.name, rule=table
        )
        return (explanation,)


def describe(table: TokenLookupTable) -> str:
    """The tokens with the largest means, in words, best first.

    CannotExplain when no token has a positive one.
    """
    ranked = ranked_tokens(table)
    if not ranked:
        raise CannotExplain("no token has a positive mean activation on the fit text")
    floor = MIN_SHARE_OF_BEST * ranked[0][1]
    tokens = [token for token, mean in ranked if mean >= floor]
    words = {token.strip() for token in tokens if token.startswith(" ")}
    names = list(dict.fromkeys(name_token(token, is_word=token in words) for token in tokens))
    return "tokens such as " + ", ".join(names[:MAX_NAMED])


def ranked_tokens(table: TokenLookupTable) -> list[tuple[str, float]]:
    """(token, mean) of the tokens with a positive mean, best first; rare ones when all are rare."""
    positive = [(token, mean) for token, mean in table.mean_by_token.items() if mean > 0]
    frequent = [item for item in positive if table.count_by_token[item[0]] >= MIN_COUNT]
    return sorted(frequent or positive, key=lambda item: (-item[1], item[0]))
