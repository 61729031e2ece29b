"""What was asked of language models for one unit, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass

PICOUSD = 10**12
"""In one US dollar: a price a million tokens is a whole number of these a token."""


@dataclass(frozen=True, slots=True)
class UnitCost:
    """Sums over all requests that were answered; an answer from the cache is in none of them."""

    n_requests: int = 0
    n_prompt_tokens: int = 0
    n_cached_tokens: int = 0
    """Of the prompts, read from the server's cache."""
    n_completion_tokens: int = 0
    cost_picousd: int | None = 0
    """None: some of it has no known price."""

    @property
    def cost_usd(self) -> float | None:
        return None if self.cost_picousd is None else self.cost_picousd / PICOUSD

    def sentence(self) -> str:
        """`1,050 requests, 2.10 M tokens read (1.80 M cached), 31.5 k written, $0.4200`"""
        dollars = "price unknown" if self.cost_usd is None else f"${self.cost_usd:,.4f}"
        return (
            f"{self.n_requests:,} requests, {_short(self.n_prompt_tokens)} tokens read "
            f"({_short(self.n_cached_tokens)} cached), {_short(self.n_completion_tokens)} written, "
            f"{dollars}"
        )

    def __add__(self, other: UnitCost) -> UnitCost:
        costs = (self.cost_picousd, other.cost_picousd)
        return UnitCost(
            self.n_requests + other.n_requests,
            self.n_prompt_tokens + other.n_prompt_tokens,
            self.n_cached_tokens + other.n_cached_tokens,
            self.n_completion_tokens + other.n_completion_tokens,
            None if None in costs else sum(c for c in costs if c is not None),
        )


def _short(n: int) -> str:
    if n < 10_000:
        return f"{n:,}"
    return f"{n / 1e3:.1f} k" if n < 1_000_000 else f"{n / 1e6:,.2f} M"
