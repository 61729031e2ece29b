"""One finding of `doctor`: what was looked at, what was found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the table."""

    name: str
    status: Status
    """`note`: it works, and is worth knowing; `problem`: something fails, or will."""
    found: str
    todo: str | None = None
    """None where all is well."""


def ok(name: str, found: str) -> Check:
    return Check(name, "ok", found)


def note(name: str, found: str, todo: str) -> Check:
    return Check(name, "note", found, todo)


def problem(name: str, found: str, todo: str) -> Check:
    return Check(name, "problem", found, todo)


def first_line(error: BaseException) -> str:
    """`TimeoutError: the read timed out`"""
    text = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def as_size(n_bytes: int) -> str:
    """`512 MB`, `23.5 GB`; powers of ten, as disks are sold."""
    if n_bytes < 1e9:
        return f"{n_bytes / 1e6:.0f} MB"
    return f"{n_bytes / 1e9:,.1f} GB"
