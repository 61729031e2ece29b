"""How the command line shows a run while it goes on: a bar a stage, and a line an event."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from neuron_explainer.cli_display import format_score
from neuron_explainer.llm.batch_book import BatchNews
from neuron_explainer.pipeline.events import (
    BatchAdvanced,
    Event,
    MemoryPlanned,
    MoneySpent,
    Noted,
    ReportWritten,
    StageAdvanced,
    StageFinished,
    StageStarted,
    UnitExplained,
)
from neuron_explainer.pipeline.wording import format_rate
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.viewer.display import printable

N_FIRST_SHOWN = 3
SPEED_PERIOD_S = 600.0
"""Time that a rate is taken over: a model on this machine may need minutes for a neuron."""


class RateColumn(TextColumn):
    """Items a second, or a minute when they are slow."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields.get("unit", "")
        return Text("" if not speed else format_rate(speed, unit), style="progress.data.speed")


class ProgressDisplay:
    """A listener that draws a bar a stage, the first neurons, and where the page is."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tasks: dict[str, TaskID] = {}
        self._n_shown = 0
        self._stage = ""
        self._batches: dict[str, BatchNews] = {}
        """Those that are under way, by their id."""
        self._progress = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            RateColumn(),
            TimeRemainingColumn(compact=True),
            console=console,
            refresh_per_second=4,
            speed_estimate_period=SPEED_PERIOD_S,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._progress.stop()
        if kind is KeyboardInterrupt:
            for batch in self._batches.values():
                line = f"{batch.sentence()}; it goes on at the provider, and the same command"
                self._console.print(f"{escape(line)} fetches it", soft_wrap=True)

    def __call__(self, event: Event) -> None:
        match event:
            case StageStarted(stage, total, unit):
                self._stage = stage
                self._tasks[stage] = self._progress.add_task(stage, total=total, unit=unit)
            case StageAdvanced(stage, n_done):
                self._progress.update(self._tasks[stage], completed=n_done)
            case StageFinished(stage, summary):
                task = self._progress.tasks[self._tasks[stage]]
                self._progress.update(task.id, completed=task.total)
                self._console.print(f"[dim]{stage}:[/] {escape(summary)}")
            case MemoryPlanned(plan):
                self._console.print(f"[dim]memory:[/] {plan.sentence()}")
            case UnitExplained(result, is_preview):
                self._show_first(result, is_preview)
            case MoneySpent(total) if total.cost_picousd:
                self._progress.update(
                    self._progress.task_ids[-1], description=f"{self._stage} ${total.cost_usd:,.4f}"
                )
            case BatchAdvanced(batch):
                self._show_batch(batch)
            case Noted(subject, text):
                self._console.print(f"[dim]{escape(subject)}:[/] {escape(text)}", soft_wrap=True)
            case ReportWritten(path, is_preview, is_final):
                kind = "first" if is_preview else "final" if is_final else "growing"
                self._console.print(f"[dim]{kind} report:[/] {escape(str(path))}")

    def _show_batch(self, batch: BatchNews) -> None:
        """A line when it is new; then how far it is, beside the bar."""
        if batch.is_over:
            self._batches.pop(batch.batch_id, None)
        else:
            if batch.batch_id not in self._batches:
                self._console.print(f"[dim]batch:[/] {escape(batch.sentence())}", soft_wrap=True)
            self._batches[batch.batch_id] = batch
        n_done = sum(each.n_done + each.n_failed for each in self._batches.values())
        n_requests = sum(each.n_requests for each in self._batches.values())
        waits = f" · batch {n_done:,}/{n_requests:,}" if self._batches else ""
        self._progress.update(self._progress.task_ids[-1], description=f"{self._stage}{waits}")

    def _show_first(self, result: UnitResult, is_preview: bool) -> None:
        if self._n_shown >= N_FIRST_SHOWN or result.text is None:
            return
        self._n_shown += 1
        note = "  [dim](from a little of the text)[/]" if is_preview else ""
        self._console.print(
            f"[bold]{result.neuron_id}[/]  {escape(printable(result.text))}  "
            f"[cyan]{format_score(result.score)}[/]{note}"
        )
