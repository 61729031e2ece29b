"""Every error this package raises on purpose.

    NeuronExplainerError
    ├── UsageError              the command or a flag is wrong; exit code 2
    ├── SubjectError            the subject model cannot be loaded, or gave non-finite activations
    ├── CorpusError             the text cannot be read, or there is too little of it
    ├── StoreError              a run folder lacks something, or holds something damaged
    │   ├── UnitNotFound        the layer or the unit is not in the store
    │   └── SpecMismatch        the folder was made with other choices
    ├── RecordFormatError       a file does not follow the format it should
    ├── LLMError                a language model gave no answer
    │   ├── RateLimited         too many requests or tokens a minute (retryable)
    │   ├── ServerFailed        the server or the connection broke (retryable)
    │   ├── TimedOut            no answer in time (retryable)
    │   ├── BadRequest          the server does not take the request
    │   ├── AuthFailed          the key is missing, wrong, or without credit
    │   └── Refused             the model or a filter declined to answer
    ├── ParseError              an answer of a language model is not what was asked for
    ├── BudgetExceeded          the next request could cost more than is left
    ├── CannotExplain           no explanation exists for this unit, and why
    └── CannotSimulate          this simulator cannot work from this explanation, and why

The message is one line that says what is wrong and what to do about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neuron_explainer.llm.messages import Usage


class NeuronExplainerError(Exception):
    """Base of all: catch this to tell the user, let the rest show as the bugs they are."""


class UsageError(NeuronExplainerError):
    """A flag or an argument that cannot be meant; the command line exits with 2."""


class SubjectError(NeuronExplainerError):
    """The subject model cannot be loaded or read."""


class CorpusError(NeuronExplainerError):
    """The corpus cannot be read, or holds too little text for what was asked."""


class StoreError(NeuronExplainerError):
    """A run folder lacks something that the command needs, or holds something damaged."""


class UnitNotFound(StoreError):
    """The layer or the unit is not in the store."""


class SpecMismatch(StoreError):
    """The run folder was made with other choices than the ones given now."""


class RecordFormatError(NeuronExplainerError):
    """A file that does not follow its format."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class WorkerLost(NeuronExplainerError):
    """A worker process ended by itself, mostly for want of memory."""


class LLMError(NeuronExplainerError):
    """A language model gave no answer."""

    retryable = False
    is_overload = False
    """The server has more to do than it can; fewer requests at once may help."""

    def __init__(self, message: str, *, usage: Usage | None = None, may_cost: bool = False) -> None:
        super().__init__(message)
        self.usage = usage
        """What the server counted all the same; None: it does not say."""
        self.may_cost = may_cost
        """The server may have charged for it without saying what: its answer never came, say."""


class RateLimited(LLMError):
    """Too many requests or tokens a minute."""

    retryable = True
    is_overload = True

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """As the server asks; None: it does not say."""


class ServerFailed(LLMError):
    """The server, or the connection to it, broke; or its answer was none."""

    retryable = True

    def __init__(
        self,
        message: str,
        *,
        usage: Usage | None = None,
        may_cost: bool = False,
        is_overload: bool = False,
    ) -> None:
        super().__init__(message, usage=usage, may_cost=may_cost)
        self.is_overload = is_overload


class TimedOut(LLMError):
    """No answer in time."""

    retryable = True
    is_overload = True


class BadRequest(LLMError):
    """The server does not take the request."""


class AuthFailed(LLMError):
    """The key is missing or wrong, may not use the model, or has no credit left."""


class Refused(LLMError):
    """The model, or a filter before or behind it, declined to answer."""


class ParseError(NeuronExplainerError):
    """An answer of a language model that cannot be read as what was asked for."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"{reason}: {text[:80]!r}")
        self.text = text
        self.reason = reason


class BudgetExceeded(NeuronExplainerError):
    """The next request could cost more than the budget has left; nothing more is asked."""

    def __init__(self, spent_usd: float, limit_usd: float) -> None:
        super().__init__(
            f"the budget of ${limit_usd:,.2f} is used up: ${spent_usd:,.4f} is spent and the next "
            "request may not fit; the same command with a larger --budget-usd goes on from here"
        )
        self.spent_usd = spent_usd
        self.limit_usd = limit_usd


class CannotExplain(NeuronExplainerError):
    """There is nothing to explain in this unit; the reason is recorded in place of a text."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class CannotSimulate(NeuronExplainerError):
    """This simulator cannot predict from this explanation; the reason is recorded."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
