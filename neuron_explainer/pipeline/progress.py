"""How far a run has come, in a file that a second terminal reads while the run goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from neuron_explainer.errors import StoreError
from neuron_explainer.pipeline.events import (
    Event,
    Listener,
    MoneySpent,
    StageAdvanced,
    StageFinished,
    StageStarted,
)
from neuron_explainer.stores import atomic

EVERY_S = 1.0
"""The file is written so seldom at least, and when a stage begins or ends."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Of the stage that was under way last."""

    stage: str
    unit: str
    """What is counted: tokens, neurons."""
    n_total: int
    n_before: int
    """Done before the process came to this stage."""
    n_done: int
    started_s: float
    """`time.time()` when the stage began in this process."""
    updated_s: float
    spent_usd: float | None = 0.0
    """On language models; None: some of it has no known price."""

    @property
    def rate(self) -> float | None:
        """Done a second since the stage began; None before anything is."""
        took_s, n_done = self.updated_s - self.started_s, self.n_done - self.n_before
        return n_done / took_s if took_s > 0 and n_done > 0 else None

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest will take at this rate; None where it is not known."""
        return None if self.rate is None else (self.n_total - self.n_done) / self.rate


class ProgressFile:
    """A listener that passes everything on and keeps the file."""

    def __init__(
        self, path: Path, listen: Listener, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._listen = listen
        self._clock = clock
        self._progress: Progress | None = None
        self._written_s = float("-inf")

    def __call__(self, event: Event) -> None:
        now = self._clock()
        match event:
            case StageStarted(stage, total, unit):
                self._progress = Progress(stage, unit, total, 0, 0, now, now)
                self._write(now)
            case StageAdvanced(stage, n_done) if self._is_at(stage):
                self._advance(n_done, now)
            case StageFinished(stage) if self._is_at(stage):
                self._write(now)
            case MoneySpent(total) if self._progress is not None:
                self._progress = replace(self._progress, spent_usd=total.cost_usd)
        self._listen(event)

    def _is_at(self, stage: str) -> bool:
        return self._progress is not None and self._progress.stage == stage

    def _advance(self, n_done: int, now: float) -> None:
        assert self._progress is not None
        is_first = self._progress.updated_s == self._progress.started_s
        n_before = n_done if is_first and self._progress.n_done == 0 else self._progress.n_before
        self._progress = replace(self._progress, n_done=n_done, n_before=n_before, updated_s=now)
        if now - self._written_s >= EVERY_S:
            self._write(now)

    def _write(self, now: float) -> None:
        assert self._progress is not None
        atomic.write_text(self._path, json.dumps(asdict(self._progress)) + "\n")
        self._written_s = now


def read_progress(path: Path) -> Progress | None:
    """None when no run has begun; StoreError for a file that holds anything else."""
    try:
        raw: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return Progress(**raw)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise StoreError(f"{path} is damaged; it is made anew when the run goes on") from error
