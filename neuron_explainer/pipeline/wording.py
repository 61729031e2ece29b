"""Times, rates and counts as a person reads them."""

from __future__ import annotations


def format_seconds(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`, `2.1 days`"""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def format_rate(a_second: float, unit: str) -> str:
    """`4,548 tokens/s`, `1 neuron/min`, `3.2 neurons/h`; unit: of several."""
    if a_second >= 1:
        number, time = f"{a_second:,.0f}", "s"
    elif a_second * 60 >= 1:
        number, time = f"{a_second * 60:.0f}", "min"
    else:
        number, time = f"{a_second * 3600:.1f}", "h"
    return f"{number} {unit.removesuffix('s') if number == '1' else unit}/{time}"


def format_count(n: int, noun: str) -> str:
    """`1 file`, `3,072 files`"""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
