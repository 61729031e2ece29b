"""What the routes that ask hooks share: a source with its hooks, and how a page is answered."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from starlette.responses import Response

from neuron_explainer.errors import (
    BudgetExceeded,
    CannotExplain,
    NeuronExplainerError,
    UnitNotFound,
    UsageError,
)
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.viewer.hooks import Hooks
from neuron_explainer.viewer.links import Links
from neuron_explainer.viewer.sources import ViewSource

MAX_CHARS = 20_000
"""Of a text that is typed in."""


class UnitLine(NamedTuple):
    """What the current method says of a unit, in a line."""

    text: str | None
    value: float | None
    """The headline score."""
    reason: str | None
    """Why there is no text, or no score; None: there are both."""


@dataclass(frozen=True, slots=True)
class Served:
    """One source."""

    source: ViewSource
    hooks: Hooks
    links: Links
    look_up: Callable[[Sequence[NeuronId]], Mapping[NeuronId, UnitLine]]
    """A unit without a result is not in it."""
    explained: Callable[[], Collection[NeuronId]]
    """The units that the current method explains."""


Find = Callable[[str | None], Served]
"""By the key in an address, None: the first source; HTTPException 404 for one that is not there."""


class Show(Protocol):
    """Answers with a page, as all pages of the viewer are answered."""

    def __call__(
        self, served: Served, template: str, here: str, status: int = 200, **context: object
    ) -> Response:
        """here: the page's name in the navigation."""


def prefixes() -> tuple[str, str]:
    """Of every address: that of the first source, and that of any."""
    return "", "/s/{key}"


def status_of(error: NeuronExplainerError) -> int:
    """HTTP's number for what went wrong."""
    match error:
        case UnitNotFound():
            return 404
        case UsageError() | CannotExplain():
            return 422
        case BudgetExceeded():
            return 402
    return 503


def require_text(text: str, what: str, *, as_it_is: bool = False) -> str:
    """Without the spaces around it, unless they matter; UsageError for one that is too long, empty
    or not Unicode.
    """
    text = text if as_it_is else text.strip()
    if not text.strip():
        raise UsageError(f"the {what} is empty; write some words")
    if len(text) > MAX_CHARS:
        raise UsageError(f"the {what} has {len(text):,} characters; at most {MAX_CHARS:,} are read")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"the {what} holds half a character (a surrogate)") from error
    return text
