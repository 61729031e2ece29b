"""What a search for patterns asks of the subject, and how much it may ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Question(NamedTuple):
    """What does the unit do at the end of a text?"""

    ids: tuple[int, ...]
    n_expected: int = 0
    """Tokens wanted that the subject expects next."""
    n_shared: int = 0
    """Of the first tokens, those that questions asked beside it begin with as well: read once."""

    @property
    def prefix(self) -> tuple[int, ...]:
        """What is shared."""
        return self.ids[: self.n_shared]


class Answer(NamedTuple):
    activation: float | None
    """None where the next tokens were asked for."""
    expected: tuple[int, ...] = ()
    """The most probable first."""


def count_tokens(questions: Sequence[Question]) -> int:
    """Of forward passes."""
    shared = {question.prefix for question in questions}
    return sum(map(len, shared)) + sum(len(q.ids) - q.n_shared for q in questions)


@dataclass(slots=True)
class Budget:
    """Tokens of forward passes."""

    left: int
    is_cut_short: bool = False
    spent: int = 0

    def take(self, questions: Sequence[Question]) -> bool:
        """Whether there is room for them; they count as asked then."""
        n_tokens = count_tokens(questions)
        if n_tokens > self.left:
            self.is_cut_short = True
            return False
        self.left -= n_tokens
        self.spent += n_tokens
        return True
