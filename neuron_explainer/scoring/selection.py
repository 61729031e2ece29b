"""The best of several explanations, chosen on the calibration split and reported on another.

Bills et al. 2023 score all samples and report the best on the same windows, which flatters: even
random labels gain .13 when the best of five is taken (PRISM, results/*.csv).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Protocol

from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronRecord
from neuron_explainer.records.score import Candidate, Score


class Selector(Protocol):
    """What a scorer offers when there is a choice to be made."""

    async def selection_score(self, explanation: Explanation, record: NeuronRecord) -> Score:
        """How well the explanation does on windows that no score is reported on."""


async def rank_explanations(
    explanations: Sequence[Explanation], selector: Selector, record: NeuronRecord
) -> tuple[Candidate, ...]:
    """The explanations with their selection scores, best first; those without a value last.

    Equal ones stay in their order.
    """
    scores = await asyncio.gather(
        *(selector.selection_score(explanation, record) for explanation in explanations)
    )
    candidates = [Candidate(*both) for both in zip(explanations, scores, strict=True)]
    return tuple(sorted(candidates, key=_rank))


def _rank(candidate: Candidate) -> float:
    value = candidate.score.value
    return math.inf if value is None else -value
