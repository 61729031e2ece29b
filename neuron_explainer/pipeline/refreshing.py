"""Keeps the page up to date while units are being explained, at a small share of the time."""

from __future__ import annotations

import time
from collections.abc import Callable

from neuron_explainer.pipeline.events import Event, Listener, UnitExplained

EVERY_S = 30.0
MAX_SHARE = 0.05


class Refreshing:
    """Passes events on, and after a unit writes the page if that is due again."""

    def __init__(
        self, write: Callable[[], None], listen: Listener, now: Callable[[], float] = time.monotonic
    ) -> None:
        """write: the page; it may take at most `MAX_SHARE` of the time. now: in seconds."""
        self._write = write
        self._listen = listen
        self._now = now
        self._due = now() + EVERY_S

    def __call__(self, event: Event) -> None:
        self._listen(event)
        if not isinstance(event, UnitExplained) or self._now() < self._due:
            return
        started = self._now()
        self._write()
        ended = self._now()
        self._due = ended + max(EVERY_S, (ended - started) / MAX_SHARE)
