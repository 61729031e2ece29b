"""How sure the rule server is: distributions over 0 to 10, and over any other token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from tests.llm.rule_tokens import LARGEST, RuleTokenizer

VALUE_SHARE = 0.97
"""Of the probability, where a value is due; the rest goes to other text."""
DECAY = 0.25
FILLERS = (" the", "\n", " unknown", ",", ".", " a", " of", " and", " to", " in", "-", " is")


class Choice(NamedTuple):
    token_id: int
    logprob: float


def value_shares(value: int) -> tuple[float, ...]:
    """p(0) … p(10): most on the value, a quarter of it on each neighbour, and so on."""
    weights = [DECAY ** abs(u - value) for u in range(LARGEST + 1)]
    return tuple(weight / sum(weights) for weight in weights)


class Logprobs:
    """Of one token each, the most probable first; k: how many are shown."""

    def __init__(self, tokenizer: RuleTokenizer) -> None:
        self._tokenizer = tokenizer
        taken = {i for text in FILLERS for i in tokenizer.encode(text)[:1]}
        n_ids = len(tokenizer.text_of)
        self._fillers = [*sorted(taken), *(i for i in range(n_ids - 64, n_ids) if i not in taken)]
        self.of_value = lru_cache(self.of_value)  # type: ignore[method-assign]
        self.of_text = lru_cache(4096)(self.of_text)  # type: ignore[method-assign]

    def of_value(self, value: int, k: int) -> tuple[Choice, ...]:
        """Where a value begins."""
        shares: dict[int, float] = {}
        for u, share in enumerate(value_shares(value)):
            first = "1" if u == LARGEST and self._tokenizer.splits_ten else str(u)
            token_id = self._tokenizer.id_of(first)
            shares[token_id] = shares.get(token_id, 0.0) + VALUE_SHARE * share
        return self._ranked(shares, k)

    def after_1(self, value: int, end: int, k: int) -> tuple[Choice, ...]:
        """After `1`, where 10 is two tokens: `0`, or what ends the value."""
        shares = value_shares(value)
        of_ten = shares[LARGEST] / (shares[LARGEST] + shares[1])
        zero = self._tokenizer.id_of("0")
        return self._ranked({zero: VALUE_SHARE * of_ten, end: VALUE_SHARE * (1 - of_ten)}, k)

    def of_text(self, token_id: int, k: int) -> tuple[Choice, ...]:
        """Where anything else stands."""
        return self._ranked({token_id: VALUE_SHARE}, k)

    def _ranked(self, shares: dict[int, float], k: int) -> tuple[Choice, ...]:
        left = 1.0 - VALUE_SHARE
        ranked = dict(shares)
        for token_id in self._fillers:
            if len(ranked) >= len(shares) + k:
                break
            if token_id not in shares:
                left /= 2
                ranked[token_id] = left
        by_share = sorted(ranked.items(), key=lambda item: (-item[1], item[0]))
        return tuple(Choice(i, round(math.log(share), 5)) for i, share in by_share[:k])


def logprob_of(token_id: int, choices: Sequence[Choice]) -> float:
    """Of the token that stands there; where it is not among those shown, little."""
    return next((c.logprob for c in choices if c.token_id == token_id), -15.0)
