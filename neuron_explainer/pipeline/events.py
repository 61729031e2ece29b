"""What a running stage tells whoever watches; the command line draws it, a job may log it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from neuron_explainer.collector.memory import MemoryPlan
from neuron_explainer.llm.batch_book import BatchNews
from neuron_explainer.records.cost import UnitCost
from neuron_explainer.records.unit_result import UnitResult


@dataclass(frozen=True, slots=True)
class StageStarted:
    stage: str
    total: int
    unit: str
    """What is counted: tokens, neurons."""


@dataclass(frozen=True, slots=True)
class StageAdvanced:
    stage: str
    n_done: int
    """So far."""


@dataclass(frozen=True, slots=True)
class StageFinished:
    stage: str
    summary: str
    """One line for a person."""


@dataclass(frozen=True, slots=True)
class MemoryPlanned:
    plan: MemoryPlan
    """Of the collection that is about to start."""


@dataclass(frozen=True, slots=True)
class UnitExplained:
    result: UnitResult
    is_preview: bool = False


@dataclass(frozen=True, slots=True)
class MoneySpent:
    total: UnitCost
    """Of all that the run has asked of language models."""


@dataclass(frozen=True, slots=True)
class BatchAdvanced:
    batch: BatchNews
    """How a batch is doing, whenever it was looked at."""


@dataclass(frozen=True, slots=True)
class Noted:
    subject: str
    """One word: what the line is about."""
    text: str
    """One line for a person."""


@dataclass(frozen=True, slots=True)
class ReportWritten:
    path: Path
    is_preview: bool = False
    is_final: bool = False


Event = (
    StageStarted
    | StageAdvanced
    | StageFinished
    | MemoryPlanned
    | UnitExplained
    | MoneySpent
    | BatchAdvanced
    | Noted
    | ReportWritten
)
Listener = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """The listener that does not listen."""
