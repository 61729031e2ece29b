"""What asks a language model; wrapped: cached(retrying(throttled(budgeted(client)))).

In batches without the limiter: cached(retrying(budgeted(batch))). The wrappers know nothing of what
is asked; a client is made for one kind of question.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias, TypeVar

from neuron_explainer.llm.messages import (
    Answer,
    Completion,
    CompletionRequest,
    ExpectedValues,
    PromptLogprobRequest,
    Request,
)

Q = TypeVar("Q", bound=Request)
A = TypeVar("A", bound=Answer)
Q_contra = TypeVar("Q_contra", bound=Request, contravariant=True)
A_co = TypeVar("A_co", bound=Answer, covariant=True)


class Client(Protocol[Q_contra, A_co]):
    async def ask(self, request: Q_contra, /) -> A_co:
        """One answer to one question; LLMError when there is none, never an empty answer."""


LLMClient: TypeAlias = Client[CompletionRequest, Completion]
PromptLogprobClient: TypeAlias = Client[PromptLogprobRequest, ExpectedValues]


class PieceTokenizer(Protocol):
    """Makes the token ids of a prompt piece by piece, so that each piece's place is known."""

    @property
    def start(self) -> tuple[int, ...]:
        """What the model wants before everything; may be empty."""

    def encode(self, pieces: Sequence[str]) -> list[tuple[int, ...]]:
        """Ids of each piece, as it stands within a text: no special token, no space put before."""
