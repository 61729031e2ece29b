"""Finds the values 0 to 10 among the tokens that a server names as the most probable ones.

Bills et al. 2023, `simulator.py`: the values that are named are renormalised, and their mean is
the expected value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, TypeAlias

Alternatives: TypeAlias = Mapping[int | str, float]
"""Token id, or text where the server gives no ids -> natural logarithm of its probability."""


@dataclass(frozen=True, slots=True)
class NamedValues:
    """The token ids of the values, and the texts by which they are found where ids are not given.

    A text must be exactly the value's: ` 3` is another token than `3`.
    """

    single: Mapping[int, int]
    """Value of one token -> its id."""
    double: Mapping[int, tuple[int, int]]
    """Value of two tokens -> their ids; the first is also a value of its own."""
    end: int
    """What follows a value: a line break."""
    text_of_id: Mapping[int, str]

    @classmethod
    def of(cls, values: tuple[tuple[int, ...], ...], end: int) -> Self:
        """Both as in PromptLogprobRequest; ValueError for a value of any other form."""
        single = {v: ids[0] for v, ids in enumerate(values) if len(ids) == 1}
        double = {v: (ids[0], ids[1]) for v, ids in enumerate(values) if len(ids) == 2}
        text_of_id = {token_id: str(v) for v, token_id in single.items()}
        if len(single) + len(double) != len(values) or any(
            first not in text_of_id for first, _ in double.values()
        ):
            raise ValueError(f"values must be one token, or two that begin as another: {values}")
        seconds = {ids[1]: str(v)[len(text_of_id[ids[0]]) :] for v, ids in double.items()}
        return cls(single, double, end, {end: "\n"} | seconds | text_of_id)

    @property
    def firsts(self) -> frozenset[int]:
        """Ids that end a value, or begin another one."""
        return frozenset(first for first, _ in self.double.values())

    def probability(self, alternatives: Alternatives, token_id: int) -> float:
        """0 when it is not named: it is less probable than all that are."""
        logprob = alternatives.get(token_id, alternatives.get(self.text_of_id[token_id]))
        return 0.0 if logprob is None else math.exp(logprob)

    def expected_value(
        self, alternatives: Alternatives, following: Mapping[int, Alternatives]
    ) -> float | None:
        """following: first id of a value of two tokens -> what may come after it.

        p(10) = p(1)·p(0|1), which p(1) is less by; after 1 only what makes a value counts, a 0 or
        the end. None when no value is named.
        """
        p_of_id = {i: self.probability(alternatives, i) for i in self.single.values()}
        p_of_value: dict[int, float] = {}
        for value, (first, second) in self.double.items():
            if first in following:
                p = self.probability(following[first], second)
                p_of_end = self.probability(following[first], self.end)
                share = p / (p + p_of_end) if p > 0 else 0.0
                p_of_value[value] = self.probability(alternatives, first) * share
                p_of_id[first] -= p_of_value[value]
        p_of_value |= {value: p_of_id[token_id] for value, token_id in self.single.items()}
        total = sum(p_of_value.values())
        if total <= 0:
            return None
        return sum(value * p for value, p in p_of_value.items()) / total
