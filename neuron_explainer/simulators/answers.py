"""What simulators that ask a language model share: questions that are refused, missing tokens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from neuron_explainer.errors import BadRequest, Refused
from neuron_explainer.llm.client import Client
from neuron_explainer.llm.messages import Answer, Completion, Request, TokenLogprobs
from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.simulation import SequenceSimulation

logger = logging.getLogger(__name__)
T = TypeVar("T")
Q = TypeVar("Q", bound=Request)
A = TypeVar("A", bound=Answer)


async def ask_or_refused(client: Client[Q, A], request: Q) -> A | Refused:
    """The answer, or why the model declined; every other LLMError is raised."""
    try:
        return await client.ask(request)
    except Refused as error:
        return error


def written_tokens(answer: Completion) -> tuple[TokenLogprobs, ...]:
    """The tokens of the answer, with their alternatives; BadRequest when the server gives none."""
    if not answer.logprobs:
        raise BadRequest(
            "the server gave no logprobs with its answer; choose --simulation structured, which "
            "needs none"
        )
    return answer.logprobs


async def gather_all(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results, in order; when one fails, the others are cancelled."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def simulation(
    name: str, tokens: Sequence[str], expected: Sequence[float | None], reason: str
) -> SequenceSimulation:
    """A window's predictions; reason: why some are missing, if any are."""
    simulated = SequenceSimulation(tuple(tokens), tuple(expected), ActivationScale.NORMALIZED)
    if simulated.n_missing:
        logger.debug("%s: %d of %d tokens are missing: %s", name, simulated.n_missing, len(tokens),
                    reason)  # fmt: skip
    return simulated


def missing(name: str, tokens: Sequence[str], reason: str) -> SequenceSimulation:
    """No token has a prediction: the answer was refused, or cannot be read at all."""
    return simulation(name, tokens, [None] * len(tokens), reason)
