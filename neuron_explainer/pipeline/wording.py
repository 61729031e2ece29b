"""Times and rates as a person reads them."""

from __future__ import annotations


def format_seconds(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`, `2.1 days`"""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def format_rate(a_second: float, unit: str) -> str:
    """`4,548 tokens/s`, `12 neurons/min`, `3.2 neurons/h`"""
    if a_second >= 1:
        return f"{a_second:,.0f} {unit}/s"
    if a_second * 60 >= 1:
        return f"{a_second * 60:.0f} {unit}/min"
    return f"{a_second * 3600:.1f} {unit}/h"
