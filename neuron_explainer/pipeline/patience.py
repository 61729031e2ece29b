"""How long a stage goes on when language models give no answer, and what it says of a unit then."""

from __future__ import annotations

from neuron_explainer.errors import BadRequest, LLMError

MOST_FAILURES = 16
"""So many units in a row without an answer: nobody is there, and the rest is not tried."""
MOST_FIRST_FAILURES = 3
"""The same where no unit has had an answer yet: something in the request is wrong."""


def failure_reason(error: LLMError) -> str:
    """Why a unit has no result for now."""
    kind = "request not taken" if isinstance(error, BadRequest) else "no answer"
    return f"{kind}: {error}"


class Patience:
    """Ends the stage when unit after unit gets no answer."""

    def __init__(self, *, has_seen_answers: bool) -> None:
        self._has_seen_answers = has_seen_answers
        self._n_failed = 0

    def note(self, error: LLMError | None) -> None:
        """Raises the error of a unit when it is one too many in a row; None: the unit is done."""
        if error is None:
            self._has_seen_answers = True
            self._n_failed = 0
            return
        self._n_failed += 1
        if self._n_failed >= (MOST_FAILURES if self._has_seen_answers else MOST_FIRST_FAILURES):
            raise error
