"""What is remembered of batches, so that none is sent twice, and what is told of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class BatchItem(NamedTuple):
    """A question of a batch, and what it can cost at the most, in tokens."""

    key: str
    n_prompt_tokens: int
    n_answer_tokens: int


class SentBatch(Protocol):
    """How far a batch has come."""

    @property
    def n_requests(self) -> int: ...
    @property
    def file_id(self) -> str | None:
        """Its questions, at the provider; None: they are not there yet."""

    @property
    def batch_id(self) -> str | None:
        """The provider's name for it; None: it is not known whether it was created."""


class BatchBook(Protocol):
    """Batches by the name that they were given before they were sent; `stores/batches.py` keeps
    them in sqlite. All is on disk when a call returns."""

    def intend(self, intent: str, address: str, model: str, items: Iterable[BatchItem]) -> None:
        """Before anything is sent: these questions will be a batch of this name."""

    def note_file(self, intent: str, file_id: str) -> None:
        """The questions are at the provider."""

    def note_batch(
        self, intent: str, batch_id: str, status: str, *, n_done: int, n_failed: int
    ) -> None:
        """The batch is there, and has come so far."""

    def drop(self, intent: str) -> None:
        """It will not come about: its questions are nobody's again."""

    def read(self, intent: str) -> SentBatch:
        """KeyError for one that is not there."""

    def holds(self, key: str) -> bool:
        """Whether the question was sent, or has its answer, and that was not taken."""

    def intent_of(self, key: str) -> str | None:
        """The batch that a question was sent with; None: it was not, or was answered."""

    def keep(self, intent: str, key: str, answer: str) -> None:
        """The answer to a question of the batch, until it is forgotten; a second one is ignored."""

    def end(self, intent: str) -> list[str]:
        """Nothing more will come: the questions without an answer, which are nobody's again."""

    def answer(self, key: str) -> str | None:
        """None: there is none, or it was forgotten."""

    def forget(self, key: str) -> None:
        """The answer was taken."""


@dataclass(frozen=True, slots=True)
class BatchNews:
    """How a batch is doing, for whoever watches."""

    batch_id: str
    status: str
    """In the provider's words: validating, in_progress, finalizing, completed, expired, …"""
    n_requests: int
    n_done: int
    n_failed: int
    is_over: bool = False
    """Its answers have been read."""
    n_unanswered: int = 0
    """Of one that is over: requests that the provider says nothing of."""

    def sentence(self) -> str:
        """One line for a person."""
        failed = f", {self.n_failed:,} failed" if self.n_failed else ""
        silent = f", {self.n_unanswered:,} without an answer" if self.n_unanswered else ""
        return (
            f"{self.batch_id} {self.status}: {self.n_done:,} of {self.n_requests:,} requests "
            f"done{failed}{silent}"
        )
