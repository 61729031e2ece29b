"""What `doctor` prints: a row a check, and below it what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from neuron_explainer.pipeline.check import Check

STATUS_COLOURS = {"ok": "green", "note": "yellow", "problem": "bold red"}


def print_checks(console: Console, checks: Sequence[Check]) -> None:
    """A row a check; what to do stands below it, unbroken, so that it can be copied."""
    widths = len("problem"), max(len(check.name) for check in checks)
    for check in checks:
        colour = STATUS_COLOURS[check.status]
        row = Table.grid(
            *(Column(width=width) for width in widths), Column(overflow="fold"), padding=(0, 2)
        )
        row.add_row(Text(check.status, colour), check.name, Text(check.found))
        console.print(row)
        if check.todo is not None:
            console.print(Text(f"{'':{widths[0]}}  → {check.todo}", colour), soft_wrap=True)
    n_by_status = Counter[str](check.status for check in checks)
    counts = ", ".join(f"{n_by_status[status]} {status}" for status in STATUS_COLOURS)
    console.print(f"\n{counts}", highlight=False)
